"""Kubernetes with its own client and TorchX's own scheduler, over HTTP to a server that only keeps jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchx import specs
from torchx.schedulers.kubernetes_scheduler import sanitize_for_serialization

from airflow_provider_axtx.core.errors import InvalidInputError, SchedulerUnavailableError
from airflow_provider_axtx.core.keys import submission_key
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.kubernetes_api import FakeKubernetes, refusal

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


def test_a_kubeconfig_that_is_being_written_leads_to_no_other_cluster(
    server: FakeKubernetes, launcher: TorchXLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``kubectl config use-context`` does between the two looks of a client at the file."""
    from kubernetes import config

    handle = submit(launcher)
    content = json.loads((tmp_path / "kubeconfig").read_text())
    content["clusters"].append({"name": "other", "cluster": {"server": "http://127.0.0.1:9"}})
    content["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "u"}})
    read = config.list_kube_config_contexts

    def read_too_early() -> Any:
        (tmp_path / "kubeconfig").write_text("")
        try:
            return read()
        finally:
            (tmp_path / "kubeconfig").write_text(json.dumps({**content, "current-context": "other"}))

    monkeypatch.setattr(config, "list_kube_config_contexts", read_too_early)
    recorded = {"namespace": NAMESPACE, "context": "x"}
    again = TorchXLauncher.for_attempt("kubernetes", recorded, session=f"again{server._server.server_port}")
    assert again.observe([handle])[handle].app_state == "PENDING"


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


def test_times_are_those_of_the_phases_of_the_job(server: FakeKubernetes, launcher: TorchXLauncher) -> None:
    handle = submit(launcher)
    server.add(name(launcher, handle), "Pending", NAMESPACE, at="2026-01-02T03:04:00Z")
    seen = launcher.observe([handle])[handle]
    assert (seen.app_state, seen.started_at, seen.ended_at) == ("PENDING", None, None)
    server.add(name(launcher, handle), "Running", NAMESPACE, at="2026-01-02T03:04:05Z")
    seen = launcher.observe([handle])[handle]
    assert (seen.app_state, seen.started_at, seen.ended_at) == ("RUNNING", 1767323045.0, None)
    server.add(name(launcher, handle), "Failed", NAMESPACE, at="2026-01-02T03:04:09Z")
    seen = launcher.observe([handle])[handle]
    assert (seen.app_state, seen.started_at, seen.ended_at) == ("FAILED", 1767323045.0, 1767323049.0)


def test_server_that_keeps_no_conditions_still_says_since_when_a_job_runs(
    server: FakeKubernetes, launcher: TorchXLauncher
) -> None:
    handle = submit(launcher)
    server.add(name(launcher, handle), "Running", NAMESPACE, at="2026-01-02T03:04:05Z")
    del server.jobs[NAMESPACE, name(launcher, handle)]["status"]["conditions"]
    assert launcher.observe([handle])[handle].started_at == 1767323045.0


def test_message_of_the_job_is_the_reason_of_its_end(server: FakeKubernetes, launcher: TorchXLauncher) -> None:
    handle = submit(launcher)
    server.add(name(launcher, handle), "Failed", NAMESPACE)
    server.jobs[NAMESPACE, name(launcher, handle)]["status"]["state"]["message"] = "the quota of the queue is used up"
    assert launcher.observe([handle])[handle].message == "the quota of the queue is used up"


def test_phase_that_this_version_does_not_know_ends_no_trial(server: FakeKubernetes, launcher: TorchXLauncher) -> None:
    handle = submit(launcher)
    server.add(name(launcher, handle), "Hibernating", NAMESPACE)
    seen = launcher.observe([handle])[handle]
    assert (seen.app_state, seen.message) == ("PENDING", "unknown phase 'Hibernating' of the job")


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


@pytest.mark.parametrize("experiment", ["e", "an experiment whose name is as long as names are", "数字"])
@pytest.mark.parametrize("index", [0, 99999])
@pytest.mark.parametrize(
    ("roles", "replicas"),
    [
        (["trainer"], 1),
        (["torchx-utils-booth"], 1),
        (["trainer", "parameter-server"], 12),
        (["a-role-whose-name-is-longer-than-any-that-kubernetes-would-take-as-a-label-or-a-pod"], 101),
        (["Trainer_1", "trainer.1", "trainer 1", "数字", "-x-"], 2),
    ],
)
def test_names_are_those_that_the_api_server_takes(
    server: FakeKubernetes, launcher: TorchXLauncher, experiment: str, index: int, roles: list[str], replicas: int
) -> None:
    def app(x: float = 1.0) -> specs.AppDef:
        resource = specs.Resource(1, 0, 64)
        made = [specs.Role(r, "image", entrypoint="true", num_replicas=replicas, resource=resource) for r in roles]
        return specs.AppDef("whatever", made)

    keys = [
        submission_key(experiment, uid, index, attempt)
        for uid in ("u", "v")
        for attempt in ((1, 12) if replicas == 1 else (1,))
    ]
    for key in keys:
        planned: Any = launcher.plan(
            app, {}, trial_index=1, experiment=experiment, tracker_base="s3://b/t", submission_key=key
        )
        # Every replica is a task of its own; as many pods as would take a server down are checked here.
        assert refusal(json.loads(json.dumps(sanitize_for_serialization(planned.dryrun.request.resource)))) is None
        if replicas == 1:
            handle = launcher.submit(planned)
            assert launcher.find(key) == handle
    assert replicas > 1 or len({launcher.find(key) for key in keys}) == len(keys)


def test_refused_job_is_an_error_of_the_app_and_not_of_the_server(
    server: FakeKubernetes, launcher: TorchXLauncher
) -> None:
    def app(x: float = 1.0) -> specs.AppDef:
        role = specs.Role("r", "image", entrypoint="true", env={"1 x": "y"}, resource=specs.Resource(1, 0, 64))
        return specs.AppDef("whatever", [role])

    planned = launcher.plan(app, {}, trial_index=1, experiment="e", tracker_base="s3://b/t", submission_key=KEY)
    with pytest.raises(InvalidInputError, match="env '1 x'"):
        launcher.submit(planned)
    assert launcher.find(KEY) is None
