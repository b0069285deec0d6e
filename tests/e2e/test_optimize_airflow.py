"""``AxOptimizeOperator`` in a real Airflow: deferred with parallel trials, killed, cleared, marked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from realairflow import poll

from tests.e2e.world import LONG, NewDatabase, Scenario, World, fault_world

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    with fault_world(tmp_path_factory.mktemp("optimize"), new_database()) as world:
        yield world


def assert_nothing_is_left(scenario: Scenario) -> None:
    assert scenario.living() == []
    assert scenario.world.store.open_attempts(experiment=scenario.experiment) == []


def await_deferred(scenario: Scenario) -> None:
    """Wait until two apps run and the triggerer waits for them."""
    scenario.await_starts(2)
    scenario.await_trigger("optimize", -1)


@pytest.mark.main_job
def test_killed_task_and_triggerer_lose_and_double_nothing(world: World) -> None:
    scenario = world.scenario("optimizing", trials=4, kill={"optimize": "loop.after_generate"})
    await_deferred(scenario)
    assert scenario.tries("optimize") == [2]  # the first was killed after it had generated a trial
    world.env.kill_tree("triggerer")
    world.env.start("triggerer")
    world.env.wait_ready("triggerer")
    assert scenario.app_states() == ["RUNNING", "RUNNING"]
    scenario.let_go()
    scenario.await_end()
    result = world.env.api.xcom("optimizing", scenario.run_id, "optimize")
    assert (result["n_trials"], result["trials"]) == (4, {"COMPLETED": 4})
    assert result["best"]["parameters"]["x"] == min(trial.parameters["x"] for trial in scenario.trials())
    assert result["stop_reason"] == "max_trials: the experiment has 4 trials"
    assert result["resource_hours"]["cpu"] > 0
    assert scenario.starts() == dict.fromkeys(range(4), 1)
    assert [run.number for run in scenario.runs()] == [1] * 4
    assert_nothing_is_left(scenario)


def test_a_cleared_deferred_task_goes_on_with_its_apps(world: World) -> None:
    scenario = world.scenario("optimizing", trials=3)
    await_deferred(scenario)
    world.env.api.clear(scenario.dag_id, scenario.run_id, ["optimize"])
    poll(lambda: scenario.tries("optimize") == [2] or None, LONG, "the second try")
    scenario.let_go()
    scenario.await_end()
    assert scenario.statuses() == dict.fromkeys(range(3), "COMPLETED")
    assert scenario.starts() == dict.fromkeys(range(3), 1)
    assert scenario.cancelled() == []
    assert_nothing_is_left(scenario)


@pytest.mark.parametrize("action", ["failed", "success"])
def test_marking_a_deferred_task_cancels_all_its_apps(world: World, action: str) -> None:
    scenario = world.scenario("optimizing", trials=3)
    await_deferred(scenario)
    world.env.api.set_task_state(scenario.dag_id, scenario.run_id, "optimize", action, -1)
    scenario.await_app_states(["CANCELLED", "CANCELLED"])
    scenario.await_end(expect=None)
    scenario.await_settled()
    assert scenario.statuses() == dict.fromkeys(range(3), "ABANDONED")  # one was proposed ahead


def test_marking_a_running_task_as_failed_cancels_all_its_apps(world: World) -> None:
    scenario = world.scenario("optimizing_in_process", trials=3)
    scenario.await_starts(2)
    scenario.await_task("optimize", "running", map_index=-1)
    scenario.fail()
    scenario.await_app_states(["CANCELLED", "CANCELLED"])
    scenario.await_end(expect=None)
    scenario.await_settled()
    assert set(scenario.statuses().values()) == {"ABANDONED"}
