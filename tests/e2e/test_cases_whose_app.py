"""A task ends only the apps that are its own: several loops in one DAG, names and schedulers that change."""

from __future__ import annotations

import os
import signal

import pytest
from realairflow import poll

from tests.e2e.world import LONG, Scenario, World

pytestmark = [pytest.mark.airflow, pytest.mark.cases]

#: The reap of the fast part, and the task that waits for the slow one, by DAG.
TWO_PARTS = {
    "two_loops": ("fast.reap", -1, "slow.round_0.run", 0),
    "loop_and_optimize": ("fast.reap", -1, "optimize", -1),
    "nested_loops": ("outer_fast.fast.reap", -1, "outer_slow.slow.round_0.run", 0),
}


def assert_slow_goes_on(slow: Scenario, trials: int) -> None:
    """Assert that the apps of the slow part still run, let them end, and wait for the DAG run."""
    assert slow.app_states() == ["RUNNING"] * trials
    slow.let_go()
    slow.await_end()
    slow.assert_completed(trials)


@pytest.fixture(scope="module")
def parts(cases: World) -> dict[str, Scenario]:
    """A DAG run of each DAG with two parts, made at once because starting takes longest."""
    return {dag_id: cases.scenario(dag_id) for dag_id in TWO_PARTS}


@pytest.mark.parametrize("dag_id", TWO_PARTS)
def test_a_reap_leaves_the_apps_of_another_group_running(parts: dict[str, Scenario], dag_id: str) -> None:
    run = parts[dag_id]
    reap, reap_index, wait, wait_index = TWO_PARTS[dag_id]
    fast, slow = run.part("fast"), run.part("slow")
    trials = 2 if wait == "optimize" else 1
    slow.await_starts(trials)
    run.await_task(wait, "deferred", map_index=wait_index)
    fast.let_go()
    run.await_task(reap, "success", map_index=reap_index)
    fast.assert_completed(1)
    assert_slow_goes_on(slow, trials)


def test_a_reap_in_a_mapped_group_leaves_the_apps_of_the_other_instances_running(cases: World) -> None:
    run = cases.scenario("mapped_chains")
    fast, slow = run.part("0"), run.part("1")
    slow.await_starts(1)
    fast.let_go()
    run.await_task("chain.reap", "success", map_index=0)
    assert_slow_goes_on(slow, 1)
    fast.assert_completed(1)


def test_a_cleared_reap_leaves_the_apps_of_the_next_loop_running(cases: World) -> None:
    run = cases.scenario("chained_loops")
    fast, slow = run.part("fast"), run.part("slow")
    fast.let_go()
    slow.await_starts(1)
    run.await_task("slow.round_0.run", "deferred")
    cases.env.api.clear(run.dag_id, run.run_id, ["fast.reap"])
    poll(lambda: run.tries("fast.reap") == [2] or None, LONG, "the second try of the reap")
    run.await_task("fast.reap", "success", map_index=-1)
    assert_slow_goes_on(slow, 1)
    fast.assert_completed(1)


@pytest.mark.parametrize("dag_id", ["name_of_each_parse", "name_of_each_moment"])
def test_an_experiment_whose_name_renders_anew_stays_one_experiment(cases: World, dag_id: str) -> None:
    run = cases.scenario(dag_id)
    run.await_starts(2)
    run.await_task("optimize", "deferred", map_index=-1)
    run.let_go()
    run.await_end()
    (name,) = cases.experiments(f"{dag_id}-{run.run_id}")
    cases.of(run, name).assert_completed(2)


def test_a_name_that_changes_with_each_try_stays_one_experiment(cases: World) -> None:
    run = cases.scenario("name_of_each_try")
    run.await_starts(2)
    os.kill(run.await_task("optimize", "running", map_index=-1)["pid"], signal.SIGTERM)
    poll(lambda: run.tries("optimize") == [2] or None, LONG, "the second try")
    run.let_go()
    run.await_end()
    (name,) = cases.experiments(f"{run.dag_id}-{run.run_id}")
    cases.of(run, name).assert_completed(2)


def test_a_cleared_task_whose_experiment_has_another_name_leaves_nothing_of_the_first(cases: World) -> None:
    """A Clear may take up a changed DAG file; what the earlier tries have left in another experiment is ended then."""
    run = cases.scenario("name_of_each_try")
    run.await_starts(2)
    run.await_task("optimize", "running", map_index=-1)
    cases.env.api.clear(run.dag_id, run.run_id, ["optimize"])
    run.await_starts(4)
    first, second = sorted(cases.experiments(f"{run.dag_id}-{run.run_id}"))
    cases.of(run, first).await_attempts_ended()
    assert cases.of(run, first).statuses() == dict.fromkeys(range(2), "ABANDONED")
    run.let_go()
    run.await_end()
    assert cases.of(run, second).statuses() == dict.fromkeys(range(2), "COMPLETED")
    assert run.living() == []


@pytest.mark.parametrize("dag_id", ["scheduler_with_arguments", "scheduler_of_connection"])
def test_apps_outlive_a_change_of_the_scheduler(cases: World, dag_id: str) -> None:
    """The third trial cannot be submitted to the new scheduler; what runs on the old one is not touched by that."""
    api = cases.env.api
    run = cases.scenario(dag_id)
    run.await_starts(2)
    run.await_task("optimize", "deferred", map_index=-1)
    api.request("POST", "/variables", json={"key": "scheduler", "value": "slurm"})
    try:
        run.let_go(0)
        poll(lambda: run.statuses()[0] == "COMPLETED" or None, LONG, lambda: f"{run.statuses()}; {run.states()}")
        assert run.app_states() == ["SUCCEEDED", "RUNNING"]
        assert run.cancelled() == []
    finally:
        api.request("DELETE", "/variables/scheduler")
    run.let_go()
    run.await_end()
    run.assert_completed(3)


@pytest.mark.parametrize("dag_id", ["fixed_loop", "fixed_optimize"])
def test_a_dag_run_made_again_with_the_id_of_a_deleted_one_runs_new_trials(cases: World, dag_id: str) -> None:
    again = {"run_id": "again", "experiment": dag_id.replace("_", "-")}
    first = cases.scenario(dag_id, **again)
    first.let_go()
    first.await_end()
    first.assert_completed(2)
    cases.env.api.delete_run(dag_id, "again")
    second = cases.scenario(dag_id, **again, max_trials=4)
    second.await_end()
    second.assert_completed(4)
