"""Experiments leave the store: as data frames, tables in files, and Optuna studies."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from airflow.cli import cli_parser

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.records import Observation, ProposedTrial, TrialEnd
from airflow_provider_axtx.core.records import Proposal as Proposed
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import begin

SPEC: dict[str, Any] = {
    "name": "net",
    "parameters": [
        {"type": "range", "name": "lr", "parameter_type": "float", "bounds": [1e-4, 1.0], "scaling": "log"},
        {"type": "range", "name": "depth", "parameter_type": "int", "bounds": [2, 8], "step_size": 2},
        {"type": "choice", "name": "kernel", "parameter_type": "str", "values": ["rbf", "poly"]},
        {"type": "derived", "name": "half", "parameter_type": "float", "expression_str": "0.5*depth"},
    ],
    "objective": "-loss",
    "outcome_constraints": ["memory <= 8"],
}
PARAMETERS = (
    {"lr": 0.01, "depth": 4, "kernel": "rbf", "half": 2.0},
    {"lr": 0.1, "depth": 2, "kernel": "poly", "half": 1.0},
)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentStore:
    """A store with an experiment: a completed trial with a curve, a failed one, one that waits."""
    store = ExperimentStore(f"sqlite:///{tmp_path / 'net.db'}")
    store.create("net", ExperimentSpec.load(SPEC).to_json())
    trials = tuple(ProposedTrial(f"{i}_0", dict(PARAMETERS[i % 2]), "Sobol", {}) for i in range(3))
    store.add_trials("net", Proposed(trials, None), task_key="t", first_slot=0, expected_version=0)
    attempts = [begin(store, "net", index) for index in range(2)]
    curve = [Observation(0, "loss", 1.0 / (1 + step), step=float(step)) for step in range(3)]
    finals = [Observation(0, "loss", 0.25, sem=0.1), Observation(0, "memory", 9.0)]
    ends = (TrialEnd("COMPLETED", (*curve, *finals)), TrialEnd("FAILED"))
    for attempt, state, end in zip(attempts, ("SUCCEEDED", "FAILED"), ends, strict=True):
        store.end_attempt(attempt, AppObservation(state, "exit 1"), end)
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", json.dumps({"conn_type": "ax", "schema": str(tmp_path / "net.db")}))
    return store


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")  # which the command sets, and the test has to restore
    args = cli_parser.get_parser().parse_args(["ax", "export", "net", *arguments])
    args.func(args)


@pytest.mark.usefixtures("net")
def test_frames_hold_trials_attempts_and_curves() -> None:
    trials, attempts, curves = (AxHook().get_frame("net", table) for table in ("trials", "attempts", "curves"))
    assert list(trials["parameters.lr"]) == [0.01, 0.1, 0.01]
    assert list(trials["metrics.loss"].dropna()) == [0.25]
    assert list(trials["sems.loss"].dropna()) == [0.1]
    assert list(trials["trial_status"]) == ["COMPLETED", "FAILED", "CANDIDATE"]
    assert list(trials["attempts"]) == [1, 1, 0]
    assert list(attempts["app_state"]) == ["SUCCEEDED", "FAILED"]
    assert str(attempts["requested_at"].dt.tz) == "UTC"
    assert curves[["metric", "step", "mean"]].values.tolist() == [["loss", s, 1 / (1 + s)] for s in (0.0, 1.0, 2.0)]


def test_frames_without_rows_have_their_columns(net: ExperimentStore) -> None:
    net.create("empty", {**ExperimentSpec.load(SPEC).to_json(), "name": "empty"})
    assert {"trial_index", "trial_status"} <= set(AxHook().get_frame("empty"))
    assert {"app_handle", "requested_at", "dag_id"} <= set(AxHook().get_frame("empty", "attempts"))


@pytest.mark.usefixtures("net")
def test_tables_are_written_as_json_and_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(monkeypatch, str(tmp_path / "net.json"), "--format", "json")
    found = json.loads((tmp_path / "net.json").read_text())
    assert found["experiment"]["objective"] == "-loss"
    assert [len(found[table]) for table in ("trials", "attempts", "curves")] == [3, 2, 3]
    assert found["attempts"][0]["requested_at"].endswith("+00:00")
    for table in ("trials", "attempts", "curves"):
        export(monkeypatch, str(tmp_path / "net.csv"), "--format", "csv", "--table", table)
        with (tmp_path / "net.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        shown = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in found[table]]
        assert rows == shown
    assert sorted(path.name for path in tmp_path.glob("*net.[cj]*")) == ["net.csv", "net.json"]


@pytest.mark.usefixtures("net")
def test_parquet_names_the_package_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "fastparquet", None)
    with pytest.raises(SystemExit, match="pip install pyarrow"):
        export(monkeypatch, str(tmp_path / "net.parquet"), "--format", "parquet")
    assert not list(tmp_path.glob("*parquet*"))


@pytest.mark.usefixtures("net")
def test_a_study_opens_in_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(monkeypatch, str(tmp_path / "net.optuna"), "--format", "optuna")
    study = optuna.load_study(study_name="net", storage=f"sqlite:///{tmp_path / 'net.optuna'}")
    assert study.direction.name == "MINIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "WAITING"]
    done, failed, _ = study.trials
    assert (done.value, done.intermediate_values) == (0.25, {0: 1.0, 1: 0.5, 2: pytest.approx(1 / 3)})
    assert done.params == {"lr": 0.01, "depth": 4, "kernel": "rbf"}
    assert done.distributions == {
        "lr": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "depth": optuna.distributions.IntDistribution(2, 8, step=2),
        "kernel": optuna.distributions.CategoricalDistribution(("rbf", "poly")),
    }
    assert done.constraints == {"memory <= 8": 1.0}
    assert (done.user_attrs["half"], done.user_attrs["memory"], done.user_attrs["arm_name"]) == (2.0, 9.0, "0_0")
    assert failed.user_attrs["reason"] == "exit 1"
    assert done.duration is not None


def study_of(store: ExperimentStore, spec: dict[str, Any], path: Path) -> optuna.Study:
    """Return the study of an experiment whose definition is another one by now."""
    from airflow_provider_axtx.integrations.optuna_study import write_study

    changed = replace(store.snapshot("net"), spec=ExperimentSpec.load(spec).to_json())
    write_study(changed, store.attempts("net"), path)
    return optuna.load_study(study_name="net", storage=f"sqlite:///{path}")


def test_a_study_holds_trials_of_before_the_definition_was_changed(net: ExperimentStore, tmp_path: Path) -> None:
    lr, depth, kernel, half = SPEC["parameters"]
    narrower = [
        {**lr, "bounds": [0.5, 2.0]},
        {**depth, "bounds": [5, 8], "step_size": 3},
        {**kernel, "values": ["poly", "cosine"]},
        half,
    ]
    study = study_of(net, {**SPEC, "parameters": narrower}, tmp_path / "narrow.optuna")
    assert [trial.params for trial in study.trials[:2]] == [
        {"lr": 0.01, "depth": 4, "kernel": "rbf"},
        {"lr": 0.1, "depth": 2, "kernel": "poly"},
    ]
    assert study.trials[0].distributions == {
        "lr": optuna.distributions.FloatDistribution(0.01, 2.0, log=True),
        "depth": optuna.distributions.IntDistribution(2, 8),
        "kernel": optuna.distributions.CategoricalDistribution(("poly", "cosine", "rbf")),
    }
    stepped = [{**lr, "scaling": "linear", "bounds": [0.1, 1.0], "step_size": 0.45}, depth, kernel, half]
    study = study_of(net, {**SPEC, "parameters": stepped}, tmp_path / "stepped.optuna")
    assert study.trials[0].distributions["lr"] == optuna.distributions.FloatDistribution(0.01, 1.0)
    grid = [{**lr, "scaling": "linear", "bounds": [0.1, 1.0], "step_size": 0.09}, depth, kernel, half]
    study = study_of(net, {**SPEC, "parameters": grid}, tmp_path / "grid.optuna")
    assert study.trials[0].distributions["lr"] == optuna.distributions.FloatDistribution(0.01, 1.0, step=0.09)


@pytest.mark.parametrize(("objective", "name"), [("-seconds", "seconds"), ("loss, -seconds", "several")])
def test_a_trial_without_a_value_of_the_objective_of_today_has_failed(
    net: ExperimentStore, tmp_path: Path, objective: str, name: str
) -> None:
    study = study_of(net, {**SPEC, "objective": objective}, tmp_path / f"{name}.optuna")
    done = study.trials[0]
    assert (done.state.name, done.values) == ("FAIL", None)
    assert done.user_attrs["reason"] == f"it has no value of the objective {objective}"
    assert {name: done.user_attrs[name] for name in ("loss", "memory", "trial_status")} == {
        "loss": 0.25,
        "memory": 9.0,
        "trial_status": "COMPLETED",
    }


def test_several_objectives_are_several_directions(net: ExperimentStore, tmp_path: Path) -> None:
    from airflow_provider_axtx.integrations.optuna_study import write_study

    spec = {**SPEC, "objective": "loss + memory, -seconds", "name": "two", "outcome_constraints": []}
    net.create("two", ExperimentSpec.load(spec).to_json())
    trial = ProposedTrial("0_0", dict(PARAMETERS[0]), None, {}, origin="attached")
    results = {"loss": (1.0, None), "memory": (2.0, None), "seconds": (3.0, None)}
    with_results = ProposedTrial(**{**trial.__dict__, "results": results})
    net.add_trials("two", Proposed((with_results,), None), task_key="t", first_slot=0, expected_version=0)
    write_study(net.snapshot("two"), net.attempts("two"), tmp_path / "two.optuna")
    study = optuna.load_study(study_name="two", storage=f"sqlite:///{tmp_path / 'two.optuna'}")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.trials[0].values == [3.0, 3.0]
