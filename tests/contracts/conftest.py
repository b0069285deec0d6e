"""The schedulers under contract. An engine that is not asked for by its marker is left out, and the table says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.rig import Rig
from tests.contracts.rigs import DockerRig, FakeRig, KubernetesRig, LocalRig, SlurmRig
from tests.contracts.table import PLACE, pytest_runtest_logreport, pytest_terminal_summary
from tests.engines.docker import DockerEngine
from tests.engines.kubernetes import KubernetesCluster
from tests.engines.slurm import SlurmCluster

__all__ = ["pytest_runtest_logreport", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """A Docker engine of this test process's own."""
    docker = DockerEngine()
    try:
        print(f"Docker came up in {docker.start():.1f} s")
        yield docker
    finally:
        docker.remove()


@pytest.fixture
def slurm_rig(slurm_cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmRig]:
    """Slurm, with an empty queue before and after."""
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    rig = SlurmRig(tmp_path / "shared", slurm_cluster)
    try:
        yield rig
    finally:
        rig.clean()


@pytest.fixture
def docker_rig(docker_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerRig]:
    """Docker, without containers before and after."""
    for name, value in docker_engine.environment.items():
        monkeypatch.setenv(name, value)
    rig = DockerRig(tmp_path / "shared", docker_engine)
    try:
        yield rig
    finally:
        rig.clean()


@pytest.fixture
def kubernetes_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesRig]:
    """Kubernetes over HTTP."""
    from kubernetes.config import kube_config

    with KubernetesCluster(tmp_path) as cluster:
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(cluster.kubeconfig))
        yield KubernetesRig(tmp_path / "shared", cluster)


@pytest.fixture
def local_rig(tmp_path: Path) -> Iterator[LocalRig]:
    """The embedded scheduler."""
    rig = LocalRig(tmp_path / "shared")
    try:
        yield rig
    finally:
        rig.clean()


@pytest.fixture
def fake_rig(tmp_path: Path) -> FakeRig:
    """The scriptable fake."""
    return FakeRig(tmp_path / "shared")


def rig_named(name: str, request: pytest.FixtureRequest) -> Rig:
    """Return the rig of a scheduler for one test."""
    fixture = {"local_detached": "local_rig", "local_docker": "docker_rig"}.get(name, f"{name}_rig")
    built: Rig = request.getfixturevalue(fixture)
    return built


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Rig:
    """The scheduler that the test is parametrized with."""
    case = request.node.originalname.removeprefix("test_")
    request.node.user_properties.append((PLACE, f"{case}/{request.param}"))
    return rig_named(request.param, request)
