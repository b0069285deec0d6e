"""A platform's Airflow on this machine: CeleryExecutor, PostgreSQL, Redis, two schedulers, two triggerers, two hosts.

``hosta`` runs everything at first; workers and triggerers on ``hostb`` are started on demand. Airflow has its default
settings, except for how often DAG files are looked at and how many tasks a worker runs at once. Nothing listens outside
the network of the two hosts. Needs root, Debian's ``redis-server`` and ``iproute2``, and an environment with Airflow's
provider for Celery (``celery.sh`` makes it).
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil
from cryptography.fernet import Fernet
from realairflow import AirflowApi, poll, processes, settings

from tests.engines.machines import Machine
from tests.engines.postgres import PostgresServer

ADDRESSES = {"hosta": "10.77.0.1", "hostb": "10.77.0.2"}
API_PORT, REDIS_PORT = 8080, 6379
#: Two schedulers, triggerers and workers on one host: each would serve its logs on the same port.
_NO_LOGS = "--skip-serve-logs"
#: Host and ``airflow`` command of each component. A worker takes tasks of a queue of its own, too, so that a test knows
#: which one runs a task.
COMPONENTS: dict[str, tuple[str, list[str]]] = {
    "api-server": ("hosta", ["api-server"]),
    "dag-processor": ("hosta", ["dag-processor"]),
    "scheduler-1": ("hosta", ["scheduler", _NO_LOGS]),
    "scheduler-2": ("hosta", ["scheduler", _NO_LOGS]),
    "triggerer-1": ("hosta", ["triggerer", _NO_LOGS]),
    "triggerer-2": ("hosta", ["triggerer", _NO_LOGS]),
    "worker-1": ("hosta", ["celery", "worker", "-H", "worker-1@hosta", _NO_LOGS, "-q", "default,one"]),
    "worker-2": ("hosta", ["celery", "worker", "-H", "worker-2@hosta", _NO_LOGS, "-q", "default,two"]),
    "worker-3": ("hosta", ["celery", "worker", "-H", "worker-3@hosta", _NO_LOGS]),
    "worker-4": ("hosta", ["celery", "worker", "-H", "worker-4@hosta", _NO_LOGS]),
    "worker-b": ("hostb", ["celery", "worker", "-H", "worker-b@hostb"]),
    "triggerer-b": ("hostb", ["triggerer"]),
}
ON_DEMAND = ("worker-3", "worker-4", "worker-b", "triggerer-b")
_READY_SECONDS = 240.0
_STOP_SECONDS = 60.0


Configure = Callable[["AirflowCluster"], Mapping[str, str]]


class AirflowCluster:
    """One deployment; use as a context manager. The thread that enters it is in the network of ``hosta`` until it ends.

    :param dags: the folder of DAG files.
    :param configure: returns further variables of every process, such as connections; called when ``store_url`` and
        ``shared`` are there.
    """

    def __init__(self, dags: Path, configure: Configure) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="axtx-platform-", dir="/tmp"))
        #: A folder that both hosts see.
        self.shared = self.folder / "shared"
        #: Another one, which stands for an object store.
        self.results = Path(tempfile.mkdtemp(prefix="axtx-results-", dir="/tmp"))
        self.home = self.folder / "home"
        for folder in (self.shared, self.home, self.folder / "log"):
            folder.mkdir()
        self.hosts = {
            name: Machine(name, address, self.folder / name, self.home, ADDRESSES)
            for name, address in ADDRESSES.items()
        }
        self._dags = dags
        self._configure = configure
        self._environ: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        #: Length of the log of each component when it was started last.
        self._begun: dict[str, int] = {}
        self._redis: subprocess.Popen[bytes] | None = None
        self._ending = ExitStack()
        address = ADDRESSES["hosta"]
        password = secrets.token_hex(8)
        #: Further variables of workers.
        self.worker_environ: dict[str, str] = {}
        self._passwords = {settings.USERNAME: password}
        self.api = AirflowApi(f"http://{address}:{API_PORT}", settings.USERNAME, password)

    def __enter__(self) -> AirflowCluster:
        try:
            self._start()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _start(self) -> None:
        for folder in (self.folder, self.results):
            self._ending.callback(shutil.rmtree, folder)
        for machine in self.hosts.values():
            self._ending.callback(machine.stop)
            machine.start()
        self.hosts["hosta"].connect(self.hosts["hostb"])
        self._ending.enter_context(self.hosts["hosta"].network())
        self.postgres = PostgresServer(address=ADDRESSES["hosta"])
        self._ending.callback(self.postgres.remove)
        self.postgres.start()
        self._ending.callback(self.stop_redis)
        self.start_redis()
        self.store_url = self.postgres.url(self.postgres.new_database())
        options = self._options(self.postgres.url(self.postgres.new_database()))
        self._environ = settings.environ(
            self.home, options, {"NO_PROXY": "*", "no_proxy": "*", **self._configure(self)}
        )
        self.airflow("db", "migrate")
        self._ending.callback(self._end_components)
        for component in COMPONENTS:
            if component not in ON_DEMAND:
                self.start(component)
        self._await_ready()

    def _options(self, metadata: str) -> dict[str, str]:
        (self.folder / "passwords.json").write_text(json.dumps(self._passwords))
        url = f"http://{ADDRESSES['hosta']}:{API_PORT}"
        return {
            "core.executor": "CeleryExecutor",
            "core.load_examples": "False",
            "core.dags_folder": str(self._dags),
            "core.fernet_key": Fernet.generate_key().decode(),
            "core.execution_api_server_url": f"{url}/execution/",
            "core.simple_auth_manager_users": f"{settings.USERNAME}:admin",
            "core.simple_auth_manager_passwords_file": str(self.folder / "passwords.json"),
            "api.host": ADDRESSES["hosta"],
            "api.port": str(API_PORT),
            "api.base_url": url,
            "api.secret_key": secrets.token_hex(16),
            "api_auth.jwt_secret": secrets.token_hex(32),
            "database.sql_alchemy_conn": metadata.replace("+psycopg:", "+psycopg2:"),
            # Airflow would expect asyncpg; SQLAlchemy's dialect for psycopg 3 serves both ways.
            "database.sql_alchemy_conn_async": metadata,
            "celery.broker_url": f"redis://{ADDRESSES['hosta']}:{REDIS_PORT}/0",
            # Two tasks of the scenarios that wait for Airflow's timeouts, and two of any other test.
            "celery.worker_concurrency": "4",
            # The tests see new DAG files sooner. No heartbeat or timeout is changed.
            "dag_processor.refresh_interval": "15",
            "dag_processor.parsing_processes": "1",
            # By default below /tmp, where a Git bundle would find the clone of an earlier cluster's repository.
            "dag_processor.dag_bundle_storage_path": str(self.folder / "bundles"),
        }

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        wanted = ("scheduler", "triggerer", "dag_processor")
        while not (self.api.accepts_us() and all(self.api.health()[name]["status"] == "healthy" for name in wanted)):
            for component, process in self._running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{component} ended: {self.log(component)[-4000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Airflow is not ready: {self.log('api-server')[-4000:]}")
            time.sleep(0.5)
        self.await_workers("worker-1", "worker-2")

    # Airflow's components

    def airflow(self, *arguments: str, host: str = "hosta") -> str:
        """Run an ``airflow`` command on a host and return what it printed."""
        command = self.hosts[host].inside(sys.executable, "-m", "airflow", *arguments)
        done = subprocess.run(
            command, env=self._environ, capture_output=True, text=True, timeout=_READY_SECONDS, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start(self, component: str, environ: Mapping[str, str] | None = None, *, also: tuple[str, ...] = ()) -> None:
        """Start a component.

        :param environ: further variables of its processes.
        :param also: further words of its command.
        """
        host, command = COMPONENTS[component]
        if component.startswith("worker"):
            environ = {**self.worker_environ, **(environ or {})}
        # A worker imports Ax once for all its tasks, as docs/performance.md recommends.
        local_settings = self.hosts[host].folder / "home" / "config" / "airflow_local_settings.py"
        local_settings.parent.mkdir(exist_ok=True)
        local_settings.write_text(settings.WARM_WORKERS)
        with self._log_file(component).open("ab") as log:
            self._begun[component] = len(self.log(component))
            self._running[component] = subprocess.Popen(
                self.hosts[host].inside(sys.executable, "-m", "airflow", *command, *also),
                env={**self._environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                # What it starts ends with the host. A paused one would stay.
                preexec_fn=processes.following_parent(signal.SIGKILL),
            )

    def await_workers(self, *components: str) -> None:
        """Wait until the workers that were started last take tasks."""
        for component in components:
            self._await_printed(component, " ready.")

    def main_process(self, component: str) -> psutil.Process:
        """Return its main process: the one that a container's engine signals."""
        return psutil.Process(self._running[component].pid).children()[0]

    def group(self, component: str) -> list[psutil.Process]:
        """Return all its processes, as far as they have not begun a session of their own, as apps do."""
        launcher = self._running[component].pid
        return [one for one in processes.find(processes.in_session(launcher)) if one.pid != launcher]

    def signal(self, component: str, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the main process of a component, or to all its processes."""
        processes.send(self.group(component) if group else [self.main_process(component)], number)

    def pause(self, component: str) -> None:
        """Stop all processes of a component, without ending them."""
        self.signal(component, signal.SIGSTOP, group=True)

    def go_on(self, component: str) -> None:
        """Let all processes of a paused component go on, and the one that started them."""
        processes.send(processes.find(processes.in_session(self._running[component].pid)), signal.SIGCONT)

    def await_end(self, component: str, seconds: float = _STOP_SECONDS) -> None:
        """Wait until the main process of a component has ended."""
        self._running.pop(component).wait(seconds)

    def kill(self, component: str) -> None:
        """Kill all processes of a component at once, as the end of its container does."""
        launcher = self._running.pop(component)
        processes.kill(processes.in_session(launcher.pid))
        launcher.wait(_STOP_SECONDS)

    def restart_ended(self) -> None:
        """Start again what has ended by itself, as a platform does with its containers.

        Airflow's schedulers, triggerers and DAG processor end when their database is away for some seconds.
        """
        for component, process in list(self._running.items()):
            if process.poll() is not None:
                self.start(component)

    def is_running(self, component: str) -> bool:
        """Return whether the main process of a component runs."""
        return component in self._running and self._running[component].poll() is None

    def log(self, component: str) -> str:
        """Return what the component has printed."""
        return self._log_file(component).read_text(errors="replace")

    def _log_file(self, component: str) -> Path:
        return self.folder / "log" / f"{component}.log"

    def _await_printed(self, component: str, text: str) -> None:
        def look() -> bool | None:
            return text in self.log(component)[self._begun[component] :] or None

        poll(look, _READY_SECONDS, lambda: f"{text!r} of {component}: {self.log(component)[-4000:]}")

    def _end_components(self) -> None:
        for component in list(self._running):
            self.kill(component)

    # What Airflow needs

    def start_redis(self) -> None:
        """Start Redis, without anything of what it held before."""
        address = ADDRESSES["hosta"]
        options = ["--bind", address, "--port", str(REDIS_PORT), "--save", "", "--protected-mode", "no"]
        with self._log_file("redis").open("ab") as log:
            self._redis = subprocess.Popen(
                ["redis-server", *options, "--dir", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=processes.following_parent(signal.SIGKILL),
            )
        poll(_listens(address, REDIS_PORT), 30, lambda: self.log("redis"))

    def await_database(self) -> None:
        """Wait until the API server has its database again."""
        poll(lambda: self._has_database() or None, _READY_SECONDS, lambda: self.log("api-server")[-4000:])

    def _has_database(self) -> bool:
        self.restart_ended()
        return self.api.accepts_us() and self.api.health()["metadatabase"]["status"] == "healthy"

    def stop_redis(self) -> None:
        """Kill Redis: all messages in it are lost."""
        if self._redis is not None:
            self._redis.kill()
            self._redis.wait()
            self._redis = None


def _listens(address: str, port: int) -> Callable[[], bool | None]:
    def look() -> bool | None:
        with socket.socket() as probe:
            return probe.connect_ex((address, port)) == 0 or None

    return look
