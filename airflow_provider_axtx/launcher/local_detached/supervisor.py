"""The process that owns one app of ``local_detached`` from queue to end; ``spawner.py`` forks it.

It is the only writer of the state files while it lives. It prints ``won`` when this process became the app's
supervisor and ``lost`` when another one was first (or the app has ended), then lets go of its standard streams.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.launcher.local_detached.app_dir import (
    CANCEL,
    REQUEST,
    RUNNING,
    STARTED,
    AppDir,
    this_host,
    try_lock,
)
from airflow_provider_axtx.launcher.local_detached.host_queue import Queue
from airflow_provider_axtx.launcher.local_detached.output import Output
from airflow_provider_axtx.launcher.local_detached.processes import (
    SUPERVISED_SIGNALS,
    adopt_orphans,
    kill_app,
    process,
    signal_children,
    start_replica,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds between two looks at the cancel marker and the queue; an exiting child ends the wait at once.
_INTERVAL = 0.2
#: Seconds between two attempts to record the end on a full disk.
_RECORD_INTERVAL = 2.0
#: Bytes of output that are kept of an app whose request does not say it.
_DEFAULT_LOG_BYTES = 100 * 1024 * 1024

End = tuple[str, str, bool]
CANCELLED: End = ("CANCELLED", "cancelled on request", False)
LOST_BY_SIGNAL: End = ("FAILED", "lost: its supervisor was told to stop (host shutting down?)", True)


class Supervisor:
    """Runs one app that this process has claimed.

    :param app: its directory.
    :param request: the content of its ``request.json``.
    :param host: name of this host.
    """

    def __init__(self, app: AppDir, request: dict[str, Any], host: str) -> None:
        self._app = app
        self._request = request
        # A request of an older version has no limit of the host.
        host_limit = request.get("host_max_parallel") or sys.maxsize
        self._queue = Queue(app.root, host, app.app_id, request["max_parallel"], host_limit)
        self._live: dict[int, str] = {}
        self._leaders: dict[int, int] = {}
        self._exits: dict[str, int] = {}
        self._failure: str | None = None
        self._told_to_stop = False
        self._outputs: list[Output] = []

    def run(self) -> None:
        """Queue, run, record the end."""
        self._adopts = adopt_orphans()
        try:
            self._queue.join()
            crash_point("supervisor.after_join")
            _answer("won")
            _let_go(self._app)
            end = self._wait_for_slot() or self._run_app()
        except BaseException as error:
            self._kill()
            self._app.write_final("FAILED", f"lost: its supervisor failed: {error!r}", True, self._exits)
            raise
        crash_point("supervisor.before_final")
        self._record(*end)
        crash_point("supervisor.after_final")

    def _record(self, state: str, message: str, infrastructure: bool) -> None:
        trouble = next((output.trouble for output in self._outputs if output.trouble), "")
        while True:
            try:
                return self._app.write_final(state, message + trouble, infrastructure, self._exits)
            except OSError as error:
                # The disk is full: the result is known only here, so stay until there is room for it.
                with contextlib.suppress(OSError):  # So may be the disk of supervisor.log.
                    os.write(2, f"cannot record {state}: {error}\n".encode())
                self._pause(_RECORD_INTERVAL)
                if self._told_to_stop:
                    raise

    def _interrupted(self) -> End | None:
        if self._app.has(CANCEL):
            return CANCELLED
        return LOST_BY_SIGNAL if self._told_to_stop else None

    def _wait_for_slot(self) -> End | None:
        while not (end := self._interrupted()):
            if self._queue.enter():
                crash_point("supervisor.after_slot")
                return None
            self._pause(_INTERVAL)
        self._queue.leave()
        return end

    def _run_app(self) -> End:
        self._start()
        while self._live and self._failure is None and not self._interrupted():
            self._pause(_INTERVAL)
            self._look()
        end = self._end()
        if self._live:
            self._terminate()
        self._kill()
        for output in self._outputs:
            output.finish()
        self._queue.leave()
        return end

    def _end(self) -> End:
        if self._failure is not None:
            # A host that shuts down signals the app as well: that is not the app's own failure.
            return LOST_BY_SIGNAL if self._told_to_stop else ("FAILED", self._failure, False)
        # An app that has finished by itself has finished, even if it was cancelled a moment later.
        return (self._interrupted() if self._live else None) or ("SUCCEEDED", "", False)

    def _start(self) -> None:
        gate, gate_keeper = os.pipe()
        every = [
            (f"{role['name']}/{k}", replica)
            for role in self._request["roles"]
            for k, replica in enumerate(role["replicas"])
        ]
        limit = self._request.get("log_bytes", _DEFAULT_LOG_BYTES) // len(every)
        for name, replica in every:
            output = Output(replica["combined"], limit)
            self._outputs.append(output)
            self._live[start_replica(replica, output.writer, gate, gate_keeper)] = name
        crash_point("supervisor.after_fork")
        for output in self._outputs:  # Not earlier: a fork copies no thread, but what it holds.
            output.start()
        self._leaders = {pid: process(pid).start for pid in self._live}
        self._app.write(RUNNING, {"time": time.time(), "leaders": self._leaders})
        crash_point("supervisor.after_running")
        # The forked replicas have their own copies.
        self._app.remove_secrets()
        os.write(gate_keeper, b"g" * len(self._live))
        os.close(gate_keeper)
        os.close(gate)
        crash_point("supervisor.after_release")

    def _look(self) -> bool:
        """Collect what has exited; return whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if (name := self._live.pop(pid, None)) is not None:
                self._exited(name, os.waitstatus_to_exitcode(status))

    def _exited(self, name: str, code: int) -> None:
        self._exits[name] = code
        if code != 0 and self._failure is None:
            self._failure = f"{name}: {f'killed by {_signal_name(-code)}' if code < 0 else f'exit code {code}'}"

    def _terminate(self) -> None:
        """Send SIGTERM to all processes, orphans included, and wait for the grace: a shell may die before its child."""
        signal_children(signal.SIGTERM)
        deadline = time.monotonic() + self._request["term_grace"]
        while self._look() and (left := deadline - time.monotonic()) > 0:
            self._pause(min(left, _INTERVAL))

    def _kill(self) -> None:
        """Kill descendants until none is left; the children of a killed process become children of this one."""
        if not self._adopts:
            kill_app(self._request["token"], self._leaders, os.getuid())
        pause = 0.01
        while self._look():
            signal_children(signal.SIGKILL)
            self._pause(pause)
            pause = min(2 * pause, 1.0)  # A process that hangs in the kernel may take long.

    def _pause(self, seconds: float) -> None:
        received = signal.sigtimedwait(SUPERVISED_SIGNALS, seconds)
        if received is not None and received.si_signo in (signal.SIGTERM, signal.SIGINT):
            self._told_to_stop = True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal.
        return f"signal {number}"


def _answer(word: str) -> None:
    try:
        os.write(1, word.encode())
    except BrokenPipeError:  # The submitter has died; the app is committed and runs all the same.
        return


def _let_go(app: AppDir) -> None:
    """Redirect the standard streams: the submitter waits for their end."""
    log = os.open(app.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.close(log)


def claim(app: AppDir) -> dict[str, str] | None:
    """Become the app's one supervisor, or return None when it has or had one.

    The lock is kept until this process dies. ``started.json`` is written under it and before anything runs, so
    every later holder of the lock knows that the app must never be started again.
    """
    while not app.started_or_ended():
        if try_lock(app.lock) is None:
            time.sleep(0.01)  # An observer holds the lock for an instant, or another supervisor is about to write.
            continue
        crash_point("supervisor.after_lock")
        if app.started_or_ended():
            return None
        host = this_host()
        app.write(STARTED, {**host, "pid": os.getpid(), "time": time.time()})
        crash_point("supervisor.after_started")
        return host
    return None


def main(path: str) -> None:
    """Detach and supervise the app in the directory ``path``; the calling process returns at once."""
    if os.fork():
        os._exit(0)
    # Inherited as "ignore", it would let the kernel reap the replicas and discard their exit codes.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, SUPERVISED_SIGNALS)
    app = AppDir(*os.path.split(path))
    crash_point("supervisor.before_lock")
    host = claim(app)
    if host is None:
        return _answer("lost")
    request = app.read(REQUEST)
    if request is None:
        raise FileNotFoundError(f"{path}/{REQUEST}")
    Supervisor(app, request, host["host"]).run()
    return None
