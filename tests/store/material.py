"""Specs, proposals and real child processes for the store's tests."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE
from airflow_provider_axtx.core.records import AttemptRecord, Proposal, ProposedTrial, TaskIdentity, TrialRecord
from airflow_provider_axtx.store.experiments import ExperimentStore

SPEC: dict[str, Any] = {"name": "digits", "parameters": [{"name": "x", "bounds": [0.0, 1.0]}], "objective": "-loss"}
IDENTITY = TaskIdentity("dag", "manual__1", "submit", 3, 2, 1, "torchx_default")

# Airflow's executors fork too: the children inherit the parent's engine and must not use its connections.
_fork = multiprocessing.get_context("fork")
_DEADLINE = 120.0


def proposal(n: int = 1, *, first: int = 0) -> Proposal:
    """n distinct trials and a generator state that names the last."""
    trials = tuple(
        ProposedTrial(f"{first + i}_0", {"x": (first + i) / 7, "kind": "a"}, "Sobol", {"type": "RUN"}) for i in range(n)
    )
    return Proposal(trials, {"next": first + n})


def add(store: ExperimentStore, name: str, n: int = 1, *, task: str = "dag/run/generate/-1") -> list[TrialRecord]:
    """Add n trials to an experiment as its next generation, after those that the task has got already."""
    facts = store.snapshot(name)
    first_slot = len(store.granted(name, task))
    return store.add_trials(
        name,
        proposal(n, first=len(facts.trials)),
        task_key=task,
        first_slot=first_slot,
        expected_version=facts.version,
    )


def experiment(store: ExperimentStore, n: int = 1, name: str = "digits") -> str:
    """Create an experiment with n trials; return its name."""
    store.create(name, SPEC)
    add(store, name, n)
    return name


def begin(store: ExperimentStore, name: str, index: int = 0, **options: Any) -> AttemptRecord:
    """Begin a run with everyday arguments."""
    given = {"scheduler": "local_detached", "identity": IDENTITY, "tracker_root": "/results", **options}
    return store.begin_attempt(name, index, **given)


def _child(work: Callable[[int], Any], number: int, barrier: Any, answers: Any) -> None:
    barrier.wait(_DEADLINE)
    try:
        answers.put((number, work(number), None))
    except Exception as error:  # noqa: BLE001 - handed to the parent, which judges it
        answers.put((number, None, error))


def at_once(n: int, work: Callable[[int], Any]) -> list[Any]:
    """Call ``work(0)`` to ``work(n - 1)`` in n processes that start together; return answers or exceptions."""
    barrier, answers = _fork.Barrier(n), _fork.Queue()
    children = [_fork.Process(target=_child, args=(work, number, barrier, answers)) for number in range(n)]
    for child in children:
        child.start()
    got = {number: (answer, error) for number, answer, error in (answers.get(timeout=_DEADLINE) for _ in children)}
    for child in children:
        child.join(_DEADLINE)
        assert child.exitcode == 0
    return [got[number][1] or got[number][0] for number in range(n)]


def _armed(point: str, work: Callable[[], Any]) -> None:
    os.environ[ARMED_VARIABLE] = point
    work()


def killed_at(point: str, work: Callable[[], Any]) -> None:
    """Run ``work`` in a process that is killed with SIGKILL when it passes the crash point."""
    child = _fork.Process(target=_armed, args=(point, work))
    child.start()
    child.join(_DEADLINE)
    assert child.exitcode == -signal.SIGKILL, f"{point} was not passed: exit code {child.exitcode}"
