"""Workers that end or stop while their tasks submit an app or wait for one."""

from __future__ import annotations

import signal
import time

import pytest

from tests.platform.caught import catch
from tests.platform.world import World

pytestmark = pytest.mark.celery


@pytest.mark.platform
def test_a_worker_is_told_to_stop(world: World) -> None:
    """Celery waits for its tasks."""
    caught = catch(world, "one")
    world.cluster.signal("worker-1", signal.SIGTERM)
    since = time.time()
    caught.submitting.release()
    caught.waiting.let_go()
    world.cluster.await_end("worker-1", 300)
    world.cluster.start("worker-1")
    caught.submitting.let_go()
    world.assert_whole("SIGTERM of a worker's main process", caught.runs, since)
    assert caught.waiting.tries() == 1


def test_all_processes_of_a_worker_are_told_to_stop(world: World) -> None:
    caught = catch(world, "one")
    world.cluster.signal("worker-1", signal.SIGTERM, group=True)
    since = time.time()
    caught.submitting.release()
    world.cluster.await_end("worker-1", 300)
    world.cluster.start("worker-1")
    caught.waiting.await_tries(2)
    caught.let_go()
    world.assert_whole("SIGTERM of a worker's whole group", caught.runs, since)


@pytest.mark.platform
def test_the_main_process_of_a_worker_is_killed(world: World) -> None:
    caught = catch(world, "one")
    world.cluster.signal("worker-1", signal.SIGKILL)
    since = time.time()
    world.cluster.await_end("worker-1")
    caught.submitting.release()
    caught.let_go()
    world.cluster.start("worker-1")
    world.assert_whole("SIGKILL of a worker's main process", caught.runs, since)
