"""Kubernetes with its own client and TorchX's own scheduler, over HTTP to a server that only keeps jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.kubernetes_api import FakeKubernetes

kube_config = pytest.importorskip("kubernetes.config.kube_config", reason="the client is an extra of this package")

KEY = "digits-0123456789-t1-a1"
NAMESPACE = "trials"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path / "kubeconfig") as fake:
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        yield fake


@pytest.fixture
def launcher(server: FakeKubernetes) -> TorchXLauncher:
    # A session of its own: TorchX keeps its first connection, which may lead to another test's server.
    session = f"k8s{server._server.server_port}"
    return TorchXLauncher("kubernetes", scheduler_args={"queue": "q", "namespace": NAMESPACE}, session=session)


def submit(launcher: TorchXLauncher, key: str = KEY) -> str:
    plan: Any = launcher.plan(
        "utils.booth",
        {"x1": 1.0, "x2": 2.0},
        trial_index=1,
        experiment="digits",
        tracker_base="s3://bucket/trackers",
        submission_key=key,
    )
    return launcher.submit(plan)


def name(launcher: TorchXLauncher, handle: str) -> str:
    return launcher.app_id(handle).removeprefix(f"{NAMESPACE}:")


def test_submitted_job_is_found_in_the_namespace_of_the_options(
    server: FakeKubernetes, launcher: TorchXLauncher
) -> None:
    assert launcher.find(KEY) is None
    handle = submit(launcher)
    submit(launcher, f"{KEY}1")
    assert launcher.find(KEY) == handle
    assert [namespace for namespace, _ in server.jobs] == [NAMESPACE] * 2


@pytest.mark.parametrize(
    ("phase", "app_state"),
    [
        (None, "PENDING"),
        ("Pending", "PENDING"),
        ("Running", "RUNNING"),
        ("Completed", "SUCCEEDED"),
        ("Failed", "FAILED"),
        ("Terminated", "FAILED"),
        ("Aborted", "CANCELLED"),
    ],
)
def test_states(server: FakeKubernetes, launcher: TorchXLauncher, phase: str | None, app_state: str) -> None:
    handle = submit(launcher)
    server.add(name(launcher, handle), phase, NAMESPACE)
    assert launcher.observe([handle])[handle].app_state == app_state


def test_cancelled_job_is_deleted_and_then_unknown(server: FakeKubernetes, launcher: TorchXLauncher) -> None:
    handle = submit(launcher)
    server.add(name(launcher, handle), "Running", NAMESPACE)
    launcher.cancel(handle)
    launcher.cancel(handle)
    assert server.deleted == [name(launcher, handle)]
    assert launcher.observe([handle])[handle].app_state == "UNKNOWN"


def test_ended_job_keeps_its_logs_when_it_is_cancelled(server: FakeKubernetes, launcher: TorchXLauncher) -> None:
    handle = submit(launcher)
    server.add(name(launcher, handle), "Failed", NAMESPACE)
    launcher.cancel(handle)
    assert not server.deleted


def test_server_that_is_away_says_nothing(server: FakeKubernetes, launcher: TorchXLauncher) -> None:
    handle = submit(launcher)
    server.broken = True
    for call in (
        lambda: launcher.observe([handle]),
        lambda: launcher.find(KEY),
        lambda: launcher.cancel(handle),
        lambda: submit(launcher),
    ):
        with pytest.raises(SchedulerUnavailableError, match="kubernetes"):
            call()
