"""The links on a task's page."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_axtx import compat
from airflow_provider_axtx.links import AppLink, ExperimentLink, TrialLink, page_url, trial_of
from airflow_provider_axtx.spec.experiment import ExperimentSpec

X = {"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}
SPEC = {"name": "my exp", "parameters": [X], "objective": "acc"}
TRIAL = {"experiment": "my exp", "trial_index": 7, "arm_name": "7_0", "parameters": {"x": 0.5}}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"experiment_name": "my exp"}, ("my exp", None)),
        ({"experiment": SPEC}, ("my exp", None)),
        ({"experiment": json.dumps(SPEC)}, ("my exp", None)),
        ({"experiment": ExperimentSpec.load(SPEC)}, ("my exp", None)),
        ({"trial": TRIAL}, ("my exp", 7)),
        ({"trial": json.dumps(TRIAL)}, ("my exp", 7)),
        ({"run": TRIAL}, ("my exp", 7)),
        ({"run": None}, (None, None)),
        ({"trial": "not rendered"}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_trial_of_an_operator(arguments: dict[str, Any], expected: tuple[str | None, int | None]) -> None:
    assert trial_of(SimpleNamespace(**arguments)) == expected


@pytest.mark.parametrize(
    ("base_url", "version", "address"),
    [
        ("", (3, 3), "/plugin/experiments/axtx/"),
        ("https://host:8080", (3, 3), "https://host:8080/plugin/experiments/axtx/"),
        ("https://host/air/flow/", (3, 3), "https://host/air/flow/plugin/experiments/air/flow/axtx/"),
        ("", (3, 2), "/axtx/"),
        ("https://host/air/flow/", (3, 2), "https://host/air/flow/axtx/"),
    ],
)
def test_the_address_of_a_trial(
    base_url: str, version: tuple[int, int], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat, "AIRFLOW", version)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    expected = f"{address}?experiment=my+exp&trial=7"
    assert page_url("my exp", 7) == expected
    key: Any = None
    assert TrialLink().get_link(SimpleNamespace(run=TRIAL), ti_key=key) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("ax_conn_id", "expected"), [("ax_default", ""), ("team a", "&conn_id=team+a")])
def test_a_link_leads_to_the_store_of_its_task(ax_conn_id: str, expected: str) -> None:
    operator: Any = SimpleNamespace(run=TRIAL, ax_conn_id=ax_conn_id)
    key: Any = None
    assert TrialLink().get_link(operator, ti_key=key).endswith(f"?experiment=my+exp&trial=7{expected}")
    assert ExperimentLink().get_link(operator, ti_key=key).endswith(f"?experiment=my+exp{expected}")


def test_names_cannot_break_out_of_an_address() -> None:
    assert "experiment=%22%3E%3Cscript%3E%26trial%3D1" in page_url('"><script>&trial=1')


def test_a_link_to_something_unknown_is_empty() -> None:
    operator: Any = SimpleNamespace(experiment_name="e", app_url=None)
    key: Any = None
    assert ExperimentLink().get_link(operator, ti_key=key).endswith("?experiment=e")
    assert TrialLink().get_link(operator, ti_key=key) == ""
    assert AppLink().get_link(operator, ti_key=key) == ""
    operator.app_url = "https://console/job/1"
    assert AppLink().get_link(operator, ti_key=key) == "https://console/job/1"
