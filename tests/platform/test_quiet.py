"""DAG runs that are not disturbed: what the delays of the other scenarios are compared with."""

from __future__ import annotations

import time

import pytest

from tests.platform.world import World

pytestmark = pytest.mark.celery


def test_every_shape_is_whole(world: World) -> None:
    runs = [world.run(f"{shape}_default") for shape in ("loop", "poking_loop", "steps", "optimize", "poking_optimize")]
    for run in runs:
        run.await_starts(1)
    since = time.time()
    for run in runs:
        run.let_go()
    world.assert_whole("nothing is stopped", runs, since)
