"""Start, kill, restart and end a real Airflow on loopback: scheduler, triggerer, dag processor and API server.

`airflow standalone` is not used: it leaves its children behind when it is killed. Here each component is a process in
a session of its own, so that a test can kill one of them, and everything that came of it is found again at the end.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import urlsplit

import tenacity

from realairflow import processes, settings
from realairflow.api import AirflowApi, poll
from realairflow.settings import Paths

COMPONENTS = {
    "api-server": ("api-server",),
    "dag-processor": ("dag-processor",),
    # Their log servers would listen on every interface; the API server reads the same files from the disk.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
PORT_TRIES = 3
LOG_TAIL = 30


class AirflowEnvError(RuntimeError):
    """Airflow cannot be started; the message says why and has the end of the log to read."""


class PortTaken(AirflowEnvError):
    """Another process took the port between the moment we chose it and the moment the API server bound it."""


class AirflowEnv:
    """One Airflow installation in `home`, on loopback, with Airflow's default settings.

    Use it as a context manager: entering starts all components and waits for them, leaving ends every process that
    came of them, apps included. `home` may be used again later: the database and the logs stay. Only one process at a
    time can hold it, and what an earlier holder left running is ended first.

    `dags` is the DAG folder. `metadata_url` is the SQLAlchemy URL of an empty PostgreSQL database for Airflow's own
    tables, which stay there; without it they are in SQLite in `home`. `options` adds or replaces Airflow options
    (`{"operators.default_deferrable": "True"}`); with a path in `api.base_url` Airflow is served below that path.
    `environ` adds environment variables for all components and tasks (`AIRFLOW_CONN_...`, for instance). With
    `warm_workers` tasks find Ax imported. `components` names those that are started at first. `ready_timeout` and
    `stop_grace` are seconds.

    Raises `AirflowEnvError` when a component ends early, is not ready in time, or `home` is in use.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        metadata_url: str | None = None,
        options: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        warm_workers: bool = False,
        components: Collection[str] = tuple(COMPONENTS),
        ready_timeout: float = 180,
        stop_grace: float = 8,
    ) -> None:
        self.paths = Paths(home.resolve(), dags.resolve())
        self.username = settings.USERNAME
        self.password = ""
        self.port = 0
        self.ready_timeout = ready_timeout
        self.stop_grace = stop_grace
        self._metadata_url = metadata_url
        self._options = dict(options or {})
        self._path = urlsplit(self._options.get("api.base_url", "")).path.rstrip("/")
        self._extra_environ = dict(environ or {})
        self._warm_workers = warm_workers
        self._components = tuple(components)
        self._jwt_secret = secrets.token_urlsafe(32)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started_at: dict[str, dt.datetime] = {}
        self._sessions: dict[int, str] = {}  # session id -> component, also those that were killed
        self._lock: IO[str] | None = None
        self._api: AirflowApi | None = None

    # Places

    @property
    def url(self) -> str:
        """The address of the UI and of the REST API, without a proxy in between."""
        return f"http://127.0.0.1:{self.port}{self._path}"

    @property
    def api(self) -> AirflowApi:
        """The REST API of this Airflow, logged in as an administrator."""
        if self._api is None:
            raise AirflowEnvError("Airflow is not running; enter the environment or call up() first")
        return self._api

    def log_file(self, component: str) -> Path:
        """The file with what a component printed."""
        return self.paths.logs / f"{component}.log"

    def pid(self, component: str) -> int:
        """The process id of a running component. Raises KeyError when it was not started."""
        return self._running[component].pid

    def environ(self) -> dict[str, str]:
        """The environment of every component, and so of every task."""
        options = settings.options(self.paths, self.url, self._jwt_secret, self._metadata_url)
        return settings.environ(self.paths.home, options | self._options, self._extra_environ)

    # Start and end

    def __enter__(self) -> AirflowEnv:
        with ExitStack() as undo:
            undo.callback(self.down)
            self.up()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Prepare `home`, start all components and wait until they are ready."""
        self._take_home()
        self._write_local_settings()
        self._migrate()
        tenacity.retry(
            retry=tenacity.retry_if_exception_type(PortTaken),
            stop=tenacity.stop_after_attempt(PORT_TRIES),
            reraise=True,
        )(self._start_all)()

    def _start_all(self) -> None:
        self._end_processes(grace=0)
        self._choose_port()
        for name in self._components:
            self.start(name)
        self.wait_ready()

    def down(self) -> None:
        """End every process of this environment: TERM, `stop_grace` seconds, KILL. Safe to call twice.

        First the components; then their tasks and apps, which get 5 seconds of their own to cancel what they run.

        Signals that would interrupt this wait until it is done: a second Ctrl-C must not leave processes behind.
        """
        if self._lock is None:
            return
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _interrupts()}
        try:
            self._end_processes(self.stop_grace)
            if self._api is not None:
                self._api.close()
            self._api = None
            self._lock.close()
            self._lock = None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take_home(self) -> None:
        self.paths.logs.mkdir(parents=True, exist_ok=True)
        lock = self.paths.lock.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AirflowEnvError(f"another process runs Airflow in {self.paths.home}; stop it first") from None
        self._lock = lock
        if self.paths.sessions.exists():
            recorded = json.loads(self.paths.sessions.read_text())
            processes.kill(processes.marked(str(self.paths.home), recorded))
        self._write_password()

    def _write_local_settings(self) -> None:
        self.paths.local_settings.parent.mkdir(exist_ok=True)
        self.paths.local_settings.write_text(settings.WARM_WORKERS if self._warm_workers else "")

    def _write_password(self) -> None:
        if self.paths.password.exists():
            self.password = json.loads(self.paths.password.read_text())[self.username]
            return
        self.password = secrets.token_urlsafe(12)
        self.paths.password.touch(mode=0o600)
        self.paths.password.write_text(json.dumps({self.username: self.password}))

    def _migrate(self) -> None:
        self.airflow("db", "migrate")
        if self._metadata_url is not None:
            return
        # Four components share the file; WAL lets them read while one writes. The mode stays with the file.
        with sqlite3.connect(self.paths.database) as database:
            database.execute("PRAGMA journal_mode=WAL")
        database.close()

    def _choose_port(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        if self._api is not None:
            self._api.close()
        self._api = AirflowApi(self.url, self.username, self.password)

    def airflow(self, *arguments: str, timeout: float = 180) -> str:
        """Run an `airflow` command in this environment and return what it printed.

        Raises `AirflowEnvError` with its output when it fails, and subprocess.TimeoutExpired.
        """
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(
            command,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.paths.home,
            check=False,
        )
        if done.returncode:
            raise AirflowEnvError(f"airflow {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    # One component

    def start(self, component: str) -> None:
        """Start a component that is not running; `wait_ready(component)` waits for it."""
        if component in self._running and self._running[component].poll() is None:
            raise AirflowEnvError(f"{component} is running already (pid {self.pid(component)})")
        self._started_at[component] = dt.datetime.now(dt.UTC)
        with self.log_file(component).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *COMPONENTS[component]],
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.paths.home,
                start_new_session=True,
                preexec_fn=processes.following_parent(),
            )
        self._running[component] = process
        self._sessions[process.pid] = component
        self.paths.sessions.write_text(json.dumps(list(self._sessions)))

    def kill(self, component: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process of a component alone, and wait for its end. Its children stay."""
        process = self._running.pop(component)
        process.send_signal(number)
        process.wait(self.stop_grace)

    def kill_tree(self, component: str) -> None:
        """Kill a component with its workers and running tasks, also those of an earlier `kill` of it.

        Apps that were started in a session of their own live on.
        """
        process = self._running.pop(component, None)
        for session, name in self._sessions.items():
            if name == component:
                processes.kill(processes.in_session(session))
        if process is not None:
            process.wait(self.stop_grace)

    def wait_ready(self, *components: str, timeout: float | None = None) -> None:
        """Wait until the components (all that are running, when none is named) work.

        Raises `AirflowEnvError` with the end of its log when one of them ends, or after `timeout` seconds.
        """
        names = components or tuple(self._running)
        deadline = time.monotonic() + (self.ready_timeout if timeout is None else timeout)
        while waiting := [name for name in names if not self._is_ready(name)]:
            for name in self._running:
                self._check_alive(name)
            if time.monotonic() > deadline:
                raise AirflowEnvError(f"{waiting} not ready in time; {self._tail(waiting[0])}")
            time.sleep(0.2)

    def wait_unhealthy(self, component: str, timeout: float = 120) -> None:
        """Wait until Airflow regards a component that was killed as dead: by default 30 seconds after its last sign.

        Raises TimeoutError after `timeout` seconds.
        """
        name = component.replace("-", "_")
        poll(lambda: self.api.health()[name]["status"] != "healthy" or None, timeout, f"{component} to be unhealthy")

    def wait_ended(self) -> str:
        """Block until a component ends by itself, and return its name."""
        while not (ended := [name for name, process in self._running.items() if process.poll() is not None]):
            time.sleep(1)
        return ended[0]

    def _is_ready(self, component: str) -> bool:
        if not self.api.accepts_us():
            return False
        if component == "api-server":
            return True
        name = component.replace("-", "_")
        found = self.api.health()[name]
        beat = found[f"latest_{name}_heartbeat"]
        # The heartbeat of a killed predecessor looks healthy for a while.
        return (
            found["status"] == "healthy"
            and beat is not None
            and dt.datetime.fromisoformat(beat) >= self._started_at[component]
        )

    def _check_alive(self, component: str) -> None:
        code = self._running[component].poll()
        if code is None:
            return
        tail = self._tail(component)
        if component == "api-server" and "address already in use" in tail.lower():
            raise PortTaken(f"port {self.port} was taken; {tail}")
        raise AirflowEnvError(f"{component} ended with exit code {code}; {tail}")

    def _tail(self, component: str) -> str:
        lines = self.log_file(component).read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join([f"end of {self.log_file(component)}:", *lines])

    def _end_processes(self, grace: float) -> None:
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + grace
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        processes.end(processes.marked(str(self.paths.home), self._sessions), grace=min(grace, 5))
        self._sessions.clear()
        self.paths.sessions.unlink(missing_ok=True)


def _interrupts() -> tuple[signal.Signals, ...]:
    # Python lets only the main thread change handlers.
    return (
        (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    )
