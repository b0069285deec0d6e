"""Schedulers and triggerers that end while trials run."""

from __future__ import annotations

import signal
import time

import pytest

from tests.platform.world import Run, World

pytestmark = pytest.mark.celery


def waiting(world: World, *dag_ids: str, trials: int = 2) -> list[Run]:
    """Start a run of each DAG, and wait until its apps run and its tasks are deferred."""
    runs = [world.run(dag_id, trials) for dag_id in dag_ids]
    for run in runs:
        run.await_waiting()
    return runs


def test_a_triggerer_is_told_to_stop_and_the_other_one_is_killed(world: World) -> None:
    first = waiting(world, "steps_default", "optimize_default")
    world.cluster.signal("triggerer-2", signal.SIGTERM)
    since = time.time()
    world.cluster.await_end("triggerer-2")
    # Only the first triggerer runs while these begin to wait.
    second = waiting(world, "loop_default", "optimize_default")
    for run in first:
        run.let_go()
    world.assert_whole("SIGTERM of a triggerer", first, since)
    world.cluster.start("triggerer-2")
    world.cluster.kill("triggerer-1")
    since = time.time()
    for run in second:
        run.let_go()
    world.assert_whole("SIGKILL of the triggerer that waits", second, since)
    world.cluster.start("triggerer-1")


def test_schedulers_are_killed(world: World) -> None:
    runs = [world.run(f"{shape}_default", 2) for shape in ("loop", "poking_loop", "steps")]
    for run in runs:
        run.await_starts(2)
    world.cluster.kill("scheduler-1")
    since = time.time()
    runs[0].let_go()
    world.assert_whole("SIGKILL of one of two schedulers", runs[:1], since)
    world.cluster.kill("scheduler-2")
    since = time.time()
    for run in runs:
        run.let_go()
    world.cluster.start("scheduler-1")
    world.cluster.start("scheduler-2")
    world.assert_whole("SIGKILL of both schedulers", runs[1:], since)
