"""An app is found, observed, cancelled and read by a process that knows only what was recorded with its attempt."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchx import specs

from airflow_provider_axtx.core.errors import AppElsewhereError, InvalidInputError, SchedulerUnavailableError
from airflow_provider_axtx.launcher.local_detached import local_root
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.scheduler import FakeCluster

KEY = "digits-0123456789-t1-a1"


def sleeper(seconds: int = 60) -> specs.AppDef:
    role = specs.Role(
        "sleeper", "", entrypoint="sleep", args=[str(seconds)], num_replicas=1, resource=specs.Resource(1, 0, 64)
    )
    return specs.AppDef("sleeper", [role])


def plan(launcher: TorchXLauncher, component: Callable[..., specs.AppDef] = sleeper, key: str = KEY) -> Any:
    return launcher.plan(component, {}, trial_index=1, experiment="e", tracker_base="/t", submission_key=key)


@pytest.fixture
def cluster(tmp_path: Path) -> FakeCluster:
    return FakeCluster(tmp_path / "cluster", required=("queue", "token"))


class TestFake:
    """A scheduler of which this package knows nothing, with required options."""

    arguments = {"queue": "night", "token": "s3cr3t", "labels": {"team": "x"}}

    def launcher(self, cluster: FakeCluster) -> TorchXLauncher:
        factories = {"fake": cluster.factory}
        return TorchXLauncher("fake", scheduler_args=self.arguments, scheduler_factories=factories)

    def for_attempt(self, cluster: FakeCluster, recorded: Any) -> TorchXLauncher:
        return TorchXLauncher.for_attempt("fake", recorded, scheduler_factories={"fake": cluster.factory})

    def test_required_options_are_recorded_but_no_secret(self, cluster: FakeCluster) -> None:
        assert self.launcher(cluster).lookup_options() == {"queue": "night"}

    @pytest.mark.parametrize("known", [True, False])
    def test_app_is_reached_without_the_required_options(self, cluster: FakeCluster, known: bool) -> None:
        submitting = self.launcher(cluster)
        handle = submitting.submit(plan(submitting))
        recorded = json.loads(json.dumps(submitting.lookup_options())) if known else None
        launcher = self.for_attempt(cluster, recorded)
        assert launcher.find(KEY) == handle
        assert launcher.observe([handle])[handle].app_state == "RUNNING"
        (cluster.root / "sleeper-0.log").write_text("a line\n")
        assert launcher.logs(handle) == ["sleeper/0: a line"]
        assert launcher.follow(handle).new_lines() == ["sleeper/0: a line"]
        launcher.cancel(handle)
        assert launcher.observe([handle])[handle].app_state == "CANCELLED"
        assert launcher.lookup_options() == (recorded or {})

    def test_nothing_is_submitted_with_it(self, cluster: FakeCluster) -> None:
        launcher = self.for_attempt(cluster, {"queue": "night"})
        with pytest.raises(InvalidInputError, match="submit"):
            plan(launcher)
        with pytest.raises(InvalidInputError, match="submit"):
            launcher.submit(plan(self.launcher(cluster)))
        assert cluster.calls("schedule") == 0

    @pytest.mark.parametrize("recorded", [{"queue": 7, "of_a_newer_version": {"a": 1}}, {"gone": None}, {}])
    def test_what_another_version_recorded_is_no_error(self, cluster: FakeCluster, recorded: dict[str, Any]) -> None:
        submitting = self.launcher(cluster)
        handle = submitting.submit(plan(submitting))
        assert self.for_attempt(cluster, recorded).find(KEY) == handle


def test_every_scheduler_records_only_its_own_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    secret = {"env": {"TOKEN": "s3cr3t"}, "copy_env": ["*"]}
    recorded = TorchXLauncher("local_docker", scheduler_args=secret).lookup_options()
    assert set(recorded) == {"host", "boot_id"}
    assert TorchXLauncher("slurm", scheduler_args={"partition": "gpu", "job_dir": "/jobs"}).lookup_options() == {
        "job_dir": "/jobs"
    }


def test_docker_on_another_host_is_reached_at_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    launcher = TorchXLauncher("local_docker")
    assert (launcher.lookup_options(), launcher.host) == ({"docker_host": "tcp://127.0.0.1:9"}, None)
    monkeypatch.delenv("DOCKER_HOST")
    again = TorchXLauncher.for_attempt("local_docker", {"docker_host": "tcp://127.0.0.1:9"})
    with pytest.raises(SchedulerUnavailableError, match=r"127\.0\.0\.1.*9"):
        again.find(KEY)


def test_docker_of_another_host_is_not_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    launcher = TorchXLauncher.for_attempt("local_docker", {"host": "worker-7", "boot_id": "other"})
    for call in (
        lambda: launcher.find(KEY),
        lambda: launcher.observe([f"local_docker://torchx/{KEY}-x"]),
        lambda: launcher.cancel(f"local_docker://torchx/{KEY}-x"),
    ):
        with pytest.raises(AppElsewhereError, match="worker-7"):
            call()


def test_aws_batch_is_asked_in_the_region_of_the_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, str | None]] = []

    class Session:
        region_name = "eu-west-1"

        def __init__(self, region_name: str | None = None) -> None:
            self.asked = region_name

        def client(self, service: str) -> object:
            made.append((service, self.asked))
            pages = types.SimpleNamespace(paginate=lambda **_: [])
            return types.SimpleNamespace(get_paginator=lambda _: pages)

    boto3 = types.ModuleType("boto3")
    boto3.Session = Session  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    session = "region"
    launcher = TorchXLauncher("aws_batch", scheduler_args={"queue": "q", "job_role_arn": "a"}, session=session)
    recorded = launcher.lookup_options()
    assert recorded == {"queue": "q", "region": "eu-west-1"}
    handle = f"aws_batch://{session}/q:{KEY}-x"
    again = TorchXLauncher.for_attempt("aws_batch", recorded, session=session)
    assert again.observe([handle])[handle].app_state == "UNKNOWN"
    assert ("batch", "eu-west-1") in made


class TestLocal:
    """``local_detached``: the files of an app are found wherever this process would put its own."""

    @pytest.fixture
    def handle(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("AXTX_LOCAL_ROOT", str(tmp_path / "one"))
        launcher = TorchXLauncher("local_detached")
        self.recorded = json.loads(json.dumps(launcher.lookup_options()))
        self.host = launcher.host
        handle = launcher.submit(plan(launcher))
        monkeypatch.setenv("AXTX_LOCAL_ROOT", str(tmp_path / "two"))
        yield handle
        TorchXLauncher.for_attempt("local_detached", {"local_root": str(tmp_path / "one")}).cancel(handle)

    def for_attempt(self, **changed: Any) -> TorchXLauncher:
        return TorchXLauncher.for_attempt("local_detached", {**self.recorded, **changed})

    def test_recorded_root_is_used(self, handle: str) -> None:
        assert TorchXLauncher("local_detached").find(KEY) is None
        launcher = self.for_attempt()
        assert launcher.find(KEY) == handle
        assert launcher.host == self.host
        launcher.cancel(handle)
        assert launcher.observe([handle])[handle].app_state in ("PENDING", "RUNNING", "CANCELLED")

    @pytest.mark.parametrize("what", ["another host", "another container of this host"])
    def test_root_of_the_same_name_on_another_machine(
        self, handle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        """The same path, other files: so it is for two workers that do not share a disk."""
        changed = {"host": "worker-7", "boot_id": "other"} if what == "another host" else {}
        launcher = self.for_attempt(local_root=str(tmp_path / "two"), **changed)
        named = changed.get("host", self.host)
        for _ in ("no such folder", "another folder"):
            for call in (
                lambda: launcher.find(KEY),
                lambda: launcher.observe([handle]),
                lambda: launcher.cancel(handle),
            ):
                with pytest.raises(AppElsewhereError, match=str(named)):
                    call()
            assert "worker" in launcher.logs(handle)[0] or str(named) in launcher.logs(handle)[0]
            local_root.place(tmp_path / "two")  # now another scheduler has used the folder

    def test_root_that_went_with_its_host(self, handle: str, tmp_path: Path) -> None:
        """A container that was created anew under the same name: what ran in it is dead."""
        launcher = self.for_attempt(local_root=str(tmp_path / "two"), boot_id="before")
        assert launcher.find(KEY) is None
        assert launcher.observe([handle])[handle].app_state == "UNKNOWN"

    def test_app_of_another_host_on_a_shared_disk(self, handle: str, tmp_path: Path) -> None:
        started = tmp_path / "one" / KEY / "started.json"
        before = started.read_text()
        started.write_text(json.dumps({**json.loads(before), "host": "worker-7", "boot_id": "other"}))
        launcher = self.for_attempt(host="worker-7", boot_id="other")
        assert launcher.find(KEY) == handle
        with pytest.raises(AppElsewhereError, match="worker-7"):
            launcher.observe([handle])
        launcher.cancel(handle)  # the supervisor sees it through the disk
        started.write_text(before)

    def test_one_of_another_host_does_not_hide_the_others(self, handle: str, tmp_path: Path) -> None:
        launcher = self.for_attempt()
        started = tmp_path / "one" / KEY / "started.json"
        before = started.read_text()
        started.write_text(json.dumps({**json.loads(before), "host": "worker-7", "boot_id": "other"}))
        absent = f"local_detached://torchx/{KEY}9"
        seen = launcher.observe([handle, absent])
        assert (seen[handle].app_state, seen[absent].app_state) == ("PENDING", "UNKNOWN")
        assert "worker-7" in seen[handle].message
        started.write_text(before)


def test_root_has_one_identity_whoever_looks(tmp_path: Path) -> None:
    first, second = local_root.place(tmp_path / "apps"), local_root.place(tmp_path / "apps")
    assert first == second
    assert local_root.place(tmp_path / "others")["root_id"] != first["root_id"]
    assert (tmp_path / "apps").stat().st_mode & 0o777 == 0o700
