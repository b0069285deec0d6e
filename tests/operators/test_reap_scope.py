"""A reap ends only what its own group has submitted or generated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, TaskGroup, task_group
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_provider_axtx.lifecycle.reap import TaskScope
from airflow_provider_axtx.operators._scope import task_scope
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxGenerateTrialOperator, AxOptimizeOperator
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.operators.conftest import BOOTH, Execute, FakeTaskInstance, app_state

SLEEP = "import time; time.sleep(600)"


def reap(**arguments: Any) -> TorchXReapTrialsOperator:
    return TorchXReapTrialsOperator(task_id="reap", **arguments)


def step(task_id: str) -> BaseOperator:
    return BaseOperator(task_id=task_id)


def contains(scope: TaskScope, *tasks: str, map_index: int = -1) -> list[bool]:
    return [scope.contains(task, map_index) for task in tasks]


def test_in_a_group_it_is_the_group_with_the_groups_in_it() -> None:
    with DAG("d"):
        with TaskGroup("one"):
            one = reap()
            with TaskGroup("round_0"):
                step("submit")
        with TaskGroup("two"):
            step("submit")
            reap()
    scope = task_scope(one, -1)
    assert contains(scope, "one.round_0.submit", "one.create", "two.submit", "submit") == [True, True, False, False]
    assert scope.contains("one.round_0.submit", 7)  # a mapped task of the group


def test_in_a_group_whose_tasks_have_no_prefix_it_is_its_tasks() -> None:
    with DAG("d"):
        with TaskGroup("one", prefix_group_id=False):
            inner = reap()
            step("submit")
        step("other")
    assert contains(task_scope(inner, -1), "submit", "other", "one.submit") == [True, False, False]


def test_in_a_mapped_group_it_is_the_own_instance() -> None:
    made: list[TorchXReapTrialsOperator] = []

    @task_group(group_id="tune")
    def tune(name: str) -> None:
        step("submit")
        made.append(reap())

    with DAG("d"):
        tune.expand(name=["a", "b"])
    scope = task_scope(made[0], 1)
    assert (scope.contains("tune.submit", 1), scope.contains("tune.submit", 0)) == (True, False)


def test_at_the_top_it_is_what_is_upstream() -> None:
    with DAG("d"):
        with TaskGroup("loop"):
            generate = step("generate")
            submit = step("submit")
            generate >> submit
        before, other, last = step("before"), step("other"), reap()
        before >> generate
        submit >> last
    del other
    scope = task_scope(last, -1)
    assert contains(scope, "before", "loop.generate", "loop.submit", "other") == [True, True, True, False]


def test_alone_in_its_group_it_is_what_is_upstream() -> None:
    with DAG("d"):
        submit, other = step("submit"), step("other")
        with TaskGroup("cleanup"):
            last = reap()
        submit >> last
    del other
    assert contains(task_scope(last, -1), "submit", "other") == [True, False]


def test_without_anything_upstream_it_is_the_whole_dag_run() -> None:
    with DAG("d"):
        last = reap()
        step("other")
    assert task_scope(last, -1) == TaskScope()
    assert contains(task_scope(last, -1), "other", "one.submit") == [True, True]
    assert task_scope(reap(), -1) == TaskScope()  # outside every DAG


@pytest.fixture
def two_loops(
    execute: Execute, components: Callable[[str, str], str]
) -> tuple[TorchXReapTrialsOperator, dict[str, dict[str, Any]]]:
    """Two groups that each have generated two trials and submitted one; the reap of the first."""
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    component, runs, reaps = components(SLEEP), {}, {}
    with DAG("dag"):
        for name in ("fast", "slow"):
            with TaskGroup(name):
                step("work")
                reaps[name] = reap()
    for name in ("fast", "slow"):
        trials = [
            execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"), task_id=f"{name}.g{n}")
            for n in range(2)
        ]
        submit = TorchXSubmitTrialOperator(task_id="submit", trial=trials[0], component=component)
        runs[name] = execute(submit, task_id=f"{name}.submit")
    return reaps["fast"], runs


def test_a_reap_leaves_the_other_loop_of_its_dag_alone(
    execute: Execute, two_loops: Any, store: ExperimentStore
) -> None:
    fast, runs = two_loops
    reaped = execute(fast)
    assert [one["trial_index"] for one in reaped] == [0, 1]
    assert [trial.status for trial in store.trials("booth")] == ["ABANDONED", "ABANDONED", "RUNNING", "CANDIDATE"]
    assert app_state(runs["fast"]["app_handle"]) == "CANCELLED"
    assert app_state(runs["slow"]["app_handle"]) in ("PENDING", "RUNNING")
    execute(TorchXReapTrialsOperator(task_id="reap_all"))


def test_a_reap_behind_an_optimize_task_ends_what_it_leaves(
    execute: Execute, components: Callable[[str, str], str], store: ExperimentStore
) -> None:
    with DAG("dag"):
        optimize = AxOptimizeOperator(
            task_id="optimize",
            experiment=BOOTH,
            component=components(SLEEP),
            max_trials=2,
            parallelism=2,
            poll_interval=0.05,
            deferrable=True,
            scheduler_args={"term_grace": 1},
        )
        behind = TorchXReapTrialsOperator(task_id="behind")
        optimize >> behind
    with pytest.raises(TaskDeferred):
        execute(optimize)
    assert [one["trial_status"] for one in execute(behind)] == ["ABANDONED", "ABANDONED"]
    assert store.open_attempts() == []


@pytest.mark.parametrize(
    ("states", "failed"),
    [
        ({"tune.wait_0": "success", "tune.complete_0": "skipped"}, None),
        ({"tune.wait_0": "failed", "tune.complete_0": "skipped"}, "tune.wait_0"),
        ({"tune.wait_0": "success", "tune.complete_0": "upstream_failed"}, "tune.complete_0"),
    ],
)
def test_it_fails_with_its_tasks_once_all_is_ended(states: dict[str, str], failed: str | None) -> None:
    asked: list[dict[str, Any]] = []

    class Instance(FakeTaskInstance):
        def get_task_states(self, **question: Any) -> dict[str, dict[str, str]]:
            asked.append(question)
            return {self.run_id: states}

    with DAG("d"), TaskGroup("tune"):
        step("wait")
        step("complete")
        last = reap(fail_with_tasks=True)
    context: Any = {"ti": Instance("tune.reap")}
    if failed is None:
        assert last.execute(context) == []
    else:
        with pytest.raises(AirflowFailException, match=failed):
            last.execute(context)
    assert [question["task_ids"] for question in asked] == [["tune.complete", "tune.wait"]]
