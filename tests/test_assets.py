"""The asset scheme ``ax``, through Airflow's own registry of schemes."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.lineage import HookLineageCollector

from airflow_provider_axtx.assets import best_extra, experiment_asset, trial_extra
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.experiment import ExperimentSpec


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("digits", "ax://ax_default/digits"),
        ("Digits v1.2", "ax://ax_default/Digits%20v1.2"),
        ("from:ui@2026+a=b,c", "ax://ax_default/from:ui@2026+a=b,c"),
        ("größe", "ax://ax_default/gr%C3%B6%C3%9Fe"),
    ],
)
def test_an_experiments_asset_has_a_normalised_uri(name: str, uri: str) -> None:
    asset = experiment_asset(name)
    assert (asset.name, asset.uri, asset.normalized_uri) == (uri, uri, uri)


def test_the_connection_tells_stores_apart() -> None:
    assert experiment_asset("digits", ax_conn_id="ax_Team-2").uri == "ax://ax_Team-2/digits"


@pytest.mark.parametrize(
    "written",
    ["AX://ax_default/digits", "ax://ax_default/digits/", "ax://ax_default/%64igits", "ax://ax_default/digits#1"],
)
def test_airflow_normalises_uris_from_dag_files(written: str) -> None:
    assert Asset(uri=written).uri == "ax://ax_default/digits"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("ax://", "does not name an experiment"),
        ("ax:///digits", "does not name an experiment"),
        ("ax://ax_default", "does not name an experiment"),
        ("ax://ax_default/a/b", "does not name an experiment"),
        ("ax://ax_default/digits?x=1", "does not name an experiment"),
        ("ax://me@host/digits", "me@host"),
        ("ax://host:80/digits", "host:80"),
        ("ax://ax_default/a%2Fb", "'a/b'"),
        ("ax://ax_default/{{ run_id }}", "without a template"),
        (f"ax://ax_default/{'x' * 101}", "not usable as an experiment name"),
    ],
)
def test_a_uri_without_an_experiment_is_refused_when_the_dag_is_parsed(written: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match="Fix: ") as refused:
        Asset(uri=written)
    assert message in str(refused.value)


@pytest.mark.parametrize(("name", "conn"), [("{{ run_id }}", "ax_default"), ("", "ax_default"), ("digits", "a/b")])
def test_an_impossible_experiment_name_is_refused(name: str, conn: str) -> None:
    with pytest.raises(InvalidInputError, match="Fix: "):
        experiment_asset(name, ax_conn_id=conn)


def test_hooks_can_make_the_asset_by_its_scheme() -> None:
    made = HookLineageCollector().create_asset(
        scheme="ax", uri=None, name=None, group=None, asset_kwargs={"name": "digits"}, asset_extra={"a": 1}
    )
    assert made == experiment_asset("digits", extra={"a": 1})


def spec(objective: str) -> ExperimentSpec:
    return ExperimentSpec(
        name="e",
        parameters=[{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
        objective=objective,
    )


TRIAL: dict[str, Any] = {
    "trial_index": 3,
    "arm_name": "3_0",
    "parameters": {"x": 0.5},
    "metrics": {"loss": {"mean": 2.0, "sem": None}, "acc": {"mean": 0.9, "sem": 0.1}},
}


def test_an_events_extra_names_the_trial_and_the_value_of_its_objective() -> None:
    extra = trial_extra(spec("-loss"), TRIAL)
    assert extra == {
        "experiment": "e",
        "trial_index": 3,
        "arm_name": "3_0",
        "parameters": {"x": 0.5},
        "metrics": {"loss": 2.0, "acc": 0.9},
        "value": 2.0,
    }
    assert best_extra(spec("-loss"), [TRIAL]) == extra


def test_several_objectives_have_several_values_and_a_frontier() -> None:
    several = spec("acc, -loss")
    assert trial_extra(several, TRIAL)["value"] == {"acc": 0.9, "loss": 2.0}
    assert best_extra(several, [TRIAL, TRIAL]) == {"experiment": "e", "frontier": [trial_extra(several, TRIAL)] * 2}
