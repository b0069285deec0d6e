"""Cancelled, killed, restarted: whatever ends an app, none of its processes is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import AppElsewhereError
from airflow_provider_axtx.launcher.local_detached import launch, processes, supervisor
from airflow_provider_axtx.launcher.local_detached.app_dir import AppDir
from tests.launcher.local_detached.harness import Apps, fork, processes_with, wait_until


@pytest.fixture
def marker() -> str:
    """An argument of ``sleep`` that no other process on this host has."""
    return f"1000.{uuid.uuid4().int}"


def cancel(apps: Apps) -> None:
    apps.another().cancel("app")


def sigkill_the_supervisor(apps: Apps) -> None:
    apps.kill_supervisor("app")


#: An app that leaves its process group, its session, its parent and, in the last one, even its environment.
FAMILIES = {
    "child": "sleep {m} & wait",
    "trapping": "trap '' TERM; sleep {m} & sleep {m} & wait; wait; wait",
    "escaped": "setsid sh -c 'trap \"\" TERM; sleep {m} & setsid sleep {m} & wait' & sleep {m}",
    "orphaned": "(setsid sleep {m} &) ; exec sleep {m}",
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", [cancel, sigkill_the_supervisor])
def test_no_process_is_left(apps: Apps, marker: str, family: str, end: Callable[[Apps], None]) -> None:
    script = FAMILIES[family].format(m=marker)
    apps.submit("app", script, term_grace=1)
    wait_until(lambda: len(processes_with(marker)) >= script.count(f"sleep {marker}"), "the family")
    end(apps)
    assert apps.until("app") == ("CANCELLED" if end is cancel else "FAILED")
    assert processes_with(marker) == []
    if end is sigkill_the_supervisor:
        assert apps.message("app").startswith("lost: its supervisor (pid ")
        assert apps.scheduler.describe_many(["app"])["app"].is_infrastructure_failure


def test_what_has_even_dropped_its_environment_is_swept_by_a_living_supervisor(apps: Apps, marker: str) -> None:
    apps.submit("app", f"env -i setsid sleep {marker} & sleep 1000")
    wait_until(lambda: processes_with(marker), "the escaped one")
    apps.scheduler.cancel("app")
    assert apps.until("app") == "CANCELLED"
    assert processes_with(marker) == []


@pytest.mark.parametrize("code", [0, 3])
def test_what_an_app_leaves_in_the_background_ends_with_it(apps: Apps, marker: str, code: int) -> None:
    apps.submit("app", f"setsid sleep {marker} & sleep {marker} & exit {code}")
    assert apps.until("app") == ("FAILED" if code else "SUCCEEDED")
    assert processes_with(marker) == []


def test_without_ctypes_what_escapes_is_still_found(apps: Apps, marker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "start", lambda _app: True)
    apps.submit("app", f"setsid sleep {marker} & sleep 0.2; exit 0")
    monkeypatch.setattr(processes, "ctypes", None)
    assert not processes.adopt_orphans()
    assert fork(lambda: supervisor.main(str(apps.root / "app"))) == 0
    assert apps.until("app") == "SUCCEEDED"
    assert processes_with(marker) == []


def test_an_app_may_clean_up_within_the_grace(apps: Apps, tmp_path: Path) -> None:
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    # The shell in front dies of the SIGTERM; the one behind it needs a moment longer.
    behind = f"trap 'sleep 0.5; touch {saved}; exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"
    apps.submit("app", f'sh -c "{behind}" & wait', term_grace=60)
    wait_until(ready.exists, "the trap")
    began = time.monotonic()
    apps.scheduler.cancel("app")
    assert apps.until("app") == "CANCELLED"
    assert saved.exists()
    assert time.monotonic() - began < 30


def test_cancelling_is_idempotent_and_ends_in_one_state(apps: Apps, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    apps.submit("app", f"trap '' TERM; touch {ready}; while :; do sleep 0.05; done", term_grace=1)
    wait_until(ready.exists, "the trap")
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda _: cancel(apps), range(5))) == [None] * 5
    assert apps.until("app") == "CANCELLED"
    final = apps.final_json("app")
    assert final is not None and final["exits"] == {"trainer/0": -signal.SIGKILL}
    apps.scheduler.cancel("app")
    assert apps.final_json("app") == final


def test_cancelling_what_has_ended_changes_nothing(apps: Apps) -> None:
    apps.submit("app", "exit 4")
    apps.until("app")
    final = apps.final_json("app")
    apps.scheduler.cancel("app")
    assert (apps.state("app"), apps.final_json("app")) == ("FAILED", final)
    assert not (apps.root / "app" / "cancel").exists()


def test_cancelled_and_then_lost_is_cancelled(apps: Apps, marker: str) -> None:
    apps.submit("app", f"trap '' TERM; sleep {marker} & wait; wait", term_grace=600)
    wait_until(lambda: processes_with(marker), "the app")
    apps.scheduler.cancel("app")
    apps.kill_supervisor("app")
    assert apps.until("app") == "CANCELLED"
    assert apps.message("app") == "cancelled on request; its supervisor was lost meanwhile"
    assert processes_with(marker) == []


def test_cancelling_a_lost_app_ends_what_is_left_of_it(apps: Apps, marker: str) -> None:
    apps.submit("app", f"sleep {marker} & wait")
    wait_until(lambda: processes_with(marker), "the app")
    apps.kill_supervisor("app")
    assert fork(lambda: apps.another().cancel("app")) == 0
    assert processes_with(marker) == []
    assert apps.state("app") == "FAILED"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_supervisor_that_is_told_to_stop_takes_its_app_along(apps: Apps, marker: str, number: int) -> None:
    apps.submit("app", f"exec sleep {marker}")
    wait_until(lambda: processes_with(marker), "the app")
    apps.supervisor("app").send_signal(number)
    assert apps.until("app") == "FAILED"
    assert apps.message("app").startswith("lost: its supervisor was told to stop")
    assert apps.scheduler.describe_many(["app"])["app"].is_infrastructure_failure
    assert processes_with(marker) == []


def test_a_supervisor_survives_a_hangup(apps: Apps) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    supervisor = apps.supervisor("app")
    supervisor.send_signal(signal.SIGHUP)
    apps.scheduler.cancel("app")
    assert apps.until("app") == "CANCELLED"


def rewrite_started(apps: Apps, **changes: str) -> dict[str, object]:
    path = apps.root / "app" / "started.json"
    before: dict[str, object] = json.loads(path.read_text())
    path.write_text(json.dumps({**before, **changes}))
    return before


def test_after_a_restart_of_the_host_the_app_is_lost(apps: Apps) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    apps.kill_supervisor("app")
    host = rewrite_started(apps, boot_id="another")["host"]
    assert apps.until("app") == "FAILED"
    assert apps.message("app") == f"lost: the host {host} was restarted"


def test_an_app_of_another_host_is_unknown_here_until_it_has_ended(apps: Apps) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    before = rewrite_started(apps, boot_id="another", host="elsewhere")
    seen = apps.scheduler.describe_many(["app"])["app"]
    assert isinstance(seen, AppElsewhereError)
    assert "belongs to host elsewhere" in seen.message
    assert (apps.state("app"), "belongs to host elsewhere" in apps.message("app")) == ("UNKNOWN", True)
    apps.scheduler.cancel("app")
    assert apps.until("app") == "CANCELLED"
    # A container beside this one: another name, the same kernel.
    rewrite_started(apps, boot_id=str(before["boot_id"]), host="elsewhere")
    assert apps.state("app") == "CANCELLED"


def test_a_reused_pid_is_left_alone() -> None:
    stranger = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        start = processes.process(stranger.pid).start
        assert processes.kill_app("a-token-of-nobody", {stranger.pid: start - 1}, os.getuid()) == []
        assert stranger.poll() is None
        assert processes.kill_app("a-token-of-nobody", {stranger.pid: start}, os.getuid()) == []
        assert stranger.wait(60) == -signal.SIGKILL
    finally:
        stranger.kill()


def test_an_end_that_finds_the_disk_full_is_recorded_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Disk(AppDir):
        attempts = 0

        def write(self, name: str, content: dict[str, Any]) -> None:
            self.attempts += 1
            if self.attempts < 3:
                raise OSError(28, "No space left on device")
            super().write(name, content)

    monkeypatch.setattr(supervisor, "_RECORD_INTERVAL", 0.01)
    (tmp_path / "app").mkdir()
    app = Disk(str(tmp_path), "app")
    supervisor.Supervisor(app, {"max_parallel": 1}, "host")._record("SUCCEEDED", "", False)
    final = app.read("final.json")
    assert final is not None and final["state"] == "SUCCEEDED"
    assert app.attempts == 3
    assert "cannot record SUCCEEDED: [Errno 28]" in capfd.readouterr().err


def test_an_observer_that_cannot_write_still_tells_the_truth(
    apps: Apps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    apps.kill_supervisor("app")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("airflow_provider_axtx.launcher.local_detached.app_dir.write_file", full)
        assert apps.until("app") == "FAILED"
    assert "No space left" in caplog.text
    assert apps.final_json("app") is None
    assert apps.state("app") == "FAILED"
    assert apps.final_json("app") is not None
