"""Workers that are gone or stopped for longer than Airflow waits for them; ``conftest.slow_scenarios`` begins these.

The file has its place near the end of the alphabet, so that most other tests are played while Airflow waits, and before
``test_workers.py``, whose tests need the worker that these occupy.
"""

from __future__ import annotations

import pytest
from realairflow import poll

from tests.platform.caught import Caught
from tests.platform.world import LONG, World

pytestmark = pytest.mark.celery


def await_tasks_gone(world: World, component: str) -> None:
    """Wait until no task runs on a worker, in tries that Airflow has given up long ago."""

    def look() -> bool | None:
        titles = [" ".join(process.cmdline()) for process in world.cluster.group(component)]
        return not any(title.startswith("airflow worker -- ") for title in titles) or None

    poll(look, LONG, lambda: f"the end of the tasks of {component}")


@pytest.mark.platform
def test_a_worker_is_killed(world: World, killed_worker: Caught) -> None:
    killed_worker.waiting.await_tries(2)
    killed_worker.let_go()
    world.assert_whole("SIGKILL of a worker's whole group", killed_worker.runs, killed_worker.since)


@pytest.mark.platform
def test_a_worker_is_stopped_for_longer_than_airflow_waits_and_goes_on(world: World, paused_worker: Caught) -> None:
    for run in paused_worker.runs:
        run.await_tries(2)
    paused_worker.submitting.await_starts(1)
    world.cluster.go_on("worker-2")
    await_tasks_gone(world, "worker-2")
    paused_worker.let_go()
    world.assert_whole("worker stopped for 300 s and continued", paused_worker.runs, paused_worker.since)
