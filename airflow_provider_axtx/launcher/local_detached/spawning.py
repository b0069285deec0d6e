"""The submitter's side of ``spawner.py``: one spawner for each process, started at its first submission."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time

from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE
from airflow_provider_axtx.launcher.local_detached import spawner
from airflow_provider_axtx.launcher.local_detached.environment import app_environment

#: Seconds for a supervisor to start, on the most loaded host.
_START_TIMEOUT = 120.0


class _Spawner:
    """A running spawner.

    :param root: directory of all apps; only shown in its command line.
    :raises OSError: it cannot be started.
    """

    def __init__(self, root: str) -> None:
        self.started_with = root, sys.executable
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # It inherits only these: otherwise it would keep open sockets of a task process open.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", spawner.__file__, root],
                stdin=other.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env=app_environment(os.environ),
                start_new_session=True,
            )
        except OSError:
            self._socket.close()
            raise
        finally:
            other.close()

    def ask(self, path: str) -> str | None:
        """Have a supervisor forked for the app at ``path``; return its answer, or None when the spawner has ended.

        :raises TimeoutError: there is no answer.
        """
        reader, writer = os.pipe()
        try:
            message = b"\0".join((os.fsencode(path), os.fsencode(os.environ.get(ARMED_VARIABLE, ""))))
            try:
                socket.send_fds(self._socket, [message], [writer])
            except OSError:  # It was idle and has ended.
                return None
            finally:
                os.close(writer)
            return _read_to_end(reader) or None
        finally:
            os.close(reader)

    def close(self) -> str:
        """End it; return what it has said of an error."""
        self._socket.close()
        said: bytes = self._process.communicate()[1]
        return said.decode(errors="replace").strip()

    def forget(self) -> None:
        """Let go of it in a forked process, whose it is not."""
        self._socket.close()
        self._process.returncode = 0  # of another process: nothing to wait for


_current: _Spawner | None = None
_lock = threading.Lock()


def supervise(root: str, path: str) -> str:
    """Start a supervisor for the committed app at ``path`` and return its answer: ``won`` or ``lost``, or an error.

    :raises OSError: no process can be started.
    :raises TimeoutError: there is no answer.
    """
    said = ""
    for _ in range(2):  # The one from before may have ended.
        used = _running(root)
        if (answer := used.ask(path)) is not None:
            return answer
        said = _drop(used)
    return said or "its process ended without an answer"


def _running(root: str) -> _Spawner:
    global _current
    with _lock:
        if _current is not None and _current.started_with != (root, sys.executable):
            _current.close()
            _current = None
        if _current is None:
            _current = _Spawner(root)
        return _current


def _drop(ended: _Spawner) -> str:
    global _current
    with _lock:
        if _current is not ended:
            return ""  # another thread has noticed it before
        _current = None
    return ended.close()


def _read_to_end(reader: int) -> str:
    deadline = time.monotonic() + _START_TIMEOUT
    parts: list[bytes] = []
    # Not select(), which fails in a process with more than 1,024 open files.
    answer = select.poll()
    answer.register(reader, select.POLLIN)
    while answer.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if not (part := os.read(reader, 1 << 16)):
            return b"".join(parts).decode(errors="replace")
        parts.append(part)
    raise TimeoutError(f"no answer within {_START_TIMEOUT:.0f} s")


def _close() -> None:
    global _current
    if _current is not None:
        _current.close()
        _current = None


def _after_fork() -> None:
    global _current, _lock
    _lock = threading.Lock()
    if _current is not None:
        with contextlib.suppress(OSError):
            _current.forget()
        _current = None


atexit.register(_close)
os.register_at_fork(after_in_child=_after_fork)
