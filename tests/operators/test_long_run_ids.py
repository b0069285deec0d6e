"""``"booth-{{ run_id }}"`` with every run id that Airflow allows: up to 250 characters, ``~`` among them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.experiment_name import MAX_EXPERIMENT_NAME, fitted_name, is_experiment_name
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.links import ExperimentLink
from airflow_provider_axtx.operators.ax import (
    AxAttachTrialsOperator,
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator
from tests.operators.conftest import BOOTH, FakeTaskInstance

NAME = "booth-{{ run_id }}"
RUN_IDS = [
    "manual__2026-01-01T00:00:00.123456+00:00",
    "~a.b~c:d+e-f~",
    "r" * 94,
    "r" * 95,
    "r" * 250,
    f"{'long-' * 40}~{'x' * 40}",
]


def run(make: Any, run_id: str, **arguments: Any) -> Any:
    """Render and execute an operator as a task of the DAG run."""
    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        operator = make(task_id=make.__name__, **arguments)
    instance = FakeTaskInstance(operator.task_id, run_id=run_id)
    context: Any = {"ti": instance, "run_id": run_id, "dag": dag, "task": operator}
    operator.render_template_fields(context)
    with set_current_context(context):
        answer = operator.execute(context)
    link = ExperimentLink().get_link(operator, ti_key=instance)  # type: ignore[arg-type]
    return answer, parse_qs(urlsplit(link).query)["experiment"]


@pytest.mark.parametrize("run_id", RUN_IDS, ids=lambda one: f"{one[:12]}-{len(one)}")
def test_every_task_of_a_dag_run_finds_the_same_experiment(run_id: str) -> None:
    expected = fitted_name(f"booth-{run_id}")
    assert is_experiment_name(expected)
    name, linked = run(AxCreateExperimentOperator, run_id, experiment={**BOOTH, "name": NAME})
    assert (name, linked) == (expected, [expected])
    trial, linked = run(AxGenerateTrialOperator, run_id, experiment_name=NAME)
    assert (trial["experiment"], linked) == (expected, [expected])
    app = {"component": "utils.booth", "poke_interval": 0.1, "deferrable": False}
    outcome, _ = run(TorchXRunTrialOperator, run_id, trial=trial, **app)
    completed, _ = run(AxCompleteTrialOperator, run_id, run=outcome)
    assert completed["trial_status"] == "COMPLETED"
    known = [{"parameters": {"x1": 1.0, "x2": 3.0}, "results": {"booth_eval": 0.0}}]
    assert run(AxAttachTrialsOperator, run_id, experiment_name=NAME, trials=known)[0] == []
    best, linked = run(AxBestTrialOperator, run_id, experiment_name=NAME)
    assert (best["trial_index"], linked) == (1, [expected])
    (attempt,) = AxHook().store.attempts(expected)
    assert len(attempt.submission_key) <= 40
    # A user who writes the name as the DAG file has it.
    assert AxHook().get_best(f"booth-{run_id}")[0]["trial_index"] == 1


def test_the_whole_experiment_in_one_task() -> None:
    arguments = {"component": "utils.booth", "max_trials": 1, "poll_interval": 0.05, "deferrable": False}
    result, linked = run(AxOptimizeOperator, "r" * 250, experiment={**BOOTH, "name": NAME}, **arguments)
    assert result["experiment"] == fitted_name(f"booth-{'r' * 250}")
    assert linked == [result["experiment"]]
    assert result["trials"] == {"COMPLETED": 1}


def test_a_cut_name_is_as_long_as_allowed_and_tells_run_ids_apart() -> None:
    names = {fitted_name(f"booth-{'r' * 200}{end}") for end in ("a", "b", "~", "~~", " a")}
    assert len(names) == 5
    assert {len(name) for name in names} == {MAX_EXPERIMENT_NAME}
    assert all(map(is_experiment_name, names))
    assert fitted_name("e" * MAX_EXPERIMENT_NAME) == "e" * MAX_EXPERIMENT_NAME


@pytest.mark.parametrize("name", ["e" * 101, "a/b", "", " a", "a\n"])
def test_a_name_that_the_dag_file_gives_is_checked_at_parse(name: str) -> None:
    for make in (
        lambda: AxCreateExperimentOperator(task_id="t", experiment={**BOOTH, "name": name}),
        lambda: AxGenerateTrialOperator(task_id="t", experiment_name=name),
        lambda: AxBestTrialOperator(task_id="t", experiment_name=name),
        lambda: AxAttachTrialsOperator(task_id="t", experiment_name=name, trials=[]),
    ):
        with pytest.raises(InvalidInputError, match="1 to 100"):
            make()
