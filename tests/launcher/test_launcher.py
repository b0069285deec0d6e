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
from airflow_provider_axtx.launcher.torchx_launcher import TorchXEngine
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
def engine(cluster: FakeCluster) -> TorchXEngine:
    return fake_engine(cluster)


def fake_engine(cluster: FakeCluster, **more: Any) -> TorchXEngine:
    return TorchXEngine("fake", scheduler_factories={"fake": cluster.factory}, **more)


def plan(engine: TorchXEngine, component: Any = trainer, parameters: Any = None, key: str = KEY, **more: Any) -> Any:
    given = {"trial_index": 1, "experiment": "digits", "tracker_base": "/trackers/a", **more}
    return engine.plan(component, {"x": 0.5} if parameters is None else parameters, submission_key=key, **given)


# -- plan ------------------------------------------------------------------------------------------------------------


def test_plan_sums_resources_and_shows_no_secret(engine: TorchXEngine, cluster: FakeCluster) -> None:
    planned = plan(engine)
    resources = planned.resources
    assert (resources.cpu, resources.gpu, resources.memMB, resources.replicas) == (9, 2, 4160, 3)
    for text in (str(planned), repr(planned)):
        assert "s3cr3t" not in text
        assert KEY in text
        assert "API_TOKEN" in text
        assert "train --x 0.5" in text
    assert not cluster.apps()


def test_app_carries_the_key_and_is_otherwise_as_the_component_made_it(
    engine: TorchXEngine, cluster: FakeCluster
) -> None:
    engine.submit(plan(engine))
    (app,) = cluster.apps().values()
    assert app["name"] == KEY
    assert [(r["name"], r["args"], r["replicas"]) for r in app["roles"]] == [
        ("trainer", ["--x", "0.5", "--choice", "a"], 2),
        ("ps", [], 1),
    ]
    assert app["roles"][0]["env"]["API_TOKEN"] == "s3cr3t"


def test_options_reach_the_scheduler(cluster: FakeCluster) -> None:
    options = {"queue": "gpu", "slots": 2, "weight": 1, "urgent": True, "tags": ["a"], "labels": {"a": "b"}}
    engine = fake_engine(cluster, scheduler_args=options)
    engine.submit(plan(engine))
    (app,) = cluster.apps().values()
    assert app["options"] == options


@pytest.mark.parametrize("tracker_base", ["relative/path", "", None, "~/x"])
def test_tracker_base_must_mean_the_same_everywhere(engine: TorchXEngine, tracker_base: Any) -> None:
    with pytest.raises(InvalidInputError, match="tracker_base must be an absolute path or a URL"):
        plan(engine, tracker_base=tracker_base)


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
    engine: TorchXEngine, cluster: FakeCluster, component: Any, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        plan(engine, component)
    assert not cluster.calls("schedule")


def test_allowed_components(cluster: FakeCluster) -> None:
    engine = fake_engine(cluster, allowed_components=["dist.*"])
    for call in (lambda: plan(engine, "utils.booth"), lambda: engine.check("utils.booth", {})):
        with pytest.raises(InvalidInputError, match="not allowed"):
            call()
    engine.check(trainer, {"x": "float"})
    with pytest.raises(InvalidInputError, match="x is a str in the experiment"):
        engine.check(trainer, {"x": "str"})


# -- schedulers and their options ------------------------------------------------------------------------------------


def test_local_cwd_is_refused_with_the_name_of_what_to_use() -> None:
    with pytest.raises(
        InvalidInputError, match="'local_cwd' is not supported: its apps die with the process"
    ) as caught:
        TorchXEngine("local_cwd")
    assert "local_detached" in caught.value.fix


@pytest.mark.parametrize("name", ["slum", "", None, 3])
def test_unknown_scheduler_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"There is no scheduler {name!r}") as caught:
        TorchXEngine(name)
    for known in ("local_detached", "slurm", "kubernetes", "local_docker", "aws_batch", "ray"):
        assert known in caught.value.fix
    assert "local_cwd" not in caught.value.fix


def test_allowed_schedulers() -> None:
    TorchXEngine("local_detached", allowed_schedulers=["local_detached"])
    with pytest.raises(InvalidInputError, match="'slurm' is not allowed by the torchx connection"):
        TorchXEngine("slurm", allowed_schedulers=["local_detached"])


def test_missing_package_is_named() -> None:
    def needs_a_package(_session: str, **_: object) -> Any:
        raise ModuleNotFoundError("No module named 'cloud_sdk'")

    with pytest.raises(InvalidInputError, match=r"'cloud' needs a package .*'cloud_sdk'") as caught:
        TorchXEngine("cloud", scheduler_factories={"cloud": needs_a_package})
    assert "pip install" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"que": "gpu"}, "'que' is no option of it"),
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
        fake_engine(cluster, scheduler_args=options)
    assert "its options are queue: str, slots: int" in caught.value.fix or "must be an object" in message


def test_every_wrong_option_is_named_at_once(cluster: FakeCluster) -> None:
    with pytest.raises(InvalidInputError, match=r"'a' is no option.*'b' is no option.*slots must be int"):
        fake_engine(cluster, scheduler_args={"a": 1, "b": 2, "slots": "x"})


def test_required_option_of_a_real_scheduler() -> None:
    with pytest.raises(InvalidInputError, match="'kubernetes': queue is required"):
        TorchXEngine("kubernetes")


def test_option_of_none_means_its_default(cluster: FakeCluster) -> None:
    engine = fake_engine(cluster, scheduler_args={"queue": None})
    engine.submit(plan(engine))
    assert next(iter(cluster.apps().values()))["options"]["queue"] == "default"


# -- submit, find, observe, cancel -----------------------------------------------------------------------------------


def test_submitted_app_is_found_by_any_engine(engine: TorchXEngine, cluster: FakeCluster) -> None:
    assert engine.find(KEY) is None
    handle = engine.submit(plan(engine))
    assert handle.startswith(f"fake://torchx/{KEY}-")
    assert fake_engine(cluster).find(KEY) == handle
    assert engine.find(f"{KEY}1") is None


def test_answer_that_was_lost_after_submission(engine: TorchXEngine, cluster: FakeCluster) -> None:
    cluster.fail_next("schedule", after_effect=True)
    with pytest.raises(SchedulerUnavailableError, match=f"fake failed to submit {KEY}.*told to fail") as caught:
        engine.submit(plan(engine))
    assert caught.value.retryable
    (app_id,) = cluster.apps()
    assert engine.find(KEY) == f"fake://torchx/{app_id}"


def test_find_that_fails_is_not_not_found(engine: TorchXEngine, cluster: FakeCluster) -> None:
    cluster.fail_next("list")
    with pytest.raises(SchedulerUnavailableError, match=f"look for {KEY}"):
        engine.find(KEY)


def test_trial_status_of_every_app_state_is_that_of_ax(engine: TorchXEngine, cluster: FakeCluster) -> None:
    from ax.runners.torchx import APP_STATE_TO_TRIAL_STATUS  # takes seconds, for this test only

    handle = engine.submit(plan(engine))
    for state in specs.AppState:
        cluster.set_state(engine.app_id(handle), state.name)
        assert engine.observe([handle])[handle].trial_status == APP_STATE_TO_TRIAL_STATUS[state].name


def test_app_that_the_scheduler_does_not_show_yet(engine: TorchXEngine, cluster: FakeCluster) -> None:
    handle = engine.submit(plan(engine))
    cluster.hide_next(1)
    assert [engine.observe([handle])[handle].app_state for _ in range(2)] == ["UNKNOWN", "RUNNING"]


def test_observe_many(engine: TorchXEngine, cluster: FakeCluster) -> None:
    handles = [engine.submit(plan(engine, key=f"{KEY}{i}")) for i in range(1, 6)]
    cluster.set_state(engine.app_id(handles[0]), "FAILED", "exit code 1")
    cluster.forget(engine.app_id(handles[1]))
    other = ["slurm://torchx/12", "nonsense"]
    seen = engine.observe([*handles, *other, handles[0]])
    assert seen[handles[0]] == AppObservation("FAILED", "exit code 1")
    assert [seen[h].app_state for h in handles[1:]] == ["UNKNOWN", "RUNNING", "RUNNING", "RUNNING"]
    assert {seen[h].app_state for h in other} == {"UNKNOWN"}
    assert cluster.calls("describe") == len(handles)
    assert engine.observe([]) == {}


def test_observation_that_fails_is_no_state(engine: TorchXEngine, cluster: FakeCluster) -> None:
    handle = engine.submit(plan(engine))
    cluster.fail_next("describe", 2)
    for _ in range(2):
        with pytest.raises(SchedulerUnavailableError):
            engine.observe([handle])
    assert engine.observe([handle])[handle].app_state == "RUNNING"


def test_cancel_is_idempotent_and_unknown_is_no_error(engine: TorchXEngine, cluster: FakeCluster) -> None:
    handle = engine.submit(plan(engine))
    engine.cancel(handle)
    engine.cancel(handle)
    assert engine.observe([handle])[handle].app_state == "CANCELLED"
    assert cluster.calls("cancel") == 1
    engine.cancel("fake://torchx/absent")
    for wrong in ("slurm://torchx/1", "nonsense"):
        with pytest.raises(InvalidInputError, match="is no app handle of scheduler fake"):
            engine.cancel(wrong)


def test_cancel_that_fails_is_to_be_tried_again(engine: TorchXEngine, cluster: FakeCluster) -> None:
    handle = engine.submit(plan(engine))
    cluster.fail_next("cancel")
    with pytest.raises(SchedulerUnavailableError, match="cancel"):
        engine.cancel(handle)
    engine.cancel(handle)
    assert engine.observe([handle])[handle].app_state == "CANCELLED"


# -- logs ------------------------------------------------------------------------------------------------------------


def test_logs_are_the_last_lines_of_each_replica(engine: TorchXEngine, cluster: FakeCluster) -> None:
    handle = engine.submit(plan(engine))
    (cluster.root / "trainer-0.log").write_text("".join(f"{i}\n" for i in range(100)))
    (cluster.root / "trainer-1.log").write_text("x" * 5000)
    lines = engine.logs(handle, lines=2)
    assert lines[:2] == ["trainer/0: 98", "trainer/0: 99"]
    assert lines[2].startswith("trainer/1: xxx")
    assert len(lines[2]) < 2100
    assert lines[3].startswith("[no log of ps/0: FileNotFoundError")


def test_a_log_without_end_is_left(engine: TorchXEngine, cluster: FakeCluster) -> None:
    handle = engine.submit(plan(engine))
    (cluster.root / "trainer-0.log").write_text("first\nHANG\n")
    started = time.monotonic()
    assert engine.logs(handle, deadline_seconds=0.3) == [
        "trainer/0: first",
        "trainer/0: HANG",
        "[reading the log was ended after 0.3 s]",
    ]
    assert time.monotonic() - started < 30


def test_missing_logs_are_explained(engine: TorchXEngine, cluster: FakeCluster) -> None:
    assert engine.logs("fake://torchx/absent") == ["[no log: the scheduler does not know the app]"]
    cluster.fail_next("describe")
    (line,) = engine.logs("fake://torchx/absent")
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

    TorchXEngine("replacing", scheduler_factories={"replacing": replacing})
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
    engine = fake_engine(cluster)
    handle = engine.submit(plan(engine))
    assert engine.find(KEY) == handle
    for scheduler in ("local_detached", "slurm", "local_docker"):
        Schedulers(extra={}).get(scheduler)


def test_one_runner_in_a_process_and_another_in_a_forked_child() -> None:
    first, second = TorchXEngine("local_detached"), TorchXEngine("slurm")
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
        "from airflow_provider_axtx.launcher.torchx_launcher import TorchXEngine\n"
        "engine = TorchXEngine('fake')\n"
        "plan = engine.plan('utils.booth', {'x1': 1.0, 'x2': 2.0}, trial_index=1, experiment='e',\n"
        f"    tracker_base='/t', submission_key='{KEY}')\n"
        "engine.cancel(engine.submit(plan))\n"
    )
    environment = {**os.environ, **cluster.environment(), "AXTX_CRASH_POINT": point}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (cluster.calls("schedule"), cluster.calls("cancel")) == (submitted, cancelled)


@pytest.mark.parametrize(
    ("told", "shown"), [("https://console/jobs/1", "https://console/jobs/1"), ("file:///logs", None), (None, None)]
)
def test_the_schedulers_own_page_of_an_app(
    engine: TorchXEngine, monkeypatch: pytest.MonkeyPatch, told: str | None, shown: str | None
) -> None:
    handle = engine.submit(plan(engine))
    describe = FakeScheduler.describe

    def with_page(self: FakeScheduler, app_id: str) -> Any:
        answer = describe(self, app_id)
        answer.ui_url = told
        return answer

    monkeypatch.setattr(FakeScheduler, "describe", with_page)
    assert engine.page_url(handle) == shown
