"""Find and end the processes of one Airflow environment, and no others.

Airflow's children leave no single trace: a task changes its process group, the process that supervises a task makes
its environment unreadable for other users than root, an app may start a session of its own. So a process is ours when
its environment carries our marker, or, where the environment cannot be read, when it belongs to a session we started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable

import psutil

MARKER = "AXTX_AIRFLOW_ENV"
PR_SET_PDEATHSIG = 1

Pick = Callable[[psutil.Process], bool]


def marked(home: str, sessions: Iterable[int]) -> Pick:
    """Pick the processes of the environment at `home`, `sessions` being the session ids of its components."""
    ids = frozenset(sessions)

    def pick(process: psutil.Process) -> bool:
        try:
            return bool(process.environ().get(MARKER) == home)
        except psutil.AccessDenied:
            return os.getsid(process.pid) in ids

    return pick


def in_session(session: int) -> Pick:
    """Pick the processes of one session: a component with its workers and tasks, also those it left behind."""
    return lambda process: os.getsid(process.pid) == session


def find(pick: Pick) -> list[psutil.Process]:
    """List the living processes that `pick` accepts, never this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and lives(process) and pick(process):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError, PermissionError):
            continue  # it ended while we looked, or belongs to another user
    return found


def with_descendants(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Add the children of `processes`, recursively, without doubles."""
    found: dict[int, psutil.Process] = {}
    for process in processes:
        try:
            for each in (process, *process.children(recursive=True)):
                found.setdefault(each.pid, each)
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


def send(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to each process that still lives (psutil refuses a pid that was given to another process)."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def wait_gone(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until the processes have ended, up to `timeout` seconds, and return those that still live.

    A zombie has ended. psutil.wait_procs would wait for it in a container whose first process reaps nothing.
    """
    deadline = time.monotonic() + timeout
    while alive := [process for process in processes if lives(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


def lives(process: psutil.Process) -> bool:
    """Tell whether a process still runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill(pick: Pick, timeout: float = 10) -> None:
    """Kill what `pick` accepts, with descendants, until nothing is found.

    A process can fork between the search and the kill, hence the rounds.

    Raises TimeoutError naming the survivors when some live `timeout` seconds after the signal, or after ten rounds.
    """
    for _ in range(10):
        found = with_descendants(find(pick))
        if not found:
            return
        send(found, signal.SIGKILL)
        if wait_gone(found, timeout):
            break
    raise TimeoutError(f"these processes survive SIGKILL, end them by hand: {find(pick)}")


def end(pick: Pick, grace: float) -> None:
    """TERM what `pick` accepts, wait up to `grace` seconds, then kill the rest."""
    found = with_descendants(find(pick))
    send(found, signal.SIGTERM)
    wait_gone(found, grace)
    kill(pick)


def following_parent(number: int = signal.SIGTERM) -> Callable[[], None] | None:
    """Return a `preexec_fn` for a child that is to get a signal when the process that starts it ends in any way.

    None where the system cannot do it (it can on Linux).
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def follow() -> None:
        prctl(PR_SET_PDEATHSIG, number)

    return follow
