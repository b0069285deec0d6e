"""Many DAG runs at once, several on one experiment, and a pool of one slot."""

from __future__ import annotations

import time

import pytest

from tests.platform.world import World

pytestmark = pytest.mark.celery


def test_ten_dag_runs_at_once(world: World) -> None:
    since = time.time()
    runs = [
        world.run(f"{shape}_default", 2)
        for shape in ("loop", "steps", "optimize", "loop", "optimize")
        for _ in range(2)
    ]
    for run in runs:
        run.let_go()
    world.assert_whole("ten DAG runs at once", runs, since)


@pytest.mark.platform
def test_three_dag_runs_on_one_experiment(world: World) -> None:
    since = time.time()
    runs = [world.run("loop_default", 2, experiment="shared-by-three") for _ in range(3)]
    runs[0].await_starts(6)
    runs[0].let_go()
    world.assert_whole("three DAG runs on one experiment", runs, since)
    assert sorted(trial.index for trial in world.store.trials("shared-by-three")) == list(range(6))


@pytest.mark.platform
def test_a_pool_of_one_slot(world: World) -> None:
    world.cluster.api.request("POST", "/pools", json={"name": "one_slot", "slots": 1})
    since = time.time()
    run = world.run("pooled_loop", 3)
    run.await_starts(3)
    run.let_go()
    world.assert_whole("a pool of one slot", [run], since)
