"""Retries and trigger rules that operators have by themselves, unless the DAG gives some, also when they are mapped."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import pytest
from airflow.sdk import DAG, TaskGroup, task
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_axtx.decorators import Range
from airflow_provider_axtx.operators.ax import AxBestTrialOperator, AxOptimizeOperator
from tests.operators.conftest import BOOTH

OPTIMIZE: dict[str, Any] = {"component": "utils.booth", "max_trials": 3}
OWN = (2, timedelta(seconds=10))


def train(lr: Annotated[float, Range(0.0, 1.0)], epochs: int = 10) -> float:
    return lr * epochs


def optimize(**given: Any) -> None:
    AxOptimizeOperator(task_id="t", experiment=BOOTH, **OPTIMIZE, **given)


def mapped(**given: Any) -> None:
    AxOptimizeOperator.partial(task_id="t", **OPTIMIZE, **given).expand(experiment=[BOOTH])


def mapped_over_objects(**given: Any) -> None:
    AxOptimizeOperator.partial(task_id="t", **OPTIMIZE, **given).expand_kwargs([{"experiment": BOOTH}])


def function(**given: Any) -> None:
    task.ax_optimize(objective="-loss", max_trials=3, task_id="t", **given)(train)()


def mapped_function(**given: Any) -> None:
    task.ax_optimize(objective="-loss", max_trials=3, task_id="t", **given)(train).expand(epochs=[1, 2])


def function_mapped_over_objects(**given: Any) -> None:
    decorated = task.ax_optimize(objective="-loss", max_trials=3, task_id="other", **given)(train)
    decorated.override(task_id="t").partial().expand_kwargs([{"epochs": 1}])


def best(**given: Any) -> None:
    AxBestTrialOperator(task_id="t", experiment_name="booth", **given)


def mapped_best(**given: Any) -> None:
    AxBestTrialOperator.partial(task_id="t", **given).expand(experiment_name=["booth"])


def as_scheduled(make: Callable[..., None], of_dag: Any = None, of_group: Any = None, **given: Any) -> Any:
    """Return the task as the scheduler reads it from the database, which decides by it whether a try follows."""
    with DAG("dag", schedule=None, default_args=of_dag or {}) as dag, TaskGroup("g", default_args=of_group or {}):
        make(**given)
    return DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("g.t")


TUNING = [optimize, mapped, mapped_over_objects, function, mapped_function, function_mapped_over_objects]


@pytest.mark.parametrize("make", TUNING)
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, OWN),
        ({"retries": 0}, (0, timedelta(minutes=5))),
        ({"retry_delay": timedelta(seconds=1)}, (2, timedelta(seconds=1))),
        ({"of_dag": {"retries": 0}}, (0, timedelta(minutes=5))),
        ({"of_dag": {"retry_delay": timedelta(seconds=1)}}, (2, timedelta(seconds=1))),
        ({"of_dag": {"retries": 1}, "of_group": {"retries": 5}}, (5, timedelta(minutes=5))),
        ({"of_dag": {"retries": 1}, "default_args": {"retries": 3}}, (3, timedelta(minutes=5))),
        ({"of_dag": {"queue": "gpu"}, "of_group": {"pool": "p"}}, OWN),
    ],
)
def test_a_task_that_tunes_is_retried_unless_the_dag_says_otherwise(
    make: Callable[..., None], given: dict[str, Any], expected: tuple[int, timedelta]
) -> None:
    found = as_scheduled(make, **given)
    assert (found.retries, found.retry_delay) == expected


@pytest.mark.parametrize("make", TUNING)
def test_the_retries_of_airflow_s_configuration_count(
    make: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow itself reads them once in a process, so that another number than its own cannot be seen here."""
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TASK_RETRIES", "1")
    assert as_scheduled(make).retry_delay == timedelta(minutes=5)


def test_what_runs_of_a_mapped_task_has_the_retries_that_the_scheduler_knows() -> None:
    with DAG("dag", schedule=None) as dag:
        mapped()
        made = task.ax_optimize(objective="-loss", max_trials=3)(train).expand(epochs=[1]).operator
    assert dag.get_task("t").unmap({"experiment": BOOTH}).retries == 2
    assert made.unmap({"op_kwargs": {"epochs": 1}}).retries == 2


@pytest.mark.parametrize("make", [best, mapped_best])
@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({}, "none_failed"),
        ({"trigger_rule": "all_done"}, "all_done"),
        ({"of_dag": {"trigger_rule": "all_done"}}, "all_done"),
        ({"of_group": {"trigger_rule": "all_done"}, "default_args": {"trigger_rule": "one_done"}}, "one_done"),
    ],
)
def test_the_best_trial_is_asked_for_behind_skipped_rounds_unless_the_dag_says_otherwise(
    make: Callable[..., None], given: dict[str, Any], rule: str
) -> None:
    assert as_scheduled(make, **given).trigger_rule == rule
