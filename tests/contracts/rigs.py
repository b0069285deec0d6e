"""One scheduler each, with the means by which a test rules it: submit a probe app, let it end, fill the queue, cut off.

The probe is the same everywhere, see ``apps``.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.keys import submission_key
from airflow_provider_axtx.launcher.plan import SubmissionPlan
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.contracts.apps import SCRIPT, probe
from tests.engines.docker import HOST_FOLDERS, DockerEngine
from tests.engines.kubernetes import KubernetesCluster
from tests.engines.slurm import SlurmCluster
from tests.fakes.scheduler import FakeCluster

DEADLINE_SECONDS = 60.0
#: Seconds that each kind of call took, by scheduler.
TIMES: dict[tuple[str, str], list[float]] = defaultdict(list)


class Rig:
    """A scheduler under test.

    :param folder: a folder that the test and its apps share.
    """

    name = ""
    scheduler_args: Mapping[str, Any] = {}
    component_args: Mapping[str, Any] = {}
    #: Cases that this scheduler cannot have, and why; shown in the table.
    cannot: Mapping[str, str] = {}
    #: What the app's end after a cancellation may look like before the recorded intent is applied.
    after_cancel: frozenset[str] = frozenset({"CANCELLED"})
    tells_exit_code = True
    #: Whether the scheduler tells when an app began to run, and when it ended.
    tells_times = True
    #: Options that lead to another place than those with which apps are submitted, and environment variables that do.
    other_args: Mapping[str, Any] = {}
    other_environment: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: A submission key of this test's own: a cluster remembers those of other tests.
        self.key = submission_key("contract", secrets.token_hex(8), 1, 1)
        folder.mkdir(parents=True, exist_ok=True)
        self.launcher = self.new_launcher()

    def new_launcher(self) -> TorchXLauncher:
        """Return an engine as another process would make it."""
        return TorchXLauncher(self.name, scheduler_args=self.scheduler_args)

    def attempt_launcher(self, recorded: Mapping[str, Any]) -> TorchXLauncher:
        """Return a launcher as a process makes it that knows only what was recorded with an attempt."""
        return TorchXLauncher.for_attempt(self.name, recorded)

    # -- what the launcher does, timed

    def submit(self, key: str, value: str = "v", mode: str = "wait", **arguments: Any) -> str:
        """Plan and submit a probe."""
        plan = self.planned(key, value, mode, **arguments)
        handle: str = self._timed("submit", lambda: self.launcher.submit(plan))
        return handle

    def planned(self, key: str, value: str = "v", mode: str = "wait", **arguments: Any) -> SubmissionPlan:
        """Plan a probe."""
        typed = {name: arguments.pop(name) for name in ("number", "count", "flag") if name in arguments}
        return self.launcher.plan(
            probe,
            {"value": value, **typed},
            {"folder": str(self.folder), "key": key, "mode": mode, **self.component_args, **arguments},
            trial_index=0,
            experiment="contract",
            tracker_base=str(self.folder),
            submission_key=key,
        )

    def observe(self, handle: str) -> AppObservation:
        """Look at one app."""
        return self._timed("observe", lambda: self.launcher.observe([handle]))[handle]

    def find(self, key: str) -> str | None:
        """Look for a key."""
        return self._timed("find", lambda: self.launcher.find(key))

    def cancel(self, handle: str) -> None:
        """Cancel one app."""
        self._timed("cancel", lambda: self.launcher.cancel(handle))

    def _timed(self, what: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        self.note(what, time.perf_counter() - began)
        return result

    def note(self, what: str, seconds: float) -> None:
        """Note how long something took, for the table."""
        TIMES[self.name, what].append(seconds)

    # -- waiting

    def await_state(self, handle: str, *states: str, seconds: float = DEADLINE_SECONDS) -> AppObservation:
        """Look until the app is in one of the states."""
        deadline = time.monotonic() + seconds
        while (seen := self.observe(handle)).app_state not in states:
            assert not seen.is_terminal, f"{seen} while waiting for {states}"
            assert time.monotonic() < deadline, f"still {seen} while waiting for {states}"
            time.sleep(0.1)
        return seen

    def await_true(self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
            time.sleep(0.1)

    def await_running(self, key: str, handle: str, replicas: int = 1) -> None:
        """Wait until every replica of the app has started, and is seen RUNNING."""
        self.await_true(lambda: all(self.starts(key, r) for r in range(replicas)), f"start of {key}")
        self.await_state(handle, "RUNNING")

    # -- the test's control over apps

    def release(self, key: str, exit_code: int = 0) -> None:
        """Let an app end."""
        (self.folder / f"{key}.tmp").write_text(str(exit_code))
        (self.folder / f"{key}.tmp").rename(self.folder / f"{key}.release")

    def plateau(self, key: str) -> None:
        """Let the app of a trial report progressive results that do not get better."""
        (self.folder / f"{key}.plateau").touch()

    def starts(self, key: str, replica: int = 0) -> int:
        """Return how often a replica was started."""
        file = self.folder / f"{key}.{replica}.started"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def submissions(self, key: str) -> int:
        """Return how often an app has run, or was submitted where the scheduler tells that."""
        return self.starts(key)

    def values(self, key: str) -> list[str]:
        """Return the arguments that arrived at an app."""
        return (self.folder / f"{key}.0.values").read_bytes().decode().split("\0")[:-1]

    def processes(self, key: str) -> int:
        """Return how many processes of an app there are."""
        found = 0
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
            found += words[1:2] == [str(SCRIPT).encode()] and words[3:4] == [key.encode()]
        return found

    def unknown_handle(self) -> str:
        """Return the handle of an app that never was."""
        return f"{self.name}://torchx/never-was-0123456789-t0-a1"

    def lead_elsewhere(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process's surroundings lead to another place than the one to which apps were submitted."""
        for variable, value in self.other_environment.items():
            patch.setenv(variable, value)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let new apps wait for room, for the time of a block."""
        raise NotImplementedError
        yield

    def outage(self) -> AbstractContextManager[None]:
        """Cut the scheduler off, for the time of a block."""
        raise NotImplementedError

    def clean(self) -> None:
        """End whatever apps there are."""


class LocalRig(Rig):
    """``local_detached``."""

    name = "local_detached"
    scheduler_args = {"max_parallel": 4, "term_grace": 1}
    cannot = {"outage": "no server"}
    other_args = {"max_parallel": 1}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.other_environment = {"AXTX_LOCAL_ROOT": str(folder / "apps of another Airflow")}

    def new_launcher(self) -> TorchXLauncher:
        return TorchXLauncher(self.name, scheduler_args=self.scheduler_args)

    @contextmanager
    def full(self) -> Iterator[None]:
        keys = [f"filler-0123456789-t{n}-a1" for n in range(4)]
        handles = [self.submit(key) for key in keys]
        for key, handle in zip(keys, handles, strict=True):
            self.await_running(key, handle)
        yield
        for key in keys:
            self.release(key)

    def clean(self) -> None:
        scheduler = self.launcher._observer.scheduler
        handles = [f"{self.name}://torchx/{app.app_id}" for app in scheduler.list()]
        for handle in handles:
            self.launcher.cancel(handle)
        self.await_true(lambda: all(o.is_terminal for o in self.launcher.observe(handles).values()), "end of all apps")


class SlurmRig(Rig):
    """Slurm, real."""

    name = "slurm"

    def __init__(self, folder: Path, cluster: SlurmCluster) -> None:
        self.cluster = cluster
        self.scheduler_args = {"job_dir": str(folder / "jobs")}
        self.other_args = {"job_dir": str(folder / "other jobs")}
        super().__init__(folder)

    def unknown_handle(self) -> str:
        return "slurm://torchx/999999"

    @contextmanager
    def full(self) -> Iterator[None]:
        self.cluster.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
        try:
            yield
        finally:
            self.cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")

    def outage(self) -> AbstractContextManager[None]:
        return self.cluster.without("slurmctld", "slurmdbd")

    def clean(self) -> None:
        self.cluster.cancel_all()


class DockerRig(Rig):
    """Docker, real. Its image runs the host's programs."""

    name = "local_docker"
    cannot = {"queue": "docker has no queue", "cancel_queued": "docker has no queue"}
    after_cancel = frozenset({"FAILED", "SUCCEEDED"})
    other_environment = {"DOCKER_HOST": "unix:///no/such/docker.sock"}

    def __init__(self, folder: Path, docker: DockerEngine) -> None:
        self.docker = docker
        client = docker.client()
        # By its id: TorchX would try to pull a name.
        image = client.images.get("axtx-tests:host").id
        client.close()
        mounts = ":".join([*HOST_FOLDERS, str(SCRIPT.parent), str(folder)])
        self.component_args = {"image": image, "mounts": mounts}
        super().__init__(folder)

    def new_launcher(self) -> TorchXLauncher:
        # TorchX keeps its first client, which may lead to an engine of another test.
        return TorchXLauncher(self.name, session=self.docker.folder.name)

    def attempt_launcher(self, recorded: Mapping[str, Any]) -> TorchXLauncher:
        return TorchXLauncher.for_attempt(self.name, recorded, session=self.docker.folder.name)

    def unknown_handle(self) -> str:
        return f"{self.name}://{self.docker.folder.name}/never-was-0123456789-t0-a1-abcdef"

    def outage(self) -> AbstractContextManager[None]:
        return self.docker.stopped()

    def clean(self) -> None:
        self.docker.remove_containers()


class KubernetesRig(Rig):
    """Kubernetes' own client and TorchX's scheduler, over HTTP to a server that runs pods as child processes."""

    name = "kubernetes"
    after_cancel = frozenset({"UNKNOWN"})
    tells_exit_code = False

    def __init__(self, folder: Path, cluster: KubernetesCluster) -> None:
        self.cluster = cluster
        self.scheduler_args = {"queue": "trials", "namespace": "contract"}
        self.other_args = {"queue": "other", "namespace": "elsewhere"}
        super().__init__(folder)

    def new_launcher(self) -> TorchXLauncher:
        return TorchXLauncher(self.name, scheduler_args=self.scheduler_args, session=self._session())

    def attempt_launcher(self, recorded: Mapping[str, Any]) -> TorchXLauncher:
        return TorchXLauncher.for_attempt(self.name, recorded, session=self._session())

    def _session(self) -> str:
        # TorchX keeps its first connection, which may lead to another test's server.
        return f"k8s{self.cluster.port}"

    def unknown_handle(self) -> str:
        return f"{self.name}://{self._session()}/contract:never-was-0123456789-t0-a1-abcdef"

    def lead_elsewhere(self, patch: pytest.MonkeyPatch) -> None:
        """Do what ``kubectl config use-context`` does, to a cluster that does not answer."""
        config = json.loads(self.cluster.kubeconfig.read_text())
        config["clusters"].append({"name": "other", "cluster": {"server": "http://127.0.0.1:9"}})
        config["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "u"}})
        self.cluster.kubeconfig.write_text(json.dumps({**config, "current-context": "other"}))

    @contextmanager
    def full(self) -> Iterator[None]:
        self.cluster.full = True
        yield
        self.cluster.start_waiting()

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.cluster.broken = True
        yield
        self.cluster.broken = False


class FakeRig(Rig):
    """The scriptable fake that other suites use, with a required option: it has to keep the contract, too."""

    name = "fake"
    scheduler_args = {"queue": "trials"}
    other_args = {"queue": "other"}
    tells_exit_code = False
    tells_times = False

    def __init__(self, folder: Path) -> None:
        self.cluster = FakeCluster(folder / "cluster", required=("queue",))
        self._waiting = False
        super().__init__(folder)

    def new_launcher(self) -> TorchXLauncher:
        factories = {self.name: self.cluster.factory}
        return TorchXLauncher(self.name, scheduler_args=self.scheduler_args, scheduler_factories=factories)

    def attempt_launcher(self, recorded: Mapping[str, Any]) -> TorchXLauncher:
        return TorchXLauncher.for_attempt(self.name, recorded, scheduler_factories={self.name: self.cluster.factory})

    def submit(self, key: str, value: str = "v", mode: str = "wait", **arguments: Any) -> str:
        handle = super().submit(key, value, mode, **arguments)
        for replica in range(arguments.get("replicas", 1)):
            (self.cluster.root / f"probe-{replica}.log").write_text(f"out of {replica}\nerr of {replica}\n")
        if mode == "now":
            self.release(key)
        return handle

    def _apps(self, key: str) -> dict[str, dict[str, Any]]:
        return {app_id: app for app_id, app in self.cluster.apps().items() if app["roles"][0]["args"][2] == key}

    def release(self, key: str, exit_code: int = 0) -> None:
        for app_id, app in self._apps(key).items():
            if exit_code == 0:
                self._report(app, "{index}", lambda x: x)
            self.cluster.set_state(app_id, "FAILED" if exit_code else "SUCCEEDED")

    def plateau(self, key: str) -> None:
        for app in self._apps(key).values():
            for step in range(3):
                self._report(app, f"{{index}}.steps/{step}", lambda _: "50")

    def _report(self, app: Mapping[str, Any], file: str, value: Callable[[str], str]) -> None:
        """Do what the app of a trial would do; nothing for any other app."""
        mode, *values = app["roles"][0]["args"][4:]
        if mode == "trial":
            tracker, index, x = values
            path = Path(tracker, file.format(index=index))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'{{"loss": {value(x)}}}')

    def submissions(self, key: str) -> int:
        return len(self._apps(key))

    def starts(self, key: str, replica: int = 0) -> int:
        return sum(app["state"] not in ("SUBMITTED", "PENDING", "CANCELLED") for app in self._apps(key).values())

    def values(self, key: str) -> list[str]:
        [app] = self._apps(key).values()
        arguments: list[str] = app["roles"][0]["args"]
        return arguments[5:]

    def processes(self, key: str) -> int:
        return sum(app["state"] == "RUNNING" for app in self._apps(key).values())

    @contextmanager
    def full(self) -> Iterator[None]:
        self.cluster.submit_as("PENDING")
        yield
        self.cluster.submit_as("RUNNING")
        for app_id, app in self.cluster.apps().items():
            if app["state"] == "PENDING":
                self.cluster.set_state(app_id, "RUNNING")

    @contextmanager
    def outage(self) -> Iterator[None]:
        methods = ("schedule", "describe", "list", "cancel")
        for method in methods:
            self.cluster.fail_next(method, 10**6)
        yield
        for method in methods:
            self.cluster.fail_next(method, 0)


#: Schedulers in the order of the table, with the marker under which each is run; None: always.
RIGS: dict[str, str | None] = {
    "local_detached": None,
    "fake": None,
    "kubernetes": "kubernetes",
    "local_docker": "docker",
    "slurm": "slurm",
}


def rig_parameters() -> list[Any]:
    """Return the parameters of a test that every scheduler has to pass."""
    return [
        pytest.param(name, id=name, marks=[getattr(pytest.mark, marker)] if marker else [])
        for name, marker in RIGS.items()
    ]
