"""One rig for each scheduler under contract."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.contracts.apps import SCRIPT
from tests.contracts.rig import Rig
from tests.engines.docker import HOST_FOLDERS, DockerEngine
from tests.engines.kubernetes import KubernetesCluster
from tests.engines.slurm import SlurmCluster
from tests.fakes.scheduler import FakeCluster


class LocalRig(Rig):
    """``local_detached``."""

    name = "local_detached"
    is_local = True
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
    is_local = True
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
