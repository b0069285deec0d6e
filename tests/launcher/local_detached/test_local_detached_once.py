"""An app runs at most once, whoever submits it, however often, and whoever is killed when."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from airflow_provider_axtx.core.errors import DuplicateAppError, SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE
from airflow_provider_axtx.launcher.local_detached import spawning
from airflow_provider_axtx.launcher.local_detached.app_dir import AppDir, this_host
from airflow_provider_axtx.launcher.local_detached.awaiting import EndWatch
from tests.launcher.local_detached.harness import DEADLINE, Apps, fork, processes_with

#: Killed at these, no supervisor has taken the app: it may and must be started again.
NOT_STARTED = ("local.after_commit", "supervisor.before_lock", "supervisor.after_lock")
#: Killed at these, its supervisor is lost; the first five are before the app may run its first instruction.
LOST = (
    "supervisor.after_started",
    "supervisor.after_join",
    "supervisor.after_slot",
    "supervisor.after_fork",
    "supervisor.after_running",
    "supervisor.after_release",
    "supervisor.before_final",
)


def counting(tmp_path: Path, then: str = "") -> tuple[str, Path]:
    """A script that counts its runs in a file."""
    runs = tmp_path / "runs"
    return f"echo run >> {runs}; {then}", runs


def count(runs: Path) -> int:
    return len(runs.read_text().splitlines()) if runs.exists() else 0


def test_of_eight_processes_that_submit_at_once_one_wins_and_the_app_runs_once(apps: Apps, tmp_path: Path) -> None:
    script, runs = counting(tmp_path)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.Queue()

    def submit() -> None:
        barrier.wait(DEADLINE)
        try:
            results.put(apps.submit("app", script))
        except DuplicateAppError as error:
            results.put(type(error).__name__)

    processes = [context.Process(target=submit) for _ in range(8)]
    for process in processes:
        process.start()
    outcomes = sorted(results.get(timeout=DEADLINE) for _ in processes)
    for process in processes:
        process.join(DEADLINE)
    assert outcomes == ["DuplicateAppError"] * 7 + ["app"]
    assert apps.until("app") == "SUCCEEDED"
    assert count(runs) == 1
    assert sorted(path.name for path in apps.root.iterdir()) == [".queue", "app"]


def test_a_name_is_used_once_also_after_the_end(apps: Apps, tmp_path: Path) -> None:
    script, runs = counting(tmp_path)
    apps.submit("app", script)
    apps.until("app")
    with pytest.raises(DuplicateAppError, match="'app' exists already") as refused:
        apps.submit("app", script)
    assert "adopt it" in refused.value.fix
    assert count(runs) == 1


def submit_and_crash(apps: Apps, script: str, point: str) -> None:
    exit_code = fork(lambda: apps.submit("app", script), env={ARMED_VARIABLE: point})
    if point.startswith("local."):
        assert exit_code == -signal.SIGKILL


def assert_refused(apps: Apps, script: str) -> None:
    with pytest.raises(DuplicateAppError):
        apps.submit("app", script)


def test_killed_before_the_commit_nothing_was_submitted(apps: Apps, tmp_path: Path) -> None:
    script, runs = counting(tmp_path)
    submit_and_crash(apps, script, "local.before_commit")
    assert apps.state("app") == "absent"
    assert not apps.another().find("app")
    apps.submit("app", script)
    assert apps.until("app") == "SUCCEEDED"
    assert count(runs) == 1


@pytest.mark.parametrize("resume", ["schedule", "find"])
@pytest.mark.parametrize("point", NOT_STARTED)
def test_killed_before_the_start_the_next_one_starts_it(apps: Apps, tmp_path: Path, point: str, resume: str) -> None:
    script, runs = counting(tmp_path)
    submit_and_crash(apps, script, point)
    assert apps.state("app") == "SUBMITTED"
    if resume == "schedule":
        assert apps.submit("app", script) == "app"
    assert apps.another().find("app")
    assert apps.until("app") == "SUCCEEDED"
    assert_refused(apps, script)
    assert count(runs) == 1


def test_killed_after_the_start_it_runs(apps: Apps, tmp_path: Path) -> None:
    script, runs = counting(tmp_path)
    submit_and_crash(apps, script, "local.after_start")
    assert apps.another().find("app")
    assert_refused(apps, script)
    assert apps.until("app") == "SUCCEEDED"
    assert count(runs) == 1


@pytest.mark.parametrize("point", LOST)
def test_a_supervisor_killed_at_any_step_is_lost_and_never_replaced(apps: Apps, tmp_path: Path, point: str) -> None:
    marker = f"1000.{tmp_path.stat().st_ino}"
    finished = point == "supervisor.before_final"
    script, runs = counting(tmp_path, then="" if finished else f"setsid sleep {marker} & exec sleep {marker}")
    submit_and_crash(apps, script, point)
    assert apps.until("app") == "FAILED"
    assert apps.message("app").startswith("lost: its supervisor (pid ")
    assert apps.scheduler.describe_many(["app"])["app"].is_infrastructure_failure
    assert processes_with(marker) == []
    assert apps.another().find("app")
    assert_refused(apps, script)
    if finished:
        assert count(runs) == 1
    else:
        assert count(runs) <= (point == "supervisor.after_release")


def test_killed_after_the_end_was_recorded_nothing_is_lost(apps: Apps, tmp_path: Path) -> None:
    script, runs = counting(tmp_path)
    submit_and_crash(apps, script, "supervisor.after_final")
    assert apps.until("app") == "SUCCEEDED"
    assert count(runs) == 1


def test_many_that_resume_at_once_start_it_once(apps: Apps, tmp_path: Path) -> None:
    script, runs = counting(tmp_path)
    submit_and_crash(apps, script, "local.after_commit")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=apps.another().find, args=("app",)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE)
        assert process.exitcode == 0
    assert apps.until("app") == "SUCCEEDED"
    assert count(runs) == 1


@pytest.mark.parametrize("point", NOT_STARTED)
def test_cancelled_before_the_start_it_never_starts(apps: Apps, tmp_path: Path, point: str) -> None:
    script, runs = counting(tmp_path)
    submit_and_crash(apps, script, point)
    apps.another().cancel("app")
    assert apps.state("app") == "CANCELLED"
    assert apps.message("app") == "cancelled before it started"
    assert apps.another().find("app")
    assert_refused(apps, script)
    assert count(runs) == 0


@pytest.mark.parametrize("point", ["local.after_cancel", "local.before_settle"])
def test_killed_while_cancelling_it_is_cancelled_all_the_same(apps: Apps, tmp_path: Path, point: str) -> None:
    script, runs = counting(tmp_path)
    submit_and_crash(apps, script, "local.after_commit")
    assert fork(lambda: apps.another().cancel("app"), env={ARMED_VARIABLE: point}) == -signal.SIGKILL
    assert apps.state("app") == "CANCELLED"
    assert_refused(apps, script)
    assert count(runs) == 0


def test_an_app_whose_supervisor_cannot_start_stays_submitted(
    apps: Apps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, runs = counting(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(tmp_path / "no-python"))
        with pytest.raises(SchedulerUnavailableError, match=r"supervisor of app 'app' did not start: .*no-python"):
            apps.submit("app", script)
    assert apps.state("app") == "SUBMITTED"
    assert apps.scheduler.find("app")
    assert apps.until("app") == "SUCCEEDED"
    assert count(runs) == 1


def test_a_root_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SchedulerUnavailableError, match=f"could not be written under {tmp_path}/file/apps") as refused:
        Apps(tmp_path / "file" / "apps").submit("app", "exit 0")
    assert "AXTX_LOCAL_ROOT" in refused.value.fix


def test_one_process_forks_the_supervisors_of_all_submissions_and_may_be_lost(apps: Apps, tmp_path: Path) -> None:
    script, runs = counting(tmp_path)
    apps.submit("one", script)
    used = spawning._current
    apps.submit("two", script)
    assert used is not None
    assert spawning._current is used
    used._process.kill()
    used._process.wait()
    apps.submit("three", script)
    assert spawning._current is not used
    assert [apps.until(name) for name in ("one", "two", "three")] == ["SUCCEEDED"] * 3
    assert count(runs) == 3
    # A forked submitter has one of its own: this one's must not end with it.
    assert fork(lambda: apps.submit("four", script)) == 0
    apps.submit("five", script)
    assert [apps.until(name) for name in ("four", "five")] == ["SUCCEEDED"] * 2
    assert count(runs) == 5
    spawning._close()
    assert not processes_with(str(apps.root))


def test_what_ends_a_process_with_all_its_children_ends_no_app_that_it_has_submitted(apps: Apps) -> None:
    """A killed scheduler takes along what descends from its tasks; a supervisor that did so was lost with its app."""
    for name in ("one", "two"):
        apps.submit(name, "exec sleep 1000")
        apps.supervisor(name)
    left = fork(lambda: _kill_children_after_submitting(apps, "three"))
    assert left == 0
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    assert spawning._current is not None
    assert spawning._current._process.pid in children
    assert not children & {apps.supervisor(name).pid for name in ("one", "two")}
    assert [apps.until(name, "RUNNING", "FAILED") for name in ("one", "two", "three")] == ["RUNNING"] * 3


def _kill_children_after_submitting(apps: Apps, name: str) -> None:
    apps.submit(name, "exec sleep 1000")
    for child in psutil.Process().children(recursive=True):
        child.kill()


def test_a_waiter_keeps_no_descriptor_of_an_app_that_has_ended(tmp_path: Path) -> None:
    watch, descriptors = EndWatch(), Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for number in range(3):
        app = AppDir(str(tmp_path), f"ended-{number}")
        Path(app.path).mkdir()
        app.write("request.json", {"token": "t"})
        # The process of this id lives: its supervisor, before it ends, or another one.
        app.write("started.json", {**this_host(), "pid": os.getpid()})
        app.write("final.json", {"state": "SUCCEEDED"})
        watch.wait([app], DEADLINE)
    assert len(list(descriptors.iterdir())) == before


def test_the_end_of_an_app_wakes_its_waiter(apps: Apps, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    for name in ("waits", "ends"):
        apps.submit(name, f"read line < {gate}" if name == "ends" else "exec sleep 1000")
        apps.until(name, "RUNNING")
    watch, both = EndWatch(), [apps.scheduler.directory(name) for name in ("waits", "ends")]
    gate.write_text("go\n")
    watch.wait(both, DEADLINE)
    assert apps.until("ends") == "SUCCEEDED"
    before = time.monotonic()
    watch.wait(both, 0.2)  # it wakes its waiter once
    assert time.monotonic() - before >= 0.2
    apps.scheduler.cancel("waits")
