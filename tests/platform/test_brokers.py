"""Redis and PostgreSQL go away and come back while trials are submitted and waited for."""

from __future__ import annotations

import time

import pytest
from realairflow import poll

from tests.platform.world import LONG, Run, World

pytestmark = pytest.mark.celery

#: Seconds for which a server is away.
AWAY = 5.0


def in_flight(world: World) -> list[Run]:
    """Return DAG runs that wait in the triggerer and in a worker, and one that submits."""
    runs = [world.run("steps_default", 2), world.run("poking_optimize_default", 2)]
    for run in runs:
        run.await_starts(2)
    held = world.run("loop_default", held=True)
    held.await_held()
    return [*runs, held]


@pytest.mark.platform
def test_redis_is_lost_and_back(world: World) -> None:
    runs = in_flight(world)
    world.cluster.stop_redis()
    since = time.time()
    runs[-1].release()
    runs[0].let_go()
    time.sleep(AWAY)
    world.cluster.start_redis()
    for run in runs:
        run.let_go()
    world.assert_whole("Redis lost and back", runs, since)


def test_postgresql_is_restarted(world: World) -> None:
    runs = in_flight(world)
    world.cluster.postgres.stop()
    since = time.time()
    runs[-1].release()
    runs[0].let_go()
    time.sleep(AWAY)
    world.cluster.postgres.start()
    world.cluster.await_database()
    for run in runs:
        run.let_go()

    def have_ended() -> bool | None:
        world.cluster.restart_ended()
        return all(run.has_ended() for run in runs) or None

    poll(have_ended, LONG, lambda: f"the end of all DAG runs; {[run.states() for run in runs]}")
    world.assert_whole("PostgreSQL restarted", runs, since)
