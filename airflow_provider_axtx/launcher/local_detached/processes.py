"""Processes of an app: starting them so that they die with their supervisor, and finding all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from airflow_provider_axtx.launcher.local_detached.app_dir import TOKEN_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Signals that the supervisor takes itself (blocked, ``sigtimedwait``); an app starts with none blocked.
SUPERVISED_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Seconds within which a killed process is expected to be gone.
_DYING_SECONDS = 5.0

try:
    import ctypes
except ImportError:  # A Python built without it: observers and the token still find what escapes.
    ctypes = None  # type: ignore[assignment]


def _prctl(option: int, value: int) -> bool:
    return ctypes is not None and bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value)) == 0)


def adopt_orphans() -> bool:
    """Make this process the parent of descendants whose own parent dies; return False where that cannot be."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Process:
    """One line of the process table: parent, process group, session, start time in clock ticks since boot."""

    __slots__ = ("group", "parent", "session", "start", "zombie")

    def __init__(self, stat: str) -> None:
        # The command name is in parentheses and may itself hold spaces and parentheses.
        fields = stat[stat.rindex(")") + 2 :].split()
        self.zombie = fields[0] == "Z"
        self.parent, self.group, self.session, self.start = (int(fields[i]) for i in (1, 2, 3, 19))


def process_table() -> dict[int, Process]:
    """Return every process that is visible here, by its pid."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It ended meanwhile.
                table[int(name)] = process(int(name))
    return table


def process(pid: int) -> Process:
    """Return one process.

    :raises FileNotFoundError, ProcessLookupError: when there is no such process.
    """
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return Process(file.read())


def signal_children(number: int) -> None:
    """Send a signal to the process group of every child of this process, adopted ones included.

    Only children: this process has not reaped them, so neither their pid nor their group can have been reused.
    """
    me, own_group = os.getpid(), os.getpgrp()
    for pid, entry in process_table().items():
        if entry.parent == me:
            # A child that has escaped may have changed its user; what cannot be signalled is waited for.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if entry.group == own_group:
                    os.kill(pid, number)
                else:
                    os.killpg(entry.group, number)


def kill_app(token: str, leaders: dict[int, int], owner: int) -> list[int]:
    """Kill every process of an app whose supervisor is dead.

    After a crash a pid alone does not identify a process. A process belongs to the app when it has the token in its
    environment, when it is in the session of a replica that still has its recorded start time, or when it shares a
    replica's session with one of those.

    :param token: the app's token, from ``request.json``.
    :param leaders: pid -> start time of its replicas, from ``running.json``.
    :param owner: user id of the app's owner; only that user's processes are killed, all if it is root.
    :return: pids that were still there after five seconds.
    """
    deadline = time.monotonic() + _DYING_SECONDS
    while victims := {pid for pid in _processes_of(token, leaders) if owner == 0 or _user_of(pid) == owner}:
        for pid in victims:
            # This user may not kill a process that has changed its user: it is reported.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return sorted(victims)
        time.sleep(0.02)
    return []


def _processes_of(token: str, leaders: dict[int, int]) -> set[int]:
    table = {pid: entry for pid, entry in process_table().items() if not entry.zombie}
    marked = {pid for pid in table if _carries(pid, token)}
    sessions = {table[pid].session for pid in marked} & leaders.keys()
    sessions |= {
        pid
        for pid, start in leaders.items()
        if pid in table and table[pid].start == start and table[pid].session == pid
    }
    return marked | {pid for pid, entry in table.items() if entry.session in sessions}


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except (FileNotFoundError, ProcessLookupError):  # It ended.
        return None


def _carries(pid: int, token: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{TOKEN_VARIABLE}={token}".encode() in file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # It ended, or is another user's.
        return False


def start_replica(replica: dict[str, Any], output: int, gate: int, gate_keeper: int) -> int:
    """Fork one replica, which runs its command only after it has read a byte from ``gate``.

    The supervisor can thus record the pids before any replica does something. When it is killed in between, its
    children read end-of-file and exit.

    :param replica: ``args``, ``env``, ``cwd`` of ``request.json``.
    :param output: write end of a pipe, for its standard output and standard error.
    :param gate: read end of a pipe.
    :param gate_keeper: its write end, which only the supervisor may keep open.
    :return: the pid, which is also its session and process group.
    """
    pid = os.fork()
    if pid == 0:
        _become_replica(replica, output, gate, gate_keeper)
    return pid


def _become_replica(replica: dict[str, Any], output: int, gate: int, gate_keeper: int) -> NoReturn:
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(gate_keeper)
        if os.read(gate, 1):
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.chdir(replica["cwd"] or "/")
            for number in (*SUPERVISED_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)  # Python ignores the last two, and exec would keep that.
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvpe(replica["args"][0], replica["args"], replica["env"])
    except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument or a variable.
        os.write(2, f"cannot run {replica['args']} in {replica['cwd']}: {error}\n".encode())
    finally:
        # In any case, the forked copy of the supervisor must not go on as a second supervisor.
        os._exit(127)
