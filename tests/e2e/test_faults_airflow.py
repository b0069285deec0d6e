"""Kill anything of a real Airflow at any moment: no trial is lost, none runs twice, no app is left running."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from realairflow import poll

from tests.e2e.world import LONG, NewDatabase, Scenario, World, fault_world

pytestmark = pytest.mark.airflow

#: Two crash points for each task that records something: before the step, and after it.
KILLS = {
    "before": {
        "tune.generate_0": "generate.after_propose",
        "tune.round_0.submit": "submit.before_submit",
        "tune.round_0.complete": "complete.before_record",
    },
    "after": {
        "tune.generate_0": "generate.after_record",
        "tune.round_0.submit": "submit.after_submit",
        "tune.round_0.complete": "complete.after_record",
    },
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    with fault_world(tmp_path_factory.mktemp("faults"), new_database()) as world:
        yield world


def assert_nothing_is_left(scenario: Scenario) -> None:
    assert scenario.living() == []
    assert [run for run in scenario.runs() if run.finished_at is None] == []
    assert set(scenario.statuses().values()) <= {"COMPLETED", "FAILED", "ABANDONED"}


def assert_each_ran_once(scenario: Scenario, trials: int) -> None:
    assert scenario.statuses() == dict.fromkeys(range(trials), "COMPLETED")
    assert scenario.starts() == dict.fromkeys(range(trials), 1)
    assert [run.number for run in scenario.runs()] == [1] * trials
    assert [run.cancel_requested_at for run in scenario.runs()] == [None] * trials
    assert_nothing_is_left(scenario)


# Task processes


def test_a_killed_task_process_is_retried_and_its_app_runs_once(world: World) -> None:
    scenarios = [world.scenario("deferred_loop", trials=2, kill=kill) for kill in KILLS.values()]
    for scenario in scenarios:
        scenario.let_go()
    for scenario, kill in zip(scenarios, KILLS.values(), strict=True):
        scenario.await_end()
        assert_each_ran_once(scenario, 2)
        tries = {task_id: scenario.tries(task_id) for task_id in kill}
        assert tries == {task_id: [2] if "generate" in task_id else [2, 2] for task_id in kill}


def test_a_killed_poking_sensor_is_retried_and_its_app_goes_on(world: World) -> None:
    scenario = world.scenario("poking_loop")
    scenario.await_starts(1)
    pid = scenario.await_task("tune.round_0.wait", "running")["pid"]
    os.kill(pid, signal.SIGKILL)
    poll(lambda: scenario.tries("tune.round_0.wait") == [2] or None, LONG, "the second try of the sensor")
    scenario.let_go()
    scenario.await_end()
    assert_each_ran_once(scenario, 1)


def test_a_terminated_task_is_retried_and_its_app_goes_on(world: World) -> None:
    """SIGTERM is what a worker gets that is shut down."""
    scenario = world.scenario("resubmitting_poking_loop")
    scenario.await_starts(1)
    pid = scenario.await_task("tune.round_0.run", "running")["pid"]
    os.kill(pid, signal.SIGTERM)
    poll(lambda: scenario.tries("tune.round_0.run") == [2] or None, LONG, "the second try")
    scenario.let_go()
    scenario.await_end()
    assert_each_ran_once(scenario, 1)


def test_a_task_that_is_ended_before_it_has_submitted_submits_nothing(world: World) -> None:
    scenario = world.scenario("deferred_loop", held=True)
    poll(lambda: (scenario.folder / "held").exists() or None, LONG, "the submit task to build the component")
    pid = scenario.await_task("tune.round_0.submit", "running")["pid"]
    scenario.fail()
    poll(lambda: "Terminating process" in scenario.log("tune.round_0.submit") or None, LONG, "the task to be told")
    (scenario.folder / "hold").unlink()
    scenario.await_end(expect=None)
    poll(lambda: None if psutil.pid_exists(pid) else True, LONG, f"the end of task process {pid}")
    assert scenario.started() == []
    assert scenario.statuses() == {0: "ABANDONED"}
    assert_nothing_is_left(scenario)


# Components of Airflow


def test_a_killed_triggerer_cancels_no_app(world: World) -> None:
    scenarios = [world.scenario("deferred_loop", trials=2), world.scenario("resubmitting_loop")]
    for scenario, task_id, trials in zip(scenarios, ("tune.round_0.wait", "tune.round_0.run"), (2, 1), strict=True):
        scenario.await_starts(trials)
        for index in range(trials):
            scenario.await_task(task_id, "deferred", map_index=index)
    world.env.kill_tree("triggerer")
    world.env.start("triggerer")
    world.env.wait_ready("triggerer")
    assert [scenario.app_states() for scenario in scenarios] == [["RUNNING"] * 2, ["RUNNING"]]
    for scenario, trials in zip(scenarios, (2, 1), strict=True):
        scenario.let_go()
        scenario.await_end()
        assert_each_ran_once(scenario, trials)


def test_a_killed_scheduler_with_all_its_tasks_loses_nothing(world: World) -> None:
    loop = world.scenario("deferred_loop", trials=3, rounds=2)
    poking = world.scenario("poking_loop", trials=1)
    running = world.scenario("resubmitting_poking_loop", trials=1)
    # The first app is there: the tasks that submit the others are at work right now.
    loop.await_starts(1)
    restart_scheduler(world)
    for scenario in (poking, running):
        scenario.await_starts(1)
        scenario.let_go()
    loop.await_starts(3)
    loop.let_go()
    poll(lambda: "COMPLETED" in loop.statuses().values() or None, LONG, lambda: f"a result; {loop.states()}")
    restart_scheduler(world)
    for scenario, trials in ((loop, 6), (poking, 1), (running, 1)):
        scenario.await_end()
        assert_each_ran_once(scenario, trials)


def restart_scheduler(world: World) -> None:
    """Kill the scheduler with its tasks and start another: a scheduler takes over at its start what a dead one ran."""
    world.env.kill_tree("scheduler")
    world.env.wait_unhealthy("scheduler")
    world.env.start("scheduler")
    world.env.wait_ready("scheduler")


def test_apps_outlive_a_restart_of_the_api_server(world: World) -> None:
    """A deferred task needs no retry for it; one that runs is tried again, and on a slow machine more than twice."""
    scenario = world.scenario("deferred_loop", trials=2)
    scenario.await_starts(2)
    for index in range(2):
        scenario.await_task("tune.round_0.wait", "deferred", map_index=index)
    world.env.kill("api-server")
    world.env.start("api-server")
    world.env.wait_ready("api-server")
    assert scenario.app_states() == ["RUNNING"] * 2
    scenario.let_go()
    scenario.await_end()
    assert_each_ran_once(scenario, 2)


# What a user does


@pytest.fixture(scope="module")
def deferred(world: World) -> dict[str, Scenario]:
    """A run for each of these tests, each deferred, made at once because starting takes longest."""
    scenarios = {action: world.scenario("deferred_alone") for action in ("clear", "failed", "success")}
    for scenario in scenarios.values():
        scenario.await_starts(1)
        scenario.await_task("wait", "deferred", map_index=-1)
        # Airflow tells a trigger only then that its task was ended.
        poll(lambda s=scenario: ") starting" in s.log("wait", -1) or None, LONG, "the triggerer to run the trigger")
    return scenarios


@pytest.mark.parametrize("action", ["failed", "success"])
def test_marking_a_deferred_sensor_ends_its_app_and_its_trial(deferred: dict[str, Scenario], action: str) -> None:
    scenario, api = deferred[action], deferred[action].world.env.api
    assert scenario.app_states() == ["RUNNING"]
    api.set_task_state(scenario.dag_id, scenario.run_id, "wait", action, -1)
    scenario.await_app_states(["CANCELLED"])
    scenario.await_settled()
    assert scenario.statuses() == {0: "ABANDONED"}
    assert scenario.starts() == {0: 1}


def test_a_cleared_deferred_sensor_waits_on_for_its_app(deferred: dict[str, Scenario]) -> None:
    scenario = deferred["clear"]
    scenario.world.env.api.clear(scenario.dag_id, scenario.run_id, [("wait", -1)])
    poll(lambda: scenario.tries("wait") == [2] or None, LONG, "the second try")
    assert scenario.app_states() == ["RUNNING"]
    scenario.let_go()
    scenario.await_end()
    assert scenario.app_states() == ["SUCCEEDED"]
    assert scenario.starts() == {0: 1}


@pytest.mark.parametrize("dag_id", ["deferred_loop", "poking_loop"])
def test_a_dag_run_marked_as_failed_leaves_nothing_running(world: World, dag_id: str) -> None:
    scenario = world.scenario(dag_id, trials=3)
    scenario.await_starts(3)
    for index in range(3):
        scenario.await_task("tune.round_0.wait", "deferred" if "deferred" in dag_id else "running", map_index=index)
    scenario.fail()
    scenario.await_end(expect="failed")
    # It has ended everything, and fails with the tasks of its loop: else the DAG run would count as a success.
    assert scenario.states()["tune.reap"] == "failed"
    assert set(scenario.app_states()) == {"CANCELLED"}
    assert scenario.statuses() == dict.fromkeys(range(3), "ABANDONED")
    assert_nothing_is_left(scenario)


def test_a_cleared_running_task_starts_a_new_attempt_and_cancels_the_old_one(world: World) -> None:
    scenario = world.scenario("resubmitting_poking_loop")
    ((_, first),) = scenario.await_starts(1)
    scenario.await_task("tune.round_0.run", "running")
    world.env.api.clear(scenario.dag_id, scenario.run_id, [("tune.round_0.run", 0)])
    assert_second_attempt_completes(scenario, first)


@pytest.mark.parametrize("downstream", [True, False])
def test_a_cleared_submit_task_starts_a_new_attempt_and_cancels_the_old_one(world: World, downstream: bool) -> None:
    scenario = world.scenario("deferred_loop")
    ((_, first),) = scenario.await_starts(1)
    scenario.await_task("tune.round_0.wait", "deferred")
    submit = ("tune.round_0.submit", 0)
    world.env.api.clear(scenario.dag_id, scenario.run_id, [submit], downstream=downstream)
    assert_second_attempt_completes(scenario, first)


def assert_second_attempt_completes(scenario: Scenario, first: int) -> None:
    scenario.await_starts(2)
    assert first not in scenario.living()
    scenario.let_go()
    scenario.await_end()
    assert [(run.number, run.app_state) for run in scenario.runs()] == [(1, "CANCELLED"), (2, "SUCCEEDED")]
    assert scenario.statuses() == {0: "COMPLETED"}
    assert_nothing_is_left(scenario)


# Apps


def test_an_app_lost_with_its_supervisor_is_submitted_again(world: World) -> None:
    scenario = world.scenario("resubmitting_loop")
    ((_, first),) = scenario.await_starts(1)
    scenario.await_task("tune.round_0.run", "deferred")
    (run,) = scenario.runs()
    started = json.loads((world.apps / run.submission_key / "started.json").read_text())
    os.kill(started["pid"], signal.SIGKILL)
    scenario.await_starts(2)
    assert first not in scenario.living()
    scenario.let_go()
    scenario.await_end()
    lost, second = scenario.runs()
    assert (lost.app_state, lost.is_infrastructure_failure, second.app_state) == ("FAILED", True, "SUCCEEDED")
    assert "lost: its supervisor" in (lost.message or "")
    assert "Submitting it again" in scenario.log("tune.round_0.run")
    assert scenario.statuses() == {0: "COMPLETED"}
    assert scenario.tries("tune.round_0.run") == [1]
    assert_nothing_is_left(scenario)
