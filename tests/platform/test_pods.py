"""Each task in a pod, as with KubernetesExecutor: fresh processes, no shared disk, results on another store.

The Kubernetes cluster in which the apps run is simulated; its jobs are processes of this test.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import psutil
import pytest
from realairflow import poll, processes

from tests.engines.kubernetes import KubernetesCluster
from tests.platform.world import LONG, Run, World

pytestmark = [pytest.mark.celery, pytest.mark.platform]


@pytest.fixture(scope="module", autouse=True)
def kubernetes(world: World) -> Iterator[KubernetesCluster]:
    """The cluster for the apps; ``KUBECONFIG`` of every process of Airflow names it."""
    with KubernetesCluster(world.cluster.results) as cluster:
        yield cluster


def pods(run: Run) -> list[psutil.Process]:
    """Return the first process of each pod of a DAG run."""
    return processes.find(lambda process: process.name() == "bash" and f'"{run.run_id}"' in " ".join(process.cmdline()))


def await_pod(run: Run) -> psutil.Process:
    """Wait until all apps run and exactly one task of the DAG run waits in a pod."""
    run.await_starts(run.expected)
    run.await_task("tune.round_0.run", "running", map_index=0)

    def look() -> psutil.Process | None:
        # The pod of the task before may take some seconds to end.
        found = pods(run)
        return found[0] if len(found) == 1 else None

    return poll(look, LONG, lambda: f"one pod; {run.states()}")


def test_every_shape_is_whole_in_pods(world: World) -> None:
    runs = [world.run("loop_pods", 2), world.run("optimize_pods", 2)]
    for run in runs:
        run.await_starts(2)
    since = time.time()
    for run in runs:
        run.let_go()
    world.assert_whole("each task in a pod", runs, since)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_waiting_pod_is_deleted(world: World, number: signal.Signals) -> None:
    run = world.run("poking_loop_pods")
    pod = await_pod(run)
    pod.send_signal(number)
    since = time.time()
    run.await_tries(2)
    run.let_go()
    world.assert_whole(f"{number.name} of a waiting pod", [run], since)


def test_local_detached_names_the_pod_that_is_gone(world: World) -> None:
    """Why it is not for pods: the app ends with the pod that submits it, and no other pod can tell so."""
    run = world.run("local_loop_pods")
    run.await_end("failed")
    (attempt,) = run.attempts()
    assert attempt.host is not None and attempt.host.startswith("pod-")
    assert attempt.finished_at is None
    world.cluster.airflow("ax", "reap", "--lost-host", attempt.host)
    assert [trial.status for trial in world.store.trials(run.experiment)] == ["FAILED"]
    assert run.left_open() == []
    assert run.living() == []
