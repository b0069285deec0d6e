"""The other engines' truth, and how looking at many apps copes with some that do not answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchx.schedulers.api import DescribeAppResponse, ListAppResponse
from torchx.specs import AppState, ReplicaStatus, Role, RoleStatus

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.launcher.observers.base import (
    Observer,
    list_apps,
    names,
    replicas_of,
    says_unknown,
    seconds_of,
    until_now,
)
from airflow_provider_axtx.launcher.observers.docker import DockerObserver
from airflow_provider_axtx.launcher.observers.kubernetes import KubernetesMCADObserver
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.docker_daemon import FakeDocker
from tests.fakes.scheduler import FakeCluster, FakeScheduler


class ApiException(Exception):
    """As ``kubernetes.client.ApiException``."""

    def __init__(self, status: int) -> None:
        super().__init__(f"({status})")
        self.status = status


class Scripted(FakeScheduler):
    """Answers ``describe`` with what the test gives for an app: a response, None, or an exception."""

    def __init__(self, root: Path, **answers: Any) -> None:
        super().__init__("torchx", FakeCluster(root))
        self.answers = answers
        self.cancelled: list[str] = []

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        answer = self.answers[app_id]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _cancel_existing(self, app_id: str) -> None:
        self.cancelled.append(app_id)


def response(state: AppState, **more: Any) -> DescribeAppResponse:
    return DescribeAppResponse(state=state, **more)


# -- any scheduler ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", list(AppState))
def test_every_state_by_name(tmp_path: Path, state: AppState) -> None:
    assert Observer("any", Scripted(tmp_path, a=response(state))).observe(["a"])["a"].app_state == state.name


@pytest.mark.parametrize(
    "answer",
    [None, ApiException(404), RuntimeError("Request failed with status code 404: Job x does not exist.")],
    ids=["None (AWS Batch)", "NotFound (Kubernetes)", "RuntimeError (Ray)"],
)
def test_ways_to_say_that_the_app_is_unknown(tmp_path: Path, answer: Any) -> None:
    scheduler = Scripted(tmp_path, a=answer)
    observer = Observer("any", scheduler)
    assert observer.observe(["a"])["a"] == UNSEEN
    observer.cancel("a")
    assert not scheduler.cancelled


@pytest.mark.parametrize("error", [ApiException(503), RuntimeError("connection reset"), OSError(5, "io")])
def test_other_errors_say_nothing_about_the_app(tmp_path: Path, error: Exception) -> None:
    observer = Observer("any", Scripted(tmp_path, a=error))
    assert not says_unknown(error)
    with pytest.raises(SchedulerUnavailableError) as caught:
        observer.observe(["a"])
    assert str(error) in str(caught.value)
    assert caught.value.retryable


def test_one_app_that_cannot_be_looked_at_does_not_hide_the_others(tmp_path: Path) -> None:
    answers: dict[str, Any] = {f"a{i}": response(AppState.SUCCEEDED) for i in range(30)}
    answers["bad"] = RuntimeError("connection reset")
    seen = Observer("any", Scripted(tmp_path, **answers)).observe(list(answers))
    assert {seen[a].app_state for a in answers if a != "bad"} == {"SUCCEEDED"}
    assert seen["bad"].app_state == "PENDING"
    assert "connection reset" in seen["bad"].message


def test_failure_message_holds_the_error_that_the_app_wrote(tmp_path: Path) -> None:
    structured = '{"message": {"message": "RuntimeError: CUDA out of memory", "extraInfo": {"py_callstack": "..."}}}'
    failed = response(AppState.FAILED, msg="exit code 1", structured_error_msg=structured)
    seen = Observer("any", Scripted(tmp_path, a=failed)).observe(["a"])["a"]
    assert seen.message == "exit code 1 RuntimeError: CUDA out of memory"


def test_an_ended_app_is_not_cancelled_again(tmp_path: Path) -> None:
    scheduler = Scripted(tmp_path, a=response(AppState.FAILED), b=response(AppState.RUNNING))
    for app_id in ("a", "b"):
        Observer("any", scheduler).cancel(app_id)
    assert scheduler.cancelled == ["b"]


def test_a_job_of_mcad_without_status_is_there(tmp_path: Path) -> None:
    scheduler = Scripted(tmp_path, a=response(AppState.UNKNOWN), b=ApiException(404), c=response(AppState.RUNNING))
    seen = KubernetesMCADObserver("kubernetes_mcad", scheduler).observe(["a", "b", "c"])
    assert [seen[a].app_state for a in "abc"] == ["PENDING", "UNKNOWN", "RUNNING"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.123456789Z", 1767323045.123456),
        ("2026-01-02T04:04:05+01:00", 1767323045.0),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
        ("soon", None),
    ],
)
def test_times_as_schedulers_write_them(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_a_scheduler_whose_clock_is_ahead_reports_no_time_in_the_future() -> None:
    before = time.time()
    seen = until_now({"a": AppObservation("SUCCEEDED", started_at=before - 9, ended_at=before + 3600)})["a"]
    assert seen.started_at == before - 9
    assert seen.ended_at is not None
    assert before <= seen.ended_at <= time.time()


@pytest.mark.parametrize(
    ("app_id", "found"),
    [
        ("digits-0a-t1-a1", True),
        ("digits-0a-t1-a1-xh3k2", True),
        ("default:digits-0a-t1-a1-xh3k2", True),
        ("queue:digits-0a-t1-a1-xh3k2", True),
        ("127.0.0.1:8265-digits-0a-t1-a1-xh3k2", True),
        ("project:location:digits-0a-t1-a1-xh3k2", True),
        ("digits-0a-t1-a11", False),
        ("digits-0a-t1-a11-xh3k2", False),
        ("digits-0a-t1-a1-xh3k2-more", False),
        ("mydigits-0a-t1-a1", False),
        ("digits-0a-t11-a1", False),
    ],
)
def test_app_ids_that_were_made_from_a_key(app_id: str, found: bool) -> None:
    assert names(app_id, "digits-0a-t1-a1") is found


def test_list_with_and_without_options(tmp_path: Path) -> None:
    class Newer(FakeScheduler):
        def list(self, cfg: Any = None) -> list[ListAppResponse]:  # type: ignore[override]
            return [ListAppResponse(app_id=cfg["queue"], state=AppState.RUNNING)]

    cluster = FakeCluster(tmp_path)
    assert list_apps(FakeScheduler("torchx", cluster), {"queue": "q"}) == []
    assert [a.app_id for a in list_apps(Newer("torchx", cluster), {"queue": "q"})] == ["q"]


def test_replicas_from_statuses_or_else_from_roles() -> None:
    statuses = [
        RoleStatus("ps", [ReplicaStatus(1, AppState.RUNNING, "ps", ""), ReplicaStatus(0, AppState.RUNNING, "ps", "")])
    ]
    assert replicas_of(response(AppState.RUNNING, roles_statuses=statuses)) == [("ps", 0), ("ps", 1)]
    assert replicas_of(response(AppState.RUNNING, roles=[Role("w", "", num_replicas=2)])) == [("w", 0), ("w", 1)]
    assert replicas_of(None) == []


# -- docker, over HTTP -----------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDocker]:
    with FakeDocker() as fake:
        monkeypatch.setenv("DOCKER_HOST", fake.host)
        yield fake


@pytest.fixture
def docker(daemon: FakeDocker) -> TorchXLauncher:
    return TorchXLauncher("local_docker", session=f"docker{daemon.host.rpartition(':')[2]}")


def seen_in_docker(daemon: FakeDocker) -> Any:
    return DockerObserver("local_docker", None).observe(["app"])["app"]


@pytest.mark.parametrize(
    ("status", "state", "app_state", "message"),
    [
        ("running", {}, "RUNNING", ""),
        ("paused", {}, "RUNNING", ""),
        ("restarting", {}, "RUNNING", ""),
        ("created", {}, "PENDING", ""),
        ("exited", {}, "SUCCEEDED", ""),
        ("exited", {"ExitCode": 3}, "FAILED", "app-trainer-0: exit code 3"),
        ("exited", {"ExitCode": 137, "OOMKilled": True}, "FAILED", "out of memory"),
        ("created", {"ExitCode": 127, "Error": "no such file: trainer"}, "FAILED", "no such file: trainer"),
        ("dead", {"ExitCode": 1}, "FAILED", "exit code 1"),
    ],
)
def test_docker_states(daemon: FakeDocker, status: str, state: dict[str, Any], app_state: str, message: str) -> None:
    daemon.add("app", status, **state)
    seen = seen_in_docker(daemon)
    assert seen.app_state == app_state
    assert message in seen.message


def test_docker_app_without_containers_is_unknown(daemon: FakeDocker) -> None:
    daemon.add("other", "running")
    assert seen_in_docker(daemon).app_state == "UNKNOWN"


def test_docker_container_that_was_never_started_does_not_hold_up_the_trial(daemon: FakeDocker) -> None:
    daemon.add("app", "created", age=3600)
    seen = seen_in_docker(daemon)
    assert (seen.app_state, seen.is_infrastructure_failure) == ("FAILED", True)


def test_docker_replicas_are_one_app(daemon: FakeDocker) -> None:
    daemon.add("app", "exited", replica=0, ExitCode=1)
    daemon.add("app", "running", replica=1)
    assert seen_in_docker(daemon).app_state == "RUNNING"
    daemon.add("app", "exited", replica=1)
    assert seen_in_docker(daemon).app_state == "FAILED"
    daemon.add("app", "exited", replica=0)
    assert seen_in_docker(daemon).app_state == "SUCCEEDED"


def test_docker_times(daemon: FakeDocker) -> None:
    """Of an app with replicas: from the first start to the last end."""
    never = "0001-01-01T00:00:00Z"
    daemon.add("app", "running", replica=0, age=100.0)
    seen = seen_in_docker(daemon)
    assert (seen.started_at, seen.ended_at) == (pytest.approx(time.time() - 100, abs=3), None)
    daemon.add("app", "exited", replica=0, StartedAt="2026-01-02T03:04:05.5Z", FinishedAt="2026-01-02T03:04:09.25Z")
    daemon.add("app", "exited", replica=1, StartedAt="2026-01-02T03:04:06Z", FinishedAt="2026-01-02T03:04:08Z")
    seen = seen_in_docker(daemon)
    assert (seen.started_at, seen.ended_at) == (1767323045.5, 1767323049.25)
    daemon.add("app", "created", replica=0, ExitCode=127, Error="no such file", StartedAt=never, FinishedAt=never)
    seen = seen_in_docker(daemon)
    assert (seen.app_state, seen.started_at) == ("FAILED", 1767323046.0)


def test_docker_looks_once_at_all_containers(daemon: FakeDocker, docker: TorchXLauncher) -> None:
    for i in range(20):
        daemon.add(f"app{i}", "running")
    seen = docker.observe([f"local_docker://torchx/app{i}" for i in range(20)])
    assert {o.app_state for o in seen.values()} == {"RUNNING"}
    assert [r for r in daemon.requests if "containers" in r] == ["GET /containers/json"]


def test_docker_find_and_cancel(daemon: FakeDocker, docker: TorchXLauncher) -> None:
    key = "digits-0123456789-t1-a1"
    assert docker.find(key) is None
    daemon.add(f"{key}-xyz", "running")
    handle = docker.find(key)
    assert handle is not None
    assert docker.app_id(handle) == f"{key}-xyz"
    docker.cancel(handle)
    assert docker.observe([handle])[handle].app_state == "FAILED"
    docker.cancel(handle)
    docker.cancel("local_docker://torchx/absent")
    assert len([r for r in daemon.requests if r.endswith("/stop")]) == 1


def test_docker_daemon_that_is_away_says_nothing(daemon: FakeDocker, docker: TorchXLauncher) -> None:
    daemon.broken = True
    for call in (lambda: docker.observe(["local_docker://torchx/a"]), lambda: docker.find("k")):
        with pytest.raises(SchedulerUnavailableError, match="local_docker"):
            call()


def test_docker_logs_go_on_behind_the_last_line(daemon: FakeDocker, docker: TorchXLauncher) -> None:
    for replica in (0, 1):
        daemon.add("app-x", "running", replica=replica)
    daemon.logs = {"app-x-trainer-0": "one\ntwo\n", "app-x-trainer-1": "other\n"}
    handle = docker.find("app")
    assert handle is not None
    assert docker.logs(handle, lines=1) == ["trainer/0: two", "trainer/1: other"]
    assert {query["tail"][0] for query in daemon.queries} == {"1"}
    follower = docker.follow(handle)
    assert follower.new_lines() == ["trainer/0: one", "trainer/0: two", "trainer/1: other"]
    daemon.logs["app-x-trainer-0"] += "three\n"
    assert docker.follow(handle, follower.given).new_lines() == ["trainer/0: three"]
    # The daemon is asked only for what is new.
    assert ["since" in query for query in daemon.queries] == [False] * 4 + [True] * 2
