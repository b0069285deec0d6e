"""Runs tasks in real child processes, kills them where told, and retries them as Airflow does."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from airflow.sdk.exceptions import AirflowFailException
from asgiref.sync import SyncToAsync

import airflow_provider_axtx
from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE, crash_point
from airflow_provider_axtx.triggers import killing
from tests.faults.tasks import TaskInstance, Work, write_json
from tests.faults.world import DEADLINE, World, passages

_TRIES = 6
_PRODUCT = str(Path(airflow_provider_axtx.__file__).parent)
_NOWHERE = "-"


@dataclass(frozen=True)
class Injection:
    """Where a task process is killed, on its first try. With nothing set it only records what it passes.

    :param point: a crash point.
    :param passage: at its n-th passage, from 1.
    :param line: at the n-th line of the product's code that it runs; -1 only counts them.
    :param moment: so many seconds after its start.
    :param warning: it is asked to stop (SIGTERM) at ``line``, and killed so many seconds later, as Airflow does.
    """

    point: str = ""
    passage: int = 1
    line: int = 0
    moment: float | None = None
    warning: float = 0.0

    def __str__(self) -> str:
        if self.line:
            return f"line {self.line}"
        if self.moment is not None:
            return f"after {self.moment:.3f} s"
        return self.point if self.passage == 1 else f"{self.point} (passage {self.passage})"


@dataclass
class Ended:
    """How a child process ended."""

    pid: int
    signal: int
    answer: dict[str, Any] | None
    seconds: float


@dataclass
class Play:
    """One experiment, played task by task.

    :param victim: name of the task that is killed.
    :param injection: where.
    :param disturb: called just before the victim starts: what happens to its surroundings.
    :param after: called when its first try has ended.
    :param left: what was left running too long, found on the way.
    :param sabotage: called in every task process before it works: breaks the product, to test the tests.
    """

    world: World
    victim: str = ""
    injection: Injection | None = None
    disturb: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    sabotage: Callable[[], None] = lambda: None
    kills: int = 0
    trials: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    lines: int = 0
    victim_pids: list[int] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def task(self, name: str, work: Work, *inputs: Any) -> Any:
        """Run a task to its success, in as many tries as it takes; return its XCom.

        :raises GaveUpError: when it failed for good.
        """
        said = ""
        for try_number in range(1, _TRIES + 1):
            ended = self._try(name, try_number, work, inputs)
            if ended.answer and "xcom" in ended.answer:
                return ended.answer["xcom"]
            said = ended.answer["error"] if ended.answer else f"signal {ended.signal}"
            if ended.answer and ended.answer["final"]:
                break
        raise GaveUpError(f"task {name} failed for good: {said}")

    def once(self, name: str, work: Work, *inputs: Any) -> bool:
        """Run a task process that is not retried (a signal handler); return whether it came to its end."""
        return self._try(name, 1, work, inputs).signal == 0

    def _try(self, name: str, try_number: int, work: Work, inputs: tuple[Any, ...]) -> Ended:
        is_victim = name == self.victim and try_number == 1
        injection = self.injection if is_victim else None
        if is_victim:
            self.disturb()
        ended = _run_child(self.world, name, try_number, work, inputs, injection, self.sabotage)
        if is_victim:
            self._note(ended)
            self.after()
        return ended

    def _note(self, ended: Ended) -> None:
        stopped = (
            self.injection is not None and ended.answer is not None and 0 < self.injection.line <= ended.answer["lines"]
        )
        # Before a task has told Python what to do about SIGTERM, that one kills it too.
        self.kills += ended.signal in (signal.SIGKILL, signal.SIGTERM) or stopped
        self.seconds = ended.seconds
        self.lines = ended.answer["lines"] if ended.answer else 0
        self.victim_pids.append(ended.pid)

    def supervisors_killed(self) -> int:
        """Return how many processes other than tasks died at the armed point."""
        if self.injection is None or not self.injection.point:
            return 0
        reached = [(point, n, pid) for point, n, pid in passages(self.world.record) if pid not in self.victim_pids]
        return sum((point, n) == (self.injection.point, self.injection.passage) for point, n, _ in reached)


class GaveUpError(Exception):
    """A task has failed for good."""


def _run_child(
    world: World,
    name: str,
    try_number: int,
    work: Work,
    inputs: tuple[Any, ...],
    injection: Injection | None,
    sabotage: Callable[[], None],
) -> Ended:
    answer = world.root / f"answer-{name}-{try_number}.json"
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become_task(world, TaskInstance(name, try_number, world.root), work, inputs, injection, sabotage, answer)
    status = _await(pid, injection.moment if injection else None)
    if os.WIFSIGNALED(status):
        return Ended(pid, os.WTERMSIG(status), None, time.monotonic() - started)
    return Ended(pid, 0, json.loads(answer.read_text()), time.monotonic() - started)


def _await(pid: int, moment: float | None) -> int:
    """Wait for a child's end; kill it at its moment, and one that hangs at the deadline."""
    descriptor = os.pidfd_open(pid)
    try:
        if moment is not None and not select.select([descriptor], [], [], moment)[0]:
            os.kill(pid, signal.SIGKILL)
        hangs = not select.select([descriptor], [], [], DEADLINE)[0]
        if hangs:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(descriptor)
    status = os.waitpid(pid, 0)[1]
    if hangs:
        raise GaveUpError(f"a task process was still there after {DEADLINE:.0f} s")
    return status


def _become_task(
    world: World,
    ti: TaskInstance,
    work: Work,
    inputs: tuple[Any, ...],
    injection: Injection | None,
    sabotage: Callable[[], None],
    answer: Path,
) -> None:
    code = 1
    try:
        log = os.open(world.root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.environ.pop(ARMED_VARIABLE, None)
        os.environ.update(world.environment())
        # A forked process lacks the threads of its parent. If an earlier test has started the thread of Airflow's
        # asynchronous hooks or those of our triggers, a call that this process gives to them would never return.
        SyncToAsync.single_thread_executor = ThreadPoolExecutor(max_workers=1)
        killing.threads = ThreadPoolExecutor(max_workers=1)
        if world.scheduler == "fake":
            sys.path.insert(0, os.environ["PYTHONPATH"].partition(os.pathsep)[0])
        sabotage()
        tracer = _armed(world, injection)
        content = _answer(work, ti, inputs)
        sys.settrace(None)
        write_json(answer, {**content, "lines": tracer.passed if tracer else 0})
        code = 0
    finally:
        os._exit(code)


def _answer(work: Work, ti: TaskInstance, inputs: tuple[Any, ...]) -> dict[str, Any]:
    try:
        xcom = work(ti, *inputs)
    except AirflowFailException as error:
        return {"error": repr(error), "final": True}
    except Exception as error:  # noqa: BLE001 - Airflow retries after any other
        traceback.print_exc()
        return {"error": repr(error), "final": False}
    # Airflow stores the XCom after the operator has returned; it may die in between.
    crash_point("task.before_xcom")
    return {"xcom": xcom}


class _LineTracer:
    """Counts the lines of the product that run, and kills the process at one of them."""

    def __init__(self, fatal: int, warning: float) -> None:
        self.passed = 0
        self._fatal = fatal
        self._warning = warning

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename.startswith(_PRODUCT) else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.passed += 1
            if self.passed == self._fatal:
                print(f"killed at {frame.f_code.co_filename}:{frame.f_lineno}", file=sys.stderr, flush=True)
                self._kill()
        return self._line

    def _kill(self) -> None:
        if not self._warning:
            os.kill(os.getpid(), signal.SIGKILL)
        killer = threading.Timer(self._warning, os.kill, (os.getpid(), signal.SIGKILL))
        killer.daemon = True
        killer.start()
        # Of lines that the signal handler runs none is fatal any more.
        os.kill(os.getpid(), signal.SIGTERM)


def _armed(world: World, injection: Injection | None) -> _LineTracer | None:
    if injection is None or injection.moment is not None:
        return None
    if injection.line:
        tracer = _LineTracer(injection.line, injection.warning)
        threading.settrace(tracer)  # in a triggerer the work is done in threads
        sys.settrace(tracer)
        return tracer
    os.environ[ARMED_VARIABLE] = f"{injection.point or _NOWHERE}:{injection.passage}:{world.record}"
    return None
