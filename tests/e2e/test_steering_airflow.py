"""A deferred ``AxOptimizeOperator`` in a real Airflow is paused, resumed, extended and stopped through REST."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from realairflow import poll

from airflow_provider_axtx.core.steering import Action, NewChange
from tests.e2e.world import LONG, NewDatabase, Scenario, World, fault_world

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    with fault_world(tmp_path_factory.mktemp("steering"), new_database()) as world:
        yield world


def patch(scenario: Scenario, **body: Any) -> None:
    """Send a change as a client of the REST interface does."""
    env = scenario.world.env
    with httpx.Client(base_url=env.url, trust_env=False) as client:
        user, secret = next(iter(json.loads(env.paths.password.read_text()).items()))
        token = client.post("/auth/token", json={"username": user, "password": secret}).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid.uuid4().hex}
        path = f"/axtx/v1/experiments/{scenario.experiment}"
        answer = client.patch(path, json={"reason": "a test", **body}, headers=headers)
        assert answer.status_code == 202, answer.text


def await_statuses(scenario: Scenario, **expected: int) -> None:
    """Wait until so many trials have these statuses, and no other."""

    def look() -> bool | None:
        found = list(scenario.statuses().values())
        return {status: found.count(status) for status in found} == expected or None

    poll(look, LONG, lambda: f"{expected}, not {scenario.statuses()}; {scenario.states()}")


def test_a_deferred_experiment_is_paused_resumed_extended_and_stopped(world: World) -> None:
    scenario = world.scenario("optimizing", trials=4)
    scenario.await_starts(2)
    scenario.await_task("optimize", "deferred", map_index=-1)
    patch(scenario, state="pause")
    scenario.let_go(0)
    scenario.let_go(1)
    await_statuses(scenario, COMPLETED=2, CANDIDATE=1)  # that was proposed ahead
    # Both ends are recorded in the task, which defers again afterwards: without an app to wait for.
    scenario.await_task("optimize", "deferred", map_index=-1)
    assert len(scenario.started()) == 2
    patch(scenario, state="run")
    scenario.await_starts(4)
    patch(scenario, limits={"max_trials": 5})
    scenario.let_go(2)
    scenario.await_starts(5)
    patch(scenario, state="stop")
    scenario.await_end()
    await_statuses(scenario, COMPLETED=3, ABANDONED=2)
    result = world.env.api.xcom("optimizing", scenario.run_id, "optimize")
    assert result["stop_reason"].startswith("stop: asked by ")
    assert scenario.starts() == dict.fromkeys(range(5), 1)
    assert (scenario.living(), scenario.left_open()) == ([], [])


def test_a_killed_triggerer_wakes_the_task_when_it_is_back(world: World) -> None:
    scenario = world.scenario("optimizing", trials=3)
    scenario.await_starts(2)
    scenario.await_task("optimize", "deferred", map_index=-1)
    world.env.kill_tree("triggerer")
    change = NewChange(Action.STOP_TRIAL, "one", "vera", "cli", "diverges", trial_index=0)
    world.store.steer(scenario.experiment, change)
    assert world.store.steering(scenario.experiment).open_requests != ()
    world.env.start("triggerer")
    world.env.wait_ready("triggerer")
    scenario.await_starts(3)  # the slot of the stopped trial is filled
    scenario.let_go()
    scenario.await_end()
    assert scenario.statuses() == {0: "ABANDONED", 1: "COMPLETED", 2: "COMPLETED"}
    assert scenario.trials()[0].reason == "stopped by a user, asked by vera: diverges"
    assert scenario.starts() == dict.fromkeys(range(3), 1)
    assert scenario.left_open() == []


def test_a_dag_changes_the_definition_of_its_experiment_and_has_it_explained(world: World) -> None:
    for upper, trials in ((1, 4), (2, 8)):
        run = world.scenario("changing", experiment="changing", trials=trials, upper=upper)
        run.let_go()
        run.await_end()
    assert world.store.spec("changing")["parameters"][0]["bounds"] == [0.0, 2.0]
    (change,) = world.store.changes("changing")
    assert (change.action, change.via, change.trial_index) == (Action.CHANGE_DEFINITION, "dag", 4)
    assert set(run.statuses().values()) == {"COMPLETED"}
    assert world.store.explained("changing") == len(run.statuses()) >= 8
    assert {"importance", "slice"} <= {card.name for card in world.store.explanation("changing")}
