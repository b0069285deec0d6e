from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup, task_group
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.assets import experiment_asset
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import BOOTH, FakeTaskInstance


def loop(dag_args: dict[str, Any] | None = None, **arguments: Any) -> tuple[DAG, TaskGroup]:
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1), default_args=dag_args or {}) as dag:
        group = ax_trial_loop("tune", **{"experiment": BOOTH, "component": "utils.booth", "rounds": 2, **arguments})
    dag.validate()
    return dag, group


def test_rounds_follow_each_other_and_the_reaper_waits_for_all() -> None:
    dag, _ = loop()
    assert set(dag.task_ids) == {
        "tune.create",
        "tune.reap",
        *(f"tune.{name}" for k in (0, 1) for name in (f"generate_{k}", f"round_{k}.run")),
    }
    assert dag.get_task("tune.generate_1").upstream_task_ids == {"tune.round_0.run"}
    assert {"tune.round_0.run", "tune.round_1.run"} <= dag.get_task("tune.reap").upstream_task_ids
    assert dag.get_task("tune.reap").is_teardown
    assert dag.get_task("tune.create").is_setup


@pytest.mark.parametrize(
    ("given", "tasks"),
    [
        ({}, {"run"}),
        ({"results": {"booth_eval": "{{ 1 }}"}}, {"submit", "wait", "complete"}),
        ({"results": {"booth_eval": "{{ 1 }}"}, "fused": True}, {"run"}),
        ({"fused": False}, {"submit", "wait", "complete"}),
        ({"fused": False, "trial_retries": 1}, {"run", "complete"}),
    ],
)
def test_the_tasks_of_a_trial(given: dict[str, Any], tasks: set[str]) -> None:
    dag, _ = loop(**given)
    assert {task_id for task_id in dag.task_ids if "round_0" in task_id} == {f"tune.round_0.{name}" for name in tasks}


def test_one_task_submits_waits_and_completes() -> None:
    dag, _ = loop(trial_retries=1, results={"booth_eval": 1.0})
    run = dag.get_task("tune.round_0.run")
    assert (run.complete, run.results, run.trial_retries) == (True, {"booth_eval": 1.0}, 1)
    assert dag.get_task("tune.generate_1").upstream_task_ids == {"tune.round_0.run"}
    assert "tune.round_1.run" in dag.get_task("tune.reap").upstream_task_ids


@pytest.mark.parametrize(
    ("dag_args", "arguments", "expected"),
    [
        ({}, {}, (2, timedelta(seconds=10))),
        ({"retries": 5}, {}, (5, timedelta(seconds=10))),
        ({"retries": 5}, {"default_args": {"retries": 0}}, (0, timedelta(seconds=10))),
    ],
)
def test_tasks_are_retried_unless_the_dag_says_otherwise(
    dag_args: dict[str, Any], arguments: dict[str, Any], expected: tuple[int, timedelta]
) -> None:
    dag, _ = loop(dag_args, **arguments)
    assert {(task.retries, task.retry_delay) for task in dag.tasks} == {expected}


OUTER: dict[str, Any] = {"retries": 5, "queue": "gpu", "pool": "p"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (5, timedelta(seconds=10), "gpu", "p")),
        ({"default_args": {"retries": 0, "pool": "q"}}, (0, timedelta(seconds=10), "gpu", "q")),
        ({"fused": False}, (5, timedelta(seconds=10), "gpu", "p")),
    ],
)
def test_the_groups_around_a_loop_give_its_tasks_their_default_args(given: dict[str, Any], expected: Any) -> None:
    dag = DAG("d", schedule=None, default_args={"retries": 1, "pool": "of_dag"})
    with dag, TaskGroup("outer", default_args=OUTER), TaskGroup("inner"):
        ax_trial_loop("tune", BOOTH, "utils.booth", rounds=2, analyze="end", **given)
    assert {(task.retries, task.retry_delay, task.queue, task.pool) for task in dag.tasks} == {expected}


def test_a_loop_in_a_mapped_group_is_refused_at_parse() -> None:
    """Airflow maps a group over the output of a task only when that task is not mapped itself: no trial would run."""
    with DAG("d", schedule=None):

        @task_group
        def each(part: int) -> None:
            with TaskGroup("inner"):
                ax_trial_loop("tune", BOOTH, "utils.booth")

        with pytest.raises(InvalidInputError, match=r"each\.inner\.tune is in the mapped group each,") as refused:
            each.expand(part=[0, 1])
    assert "AxOptimizeOperator" in refused.value.fix


def test_templated_rounds_are_unrolled_to_their_maximum() -> None:
    dag, _ = loop(rounds="{{ params.rounds }}", max_rounds=4)
    assert dag.get_task("tune.generate_3").rounds == "{{ params.rounds }}"
    assert "tune.generate_4" not in dag.task_ids


def test_outlets_are_those_of_the_completing_tasks() -> None:
    asset = experiment_asset("booth")
    dag, _ = loop(outlets=[asset])
    assert {task.task_id for task in dag.tasks if task.outlets} == {"tune.round_0.run", "tune.round_1.run"}
    assert dag.get_task("tune.round_0.run").outlets == [asset]


@pytest.mark.parametrize(("given", "rule"), [({}, "none_failed"), ({"trigger_rule": "all_success"}, "all_success")])
def test_the_best_is_asked_for_when_the_last_rounds_were_skipped(given: dict[str, Any], rule: str) -> None:
    dag, group = loop()
    with dag:
        best = AxBestTrialOperator(task_id="best", experiment_name="booth", **given)
    group >> best
    assert best.upstream_task_ids == {"tune.round_1.run"}
    assert best.trigger_rule == rule


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 4, "max_rounds": 2}, "rounds is 4, and the DAG has 2"),
        ({"trials_per_round": 2000}, "trials_per_round is 2000, and Airflow maps a task to at most 1024"),
    ],
)
def test_more_than_there_is_room_for_is_refused_at_parse(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        loop(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": "{{ params.rounds }}", "max_rounds": 2}, "rounds is 4, and the DAG has 2"),
        ({"trials_per_round": "{{ params.n }}"}, "trials_per_round is 4000, and Airflow maps a task to at most 1024"),
    ],
)
def test_more_than_there_is_room_for_is_refused_before_anything_is_recorded(
    arguments: dict[str, Any], message: str
) -> None:
    dag, _ = loop(**arguments)
    create = dag.get_task("tune.create")
    create.rounds = "4" if "rounds" in arguments else create.rounds
    create.trials_per_round = "4000" if "trials_per_round" in arguments else create.trials_per_round
    with pytest.raises(AirflowFailException, match=message):
        create.execute({"ti": FakeTaskInstance("tune.create")})
    assert AxHook().store.summaries() == []
