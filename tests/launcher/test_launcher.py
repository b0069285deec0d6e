"""The engine over a scriptable scheduler: plan, submit, find, observe, cancel, logs, and bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchx import specs
from torchx.schedulers.local_scheduler import LocalScheduler

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import InvalidInputError, SchedulerUnavailableError
from airflow_provider_axtx.launcher.scheduler_registry import Schedulers
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.fakes.scheduler import FakeCluster, FakeScheduler

KEY = "digits-0123456789-t1-a1"


def trainer(x: float, tracker_base: str, choice: str = "a") -> specs.AppDef:
    role = specs.Role(
        "trainer",
        "image:1",
        entrypoint="train",
        args=["--x", str(x), "--choice", choice],
        env={"API_TOKEN": "s3cr3t"},
        num_replicas=2,
        resource=specs.Resource(cpu=4, gpu=1, memMB=2048),
    )
    return specs.AppDef(
        "anything", [role, specs.Role("ps", "image:1", entrypoint="serve", resource=specs.Resource(1, 0, 64))]
    )


@pytest.fixture
def cluster(tmp_path: Path) -> FakeCluster:
    return FakeCluster(tmp_path / "cluster")


@pytest.fixture
def launcher(cluster: FakeCluster) -> TorchXLauncher:
    return fake_launcher(cluster)


def fake_launcher(cluster: FakeCluster, **more: Any) -> TorchXLauncher:
    return TorchXLauncher("fake", scheduler_factories={"fake": cluster.factory}, **more)


def plan(
    launcher: TorchXLauncher, component: Any = trainer, parameters: Any = None, key: str = KEY, **more: Any
) -> Any:
    given = {"trial_index": 1, "experiment": "digits", "tracker_base": "/trackers/a", **more}
    return launcher.plan(component, {"x": 0.5} if parameters is None else parameters, submission_key=key, **given)


# -- plan ------------------------------------------------------------------------------------------------------------


def test_plan_sums_resources_and_shows_no_secret(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    planned = plan(launcher)
    resources = planned.resources
    assert (resources.cpu, resources.gpu, resources.memMB, resources.replicas) == (9, 2, 4160, 3)
    for text in (str(planned), repr(planned)):
        assert "s3cr3t" not in text
        assert KEY in text
        assert "API_TOKEN" in text
        assert "train --x 0.5" in text
    assert not cluster.apps()


def test_app_carries_the_key_and_is_otherwise_as_the_component_made_it(
    launcher: TorchXLauncher, cluster: FakeCluster
) -> None:
    launcher.submit(plan(launcher))
    (app,) = cluster.apps().values()
    assert app["name"] == KEY
    assert [(r["name"], r["args"], r["replicas"]) for r in app["roles"]] == [
        ("trainer", ["--x", "0.5", "--choice", "a"], 2),
        ("ps", [], 1),
    ]
    assert app["roles"][0]["env"]["API_TOKEN"] == "s3cr3t"


def test_options_reach_the_scheduler(cluster: FakeCluster) -> None:
    options = {"queue": "gpu", "slots": 2, "weight": 1, "urgent": True, "tags": ["a"], "labels": {"a": "b"}}
    launcher = fake_launcher(cluster, scheduler_args=options)
    launcher.submit(plan(launcher))
    (app,) = cluster.apps().values()
    assert app["options"] == options


@pytest.mark.parametrize("tracker_base", ["relative/path", "", None, "~/x"])
def test_tracker_base_must_mean_the_same_everywhere(launcher: TorchXLauncher, tracker_base: Any) -> None:
    with pytest.raises(InvalidInputError, match="tracker_base must be an absolute path or a URL"):
        plan(launcher, tracker_base=tracker_base)


def no_entrypoint(x: float) -> specs.AppDef:
    return specs.AppDef("t", [specs.Role("trainer", "", entrypoint="")])


def no_replicas(x: float) -> specs.AppDef:
    return specs.AppDef("t", [specs.Role("trainer", "", entrypoint="a", num_replicas=0)])


def no_resource(x: float) -> specs.AppDef:
    return specs.AppDef("t", [specs.Role("trainer", "", entrypoint="a")])


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (no_entrypoint, "No entrypoint for role"),
        (no_replicas, "Non-positive replicas"),
        (no_resource, "No resource for role"),
        ("utils.nothing", "no component 'utils.nothing'"),
    ],
)
def test_app_that_the_scheduler_cannot_run(
    launcher: TorchXLauncher, cluster: FakeCluster, component: Any, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        plan(launcher, component)
    assert not cluster.calls("schedule")


def test_allowed_components(cluster: FakeCluster) -> None:
    launcher = fake_launcher(cluster, allowed_components=["dist.*"])
    for call in (lambda: plan(launcher, "utils.booth"), lambda: launcher.check("utils.booth", {})):
        with pytest.raises(InvalidInputError, match="not allowed"):
            call()
    launcher.check(trainer, {"x": "float"})
    with pytest.raises(InvalidInputError, match="x is a str in the experiment"):
        launcher.check(trainer, {"x": "str"})


# -- schedulers and their options ------------------------------------------------------------------------------------


def test_local_cwd_is_refused_with_the_name_of_what_to_use() -> None:
    with pytest.raises(
        InvalidInputError, match="'local_cwd' is not supported: its apps die with the process"
    ) as caught:
        TorchXLauncher("local_cwd")
    assert "local_detached" in caught.value.fix


@pytest.mark.parametrize("name", ["slum", "", None, 3])
def test_unknown_scheduler_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"There is no scheduler {name!r}") as caught:
        TorchXLauncher(name)
    for known in ("local_detached", "slurm", "kubernetes", "local_docker", "aws_batch", "ray"):
        assert known in caught.value.fix
    assert "local_cwd" not in caught.value.fix


def test_allowed_schedulers() -> None:
    TorchXLauncher("local_detached", allowed_schedulers=["local_detached"])
    with pytest.raises(InvalidInputError, match="'slurm' is not allowed by the torchx connection"):
        TorchXLauncher("slurm", allowed_schedulers=["local_detached"])


def test_missing_package_is_named() -> None:
    def needs_a_package(_session: str, **_: object) -> Any:
        raise ModuleNotFoundError("No module named 'cloud_sdk'")

    with pytest.raises(InvalidInputError, match=r"'cloud' needs a package .*'cloud_sdk'") as caught:
        TorchXLauncher("cloud", scheduler_factories={"cloud": needs_a_package})
    assert "pip install" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"que": "gpu"}, "'que' is not one of its options"),
        ({"queue": 3}, r"queue must be str, not 3 \(int\)"),
        ({"slots": "2"}, r"slots must be int, not '2' \(str\)"),
        ({"slots": True}, r"slots must be int, not True \(bool\)"),
        ({"slots": 1.5}, r"slots must be int, not 1.5"),
        ({"weight": "heavy"}, "weight must be float"),
        ({"urgent": "true"}, "urgent must be bool"),
        ({"tags": "a,b"}, "tags must be list.str., not a str"),
        ({"tags": {"a": "b"}}, "tags must be list.str., not a dict"),
        ({"labels": {"TOKEN": 5}}, "labels must be dict.str, str., not a dict"),
        (["queue"], "scheduler_args must be an object"),
        ("queue=gpu", "scheduler_args must be an object"),
    ],
)
def test_options_that_do_not_fit(cluster: FakeCluster, options: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        fake_launcher(cluster, scheduler_args=options)
    assert "its options are queue: str, slots: int" in caught.value.fix or "must be an object" in message


def test_every_wrong_option_is_named_at_once(cluster: FakeCluster) -> None:
    names = r"'a' is not one of its options.*'b' is not one of its options.*slots must be int"
    with pytest.raises(InvalidInputError, match=names):
        fake_launcher(cluster, scheduler_args={"a": 1, "b": 2, "slots": "x"})


def test_required_option_of_a_real_scheduler() -> None:
    with pytest.raises(InvalidInputError, match="'kubernetes': queue is required"):
        TorchXLauncher("kubernetes")


def test_option_of_none_means_its_default(cluster: FakeCluster) -> None:
    launcher = fake_launcher(cluster, scheduler_args={"queue": None})
    launcher.submit(plan(launcher))
    assert next(iter(cluster.apps().values()))["options"]["queue"] == "default"


# -- submit, find, observe, cancel -----------------------------------------------------------------------------------


def test_submitted_app_is_found_by_any_engine(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    assert launcher.find(KEY) is None
    handle = launcher.submit(plan(launcher))
    assert handle.startswith(f"fake://torchx/{KEY}-")
    assert fake_launcher(cluster).find(KEY) == handle
    assert launcher.find(f"{KEY}1") is None


def test_answer_that_was_lost_after_submission(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    cluster.fail_next("schedule", after_effect=True)
    with pytest.raises(SchedulerUnavailableError, match=f"fake failed to submit {KEY}.*told to fail") as caught:
        launcher.submit(plan(launcher))
    assert caught.value.retryable
    (app_id,) = cluster.apps()
    assert launcher.find(KEY) == f"fake://torchx/{app_id}"


def test_find_that_fails_is_not_not_found(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    cluster.fail_next("list")
    with pytest.raises(SchedulerUnavailableError, match=f"look for {KEY}"):
        launcher.find(KEY)


def test_trial_status_of_every_app_state_is_that_of_ax(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    from ax.runners.torchx import APP_STATE_TO_TRIAL_STATUS  # takes seconds, for this test only

    handle = launcher.submit(plan(launcher))
    for state in specs.AppState:
        cluster.set_state(launcher.app_id(handle), state.name)
        assert launcher.observe([handle])[handle].trial_status == APP_STATE_TO_TRIAL_STATUS[state].name


def test_app_that_the_scheduler_does_not_show_yet(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    handle = launcher.submit(plan(launcher))
    cluster.hide_next(1)
    assert [launcher.observe([handle])[handle].app_state for _ in range(2)] == ["UNKNOWN", "RUNNING"]


def test_observe_many(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    handles = [launcher.submit(plan(launcher, key=f"{KEY}{i}")) for i in range(1, 6)]
    cluster.set_state(launcher.app_id(handles[0]), "FAILED", "exit code 1")
    cluster.forget(launcher.app_id(handles[1]))
    other = ["slurm://torchx/12", "nonsense"]
    seen = launcher.observe([*handles, *other, handles[0]])
    assert seen[handles[0]] == AppObservation("FAILED", "exit code 1")
    assert [seen[h].app_state for h in handles[1:]] == ["UNKNOWN", "RUNNING", "RUNNING", "RUNNING"]
    assert {seen[h].app_state for h in other} == {"UNKNOWN"}
    assert cluster.calls("describe") == len(handles)
    assert launcher.observe([]) == {}


def test_observation_that_fails_is_no_state(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    handle = launcher.submit(plan(launcher))
    cluster.fail_next("describe", 2)
    for _ in range(2):
        with pytest.raises(SchedulerUnavailableError):
            launcher.observe([handle])
    assert launcher.observe([handle])[handle].app_state == "RUNNING"


def test_cancel_is_idempotent_and_unknown_is_no_error(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    handle = launcher.submit(plan(launcher))
    launcher.cancel(handle)
    launcher.cancel(handle)
    assert launcher.observe([handle])[handle].app_state == "CANCELLED"
    assert cluster.calls("cancel") == 1
    launcher.cancel("fake://torchx/absent")
    for wrong in ("slurm://torchx/1", "nonsense"):
        with pytest.raises(InvalidInputError, match="is not an app handle of scheduler fake"):
            launcher.cancel(wrong)


def test_cancel_that_fails_is_to_be_tried_again(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    handle = launcher.submit(plan(launcher))
    cluster.fail_next("cancel")
    with pytest.raises(SchedulerUnavailableError, match="cancel"):
        launcher.cancel(handle)
    launcher.cancel(handle)
    assert launcher.observe([handle])[handle].app_state == "CANCELLED"


# -- logs ------------------------------------------------------------------------------------------------------------


def test_logs_are_the_last_lines_of_each_replica(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    handle = launcher.submit(plan(launcher))
    (cluster.root / "trainer-0.log").write_text("".join(f"{i}\n" for i in range(100)))
    (cluster.root / "trainer-1.log").write_text("x" * 5000)
    lines = launcher.logs(handle, lines=2)
    assert lines[:2] == ["trainer/0: 98", "trainer/0: 99"]
    assert lines[2].startswith("trainer/1: xxx")
    assert len(lines[2]) < 2100
    assert lines[3].startswith("[no log of ps/0: FileNotFoundError")


def test_a_log_without_end_is_left(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    handle = launcher.submit(plan(launcher))
    (cluster.root / "trainer-0.log").write_text("first\nHANG\n")
    started = time.monotonic()
    assert launcher.logs(handle, deadline_seconds=0.3) == [
        "trainer/0: first",
        "trainer/0: HANG",
        "[reading the log was ended after 0.3 s]",
    ]
    assert time.monotonic() - started < 30


def test_missing_logs_are_explained(launcher: TorchXLauncher, cluster: FakeCluster) -> None:
    assert launcher.logs("fake://torchx/absent") == ["[no log: the scheduler does not know the app]"]
    cluster.fail_next("describe")
    (line,) = launcher.logs("fake://torchx/absent")
    assert "told to fail" in line


# -- the process around it -------------------------------------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[dict[int, Any]]:
    def handler(*_: object) -> None:
        """Stands for Airflow's."""

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    yield dict.fromkeys(before, handler)
    for number, previous in before.items():
        signal.signal(number, previous)


def test_signal_handlers_survive_a_scheduler_that_replaces_them(handlers: dict[int, Any]) -> None:
    def replacing(session: str, **_: object) -> Any:
        scheduler = LocalScheduler(session, image_provider_class=lambda cfg: None)
        assert signal.getsignal(signal.SIGTERM) is not handlers[signal.SIGTERM]
        return scheduler

    TorchXLauncher("replacing", scheduler_factories={"replacing": replacing})
    assert {number: signal.getsignal(number) for number in handlers} == handlers


HOSTILE = {
    "TORCHX_SESSION_NAME": "x",
    "TORCHX_": "x",
    "TORCHX_CACHE_SIZE": "x",
    "TORCHX_IMAGE_PROVIDER_CLASS": "x",
    "TORCHX_JOB_ID": "x",
    "TORCHX_TRACKERS": "a,b",
    "TORCHX_PARENT_RUN_ID": "x",
    "torchx_extra_paths": "x",
}


def test_environment_cannot_break_the_runner(monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    launcher = fake_launcher(cluster)
    handle = launcher.submit(plan(launcher))
    assert launcher.find(KEY) == handle
    for scheduler in ("local_detached", "slurm", "local_docker"):
        Schedulers(extra={}).get(scheduler)


def test_one_runner_in_a_process_and_another_in_a_forked_child() -> None:
    first, second = TorchXLauncher("local_detached"), TorchXLauncher("slurm")
    assert first._schedulers is second._schedulers
    script = (
        "import os, sys\n"
        "from airflow_provider_axtx.launcher.scheduler_registry import schedulers_of_process as s\n"
        "mine = s('torchx')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(0 if s('torchx') is not mine else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("point", "submitted", "cancelled"),
    [
        ("torchx.before_submit", 0, 0),
        ("torchx.after_submit", 1, 0),
        ("torchx.before_cancel", 1, 0),
        ("torchx.after_cancel", 1, 1),
    ],
)
def test_crash_points(cluster: FakeCluster, point: str, submitted: int, cancelled: int) -> None:
    script = (
        "from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher\n"
        "launcher = TorchXLauncher('fake')\n"
        "plan = launcher.plan('utils.booth', {'x1': 1.0, 'x2': 2.0}, trial_index=1, experiment='e',\n"
        f"    tracker_base='/t', submission_key='{KEY}')\n"
        "launcher.cancel(launcher.submit(plan))\n"
    )
    environment = {**os.environ, **cluster.environment(), "AXTX_CRASH_POINT": point}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (cluster.calls("schedule"), cluster.calls("cancel")) == (submitted, cancelled)


@pytest.mark.parametrize(
    ("told", "shown"), [("https://console/jobs/1", "https://console/jobs/1"), ("file:///logs", None), (None, None)]
)
def test_the_schedulers_own_page_of_an_app(
    launcher: TorchXLauncher, monkeypatch: pytest.MonkeyPatch, told: str | None, shown: str | None
) -> None:
    handle = launcher.submit(plan(launcher))
    describe = FakeScheduler.describe

    def with_page(self: FakeScheduler, app_id: str) -> Any:
        answer = describe(self, app_id)
        answer.ui_url = told
        return answer

    monkeypatch.setattr(FakeScheduler, "describe", with_page)
    assert launcher.page_url(handle) == shown
