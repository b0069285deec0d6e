"""Attaching trials by hand: from objects, JSON, tables, another experiment; once, checked, with or without results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.operators.ax import (
    AxAttachTrialsOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.operators.conftest import BOOTH, Execute

MIXED: dict[str, Any] = {
    "name": "mixed",
    "parameters": [
        {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float", "step_size": 0.1},
        {"type": "range", "name": "n", "bounds": [1, 9], "parameter_type": "int"},
        {"type": "choice", "name": "kind", "values": ["a", "b"], "parameter_type": "str"},
        {"type": "derived", "name": "twice", "expression_str": "2 * n", "parameter_type": "float"},
    ],
    "parameter_constraints": ["n + 10*x <= 15"],
    "objective": "-loss",
    "outcome_constraints": ["latency <= 1.05*baseline"],
}
GOOD = {"x": 0.3, "n": 2, "kind": "a"}


def attach(execute: Execute, experiment: str, try_number: int = 1, **given: Any) -> list[dict[str, Any]]:
    operator = AxAttachTrialsOperator(task_id="attach", experiment_name=experiment, **given)
    return execute(operator, try_number=try_number)


@pytest.fixture
def mixed(execute: Execute) -> str:
    return execute(AxCreateExperimentOperator(task_id="create", experiment=MIXED))


def test_with_and_without_results_and_a_baseline(execute: Execute, mixed: str, store: ExperimentStore) -> None:
    given = [
        {"parameters": GOOD, "results": {"loss": 0.5, "latency/mean": 3.0, "latency/sem": 0.1}, "baseline": True},
        {"parameters": {"x": "0.7", "n": "3", "kind": "b", "twice": 6}},
        {"x": 0.0, "n": 1, "kind": "a"},
    ]
    for try_number in (1, 2):
        to_run = attach(execute, mixed, try_number, trials=given)
        assert [(t["trial_index"], t["parameters"]["n"]) for t in to_run] == [(1, 3), (2, 1)]
    trials = store.trials(mixed)
    assert [(t.status, t.origin, t.arm_name) for t in trials] == [
        ("COMPLETED", "baseline", "baseline"),
        ("CANDIDATE", "attached", "1_0"),
        ("CANDIDATE", "attached", "2_0"),
    ]
    assert trials[0].parameters == {**GOOD, "x": 0.3, "twice": 4.0}  # the step's plain decimal
    assert [(o.metric, o.mean, o.sem) for o in store.observations(mixed, 0)] == [
        ("latency", 3.0, 0.1),
        ("loss", 0.5, None),
    ]
    generated = execute(AxGenerateTrialsOperator(task_id="generate", experiment_name=mixed, n=1))
    assert generated[0]["trial_index"] == 3


@pytest.mark.parametrize(
    ("trial", "named"),
    [
        ({**GOOD, "x": 1.1}, "parameters.x: is out of bounds"),
        ({**GOOD, "x": 0.25}, "parameters.x: is between two steps"),
        ({**GOOD, "n": 2.5}, "parameters.n: is not of type int"),
        ({**GOOD, "n": True}, "parameters.n: is not of type int"),
        ({**GOOD, "kind": "c"}, "parameters.kind: is not one of"),
        ({**GOOD, "kin": "a"}, "parameters.kin: is not a parameter"),
        ({"x": 0.1, "n": 2}, "parameters.kind: is missing"),
        ({**GOOD, "twice": 5}, "parameters.twice: is not what it is derived from"),
        ({**GOOD, "x": 1.0, "n": 9}, "violates the parameter constraint"),
        ({"parameters": GOOD, "result": {}}, r"trials\[1\].result: unknown key"),
        ({"parameters": GOOD, "results": {"loss": 1.0}}, "'latency': was not reported"),
        ({"parameters": GOOD, "results": {"loss": "high", "latency": 1}}, "'loss': is not a finite number"),
        ({"parameters": GOOD, "baseline": "yes"}, "baseline must be true or false"),
        ({"parameters": [1]}, "parameters must be an object"),
    ],
)
def test_what_does_not_fit_is_refused_with_nothing_recorded(
    execute: Execute, mixed: str, store: ExperimentStore, trial: dict[str, Any], named: str
) -> None:
    with pytest.raises(AirflowFailException, match=named):
        attach(execute, mixed, trials=[GOOD, trial])
    assert store.trials(mixed) == []


def test_there_is_one_baseline(execute: Execute, mixed: str, store: ExperimentStore) -> None:
    baseline = {"parameters": GOOD, "baseline": True}
    with pytest.raises(AirflowFailException, match="Two trials"):
        attach(execute, mixed, trials=[baseline, baseline])
    attach(execute, mixed, trials=baseline)
    operator = AxAttachTrialsOperator(task_id="again", experiment_name=mixed, trials=baseline)
    with pytest.raises(AirflowFailException, match="has a baseline already"):
        execute(operator)
    assert len(store.trials(mixed)) == 1


def test_json_from_a_template(execute: Execute, mixed: str) -> None:
    (trial,) = attach(execute, mixed, trials='{"parameters": {"x": 0.1, "n": 1, "kind": "b"}}')
    assert trial["parameters"] == {"x": 0.1, "n": 1, "kind": "b", "twice": 2.0}
    with pytest.raises(AirflowFailException, match="not valid JSON"):
        execute(AxAttachTrialsOperator(task_id="bad", experiment_name=mixed, trials="[{"))


def test_a_table(execute: Execute, mixed: str, store: ExperimentStore, tmp_path: Path) -> None:
    path = tmp_path / "earlier.csv"
    path.write_text(
        "x,n,kind,loss,latency/mean,latency/sem,baseline\n0.5,4,a,0.25,10,0.5,yes\n0.2,2,b,,,,\n", encoding="utf-8-sig"
    )
    to_run = attach(execute, mixed, table=str(path))
    assert [t["trial_index"] for t in to_run] == [1]
    assert [t.origin for t in store.trials(mixed)] == ["baseline", "attached"]
    assert [o.mean for o in store.observations(mixed, 0)] == [10.0, 0.25]
    rows = [{"x": 0.1, "n": 1, "kind": "a", "los": 3}]
    with pytest.raises(AirflowFailException, match=r"table\[0\]: column 'los' names neither.*did you mean 'loss'"):
        execute(AxAttachTrialsOperator(task_id="bad", experiment_name=mixed, table=rows))
    with pytest.raises(AirflowFailException, match="cannot be read"):
        execute(AxAttachTrialsOperator(task_id="gone", experiment_name=mixed, table=str(tmp_path / "no.csv")))


def test_a_warm_start_takes_what_fits(execute: Execute, store: ExperimentStore) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    points = [{"x1": 1.0, "x2": 3.0}, {"x1": -9.0, "x2": 0.1}, {"x1": 0.5, "x2": 0.5}]
    results = [{"booth_eval/mean": 0.0, "booth_eval/sem": 1e-12}, {"booth_eval": 400.0}, {}]
    attach(execute, "booth", trials=[{"parameters": p, "results": r} for p, r in zip(points, results, strict=True)])
    narrow = [{**p, "bounds": [-5, 5]} for p in BOOTH["parameters"]]
    execute(AxCreateExperimentOperator(task_id="next", experiment={**BOOTH, "name": "next", "parameters": narrow}))
    assert attach(execute, "next", from_experiment="booth") == []
    (trial,) = store.trials("next")
    assert (trial.parameters, trial.status, trial.origin) == (points[0], "COMPLETED", "attached")
    assert [(o.metric, o.mean, o.sem) for o in store.observations("next", 0)] == [("booth_eval", 0.0, 1e-12)]


def test_the_baseline_of_the_definition_is_the_first_trial(execute: Execute, store: ExperimentStore) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment={**MIXED, "baseline": GOOD}))
    trials = execute(AxGenerateTrialsOperator(task_id="generate", experiment_name="mixed", n=3))
    assert [t["arm_name"] for t in trials] == ["baseline", "1_0", "2_0"]
    assert [t.origin for t in store.trials("mixed")] == ["baseline", "generated", "generated"]
    more = execute(AxGenerateTrialsOperator(task_id="more", experiment_name="mixed", n=1))
    assert more[0]["trial_index"] == 3


@pytest.mark.parametrize("given", [{}, {"trials": [], "table": []}])
def test_one_source_is_given(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="give one of trials, table, from_experiment"):
        AxAttachTrialsOperator(task_id="attach", experiment_name="x", **given)
