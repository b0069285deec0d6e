"""``local_detached`` on two hosts: a process that cannot observe an app says so, and never judges it.

Each host has its own name, network, processes, kernel boot and home; both see the folder of results.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from realairflow import poll

from tests.platform.world import LONG, Run, World

pytestmark = pytest.mark.celery

#: Deferred tasks wait in a triggerer of their own queue (Airflow 3.2).
QUEUES = {"AIRFLOW__TRIGGERER__QUEUES_ENABLED": "True"}


@contextmanager
def started(world: World, component: str, queues: str = "", environ: dict[str, str] | None = None) -> Iterator[None]:
    """Run a component for the time of a block; at its end it is told to stop."""
    also = () if not queues else ("--queues", queues)
    world.cluster.start(component, environ, also=also)
    yield
    if world.cluster.is_running(component):
        world.cluster.signal(component, signal.SIGTERM)
        world.cluster.await_end(component, 120)


def assert_not_judged(run: Run, host: str) -> None:
    """Assert that a try of the waiting task named the app's host, and left the trial and its app as they were."""
    first = run.log("wait", try_number=1)
    assert f"belongs to host {host} and cannot be observed or cancelled from hostb" in first, first
    (attempt,) = run.attempts()
    assert (attempt.host, attempt.finished_at, attempt.cancel_requested_at) == (host, None, None)
    assert [trial.status for trial in run.world.store.trials(run.experiment)] == ["RUNNING"]
    assert len(run.living()) >= 1


def hand_back(world: World, run: Run, scenario: str) -> None:
    """Let the waiting task fail on the other host, then let a worker of the app's host take it."""
    with started(world, "worker-b", "elsewhere"):
        run.await_tries_of("wait", 2)
        assert_not_judged(run, "hosta")
    since = time.time()
    with started(world, "worker-4", "elsewhere"):
        run.let_go()
        world.assert_whole(scenario, [run], since)


def await_handed_back(run: Run, task_id: str, map_index: int) -> None:
    """Wait until the triggerer has said that it cannot observe the task's app."""

    def look() -> bool | None:
        return "cannot be observed or cancelled from hostb" in run.log(task_id, map_index) or None

    poll(look, LONG, lambda: f"word of the triggerer in the log of {task_id}: {run.log(task_id, map_index)}")


@pytest.mark.platform
def test_a_task_waits_on_another_host(world: World) -> None:
    """The log of the try is served by the worker of the other host."""
    run = world.run("wait_elsewhere")
    run.await_starts(1)
    hand_back(world, run, "second host waits, no shared root")


@pytest.mark.platform
def test_a_task_waits_on_another_host_that_shares_the_root(world: World) -> None:
    root = {"AXTX_LOCAL_ROOT": str(world.cluster.shared / "apps")}
    with started(world, "worker-4", "shared", root):
        run = world.run("wait_elsewhere_shared_root")
        run.await_starts(1)
        run.await_task("submit", "success")
    hand_back(world, run, "second host waits, shared root")


@pytest.mark.platform
def test_the_whole_loop_goes_on_on_another_host(world: World) -> None:
    """A worker ends while its task has apps on its host; the retry runs on another host, and the next one back here."""
    with started(world, "worker-4", "elsewhere"):
        run = world.run("optimize_elsewhere", 2)
        run.await_starts(2)
        world.cluster.signal("worker-4", signal.SIGTERM, group=True)
        world.cluster.await_end("worker-4", 120)
    with started(world, "worker-b", "elsewhere"):
        run.await_tries_of("optimize", 3)
        assert "belongs to host hosta" in run.log("optimize", try_number=2)
        assert [attempt.finished_at for attempt in run.attempts()] == [None, None]
    since = time.time()
    with started(world, "worker-4", "elsewhere"):
        run.let_go()
        world.assert_whole("whole loop on a second host and back", [run], since)


def test_a_triggerer_of_another_host_hands_the_wait_back(world: World) -> None:
    """The only triggerer runs on the other host: the tasks wait in their workers."""
    for triggerer in ("triggerer-1", "triggerer-2"):
        world.cluster.signal(triggerer, signal.SIGTERM)
        world.cluster.await_end(triggerer)
    with started(world, "triggerer-b"):
        runs = [world.run(f"{shape}_default") for shape in ("loop", "optimize")]
        for run in runs:
            run.await_starts(1)
        for run, task in zip(runs, (("tune.round_0.run", 0), ("optimize", -1)), strict=True):
            await_handed_back(run, *task)
        since = time.time()
        for run in runs:
            run.let_go()
        world.assert_whole("triggerer on another host only", runs, since)
    for triggerer in ("triggerer-1", "triggerer-2"):
        world.cluster.start(triggerer)


@pytest.mark.platform
def test_a_queue_for_each_host(world: World) -> None:
    """The recipe of ``docs/howto/production.md``: a worker and a triggerer of the host serve its queue."""
    with started(world, "worker-b", "hostb", QUEUES), started(world, "triggerer-b", "hostb", QUEUES):
        runs = [world.run(f"{shape}_hostb", 2) for shape in ("loop", "optimize")]
        for run in runs:
            run.await_waiting()
        since = time.time()
        for run in runs:
            run.let_go()
        world.assert_whole("a queue for the second host", runs, since)
    assert {attempt.host for run in runs for attempt in run.attempts()} == {"hostb"}


@pytest.mark.platform
def test_two_triggerers_on_two_hosts(world: World) -> None:
    """Whichever triggerer takes a trigger, its trial completes."""
    with started(world, "triggerer-b"):
        runs = [world.run(f"{shape}_default", 2) for shape in ("loop", "steps", "optimize")]
        for run in runs:
            run.await_starts(2)
        since = time.time()
        for run in runs:
            run.let_go()
        world.assert_whole("triggerers on two hosts", runs, since)
