"""Forks the supervisors of one submitting process: ``python -I -S spawner.py ROOT``, with a socket as standard input.

Each message on the socket is the path of an app and the armed crash point, and carries the write end of a pipe. The
process forks a supervisor for the app, whose answer goes into the pipe. So only the first submission of a process waits
for an interpreter to start. Nothing depends on this process: it ends when its submitter does, or when it has been idle,
and the supervisors that it has forked live on.
"""

from __future__ import annotations

import os
import select
import socket
import sys

if __name__ == "__main__":  # -I and -S leave the path bare; at its end nothing can hide the standard library.
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))

from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE
from airflow_provider_axtx.launcher.local_detached import supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Seconds without a submission after which the process ends; the next submission starts another one.
IDLE_SECONDS = 60.0
#: A path has at most 4096 bytes; the crash point names another file.
_MOST_BYTES = 16 * 1024


def serve(submitter: socket.socket) -> None:
    """Fork a supervisor for each message, until the submitter is gone or idle."""
    messages = select.poll()
    messages.register(submitter, select.POLLIN)
    while messages.poll(IDLE_SECONDS * 1000):
        message, pipes, _, _ = socket.recv_fds(submitter, _MOST_BYTES, 1)
        if not message or not pipes:
            return
        pid = os.fork()
        if pid == 0:
            _become_supervisor(submitter, message, pipes[0])
        os.close(pipes[0])
        os.waitpid(pid, 0)  # It has forked the supervisor, and is gone at once.


def _become_supervisor(submitter: socket.socket, message: bytes, answer: int) -> NoReturn:
    try:
        os.setsid()
        submitter.detach()
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, target in ((null, 0), (answer, 1), (answer, 2)):
            os.dup2(descriptor, target)
        for descriptor in {null, answer} - {0, 1, 2}:
            os.close(descriptor)
        path, _, armed = message.partition(b"\0")
        os.environ.pop(ARMED_VARIABLE, None)
        if armed:
            os.environ[ARMED_VARIABLE] = os.fsdecode(armed)
        supervisor.main(os.fsdecode(path))
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
        raise
    finally:
        # In any case, the forked copy must not go on as a second spawner.
        os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
