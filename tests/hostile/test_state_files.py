"""State files of ``local_detached`` that an app has changed: each app is read on its own, and no stranger is killed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.launcher.local_detached.app_dir import AppDir
from airflow_provider_axtx.launcher.local_detached.processes import process
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.launcher.local_detached.harness import Apps, wait_until

NOBODY = 65534


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    own = Apps(tmp_path / "apps")
    yield own
    for app in own.scheduler.list():
        own.scheduler.cancel(app.app_id)
        own.until(app.app_id)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield started
    started.kill()
    started.wait()


def garbage(place: Path) -> None:
    place.write_bytes(b"\xff\xfe{")


def wrong_type(place: Path) -> None:
    place.write_text('["SUCCEEDED"]')


def missing_keys(place: Path) -> None:
    place.write_text("{}")


def nested(place: Path) -> None:
    place.write_text("[" * 100_000)


def huge(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(300 * 1024 * 1024)


def fifo(place: Path) -> None:
    os.mkfifo(place)


def link(place: Path) -> None:
    place.symlink_to("/etc/passwd")


def folder(place: Path) -> None:
    place.mkdir()


PLANTS = [garbage, wrong_type, missing_keys, nested, huge, fifo, link, folder]


def replace(path: Path, plant: Callable[[Path], None]) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    plant(path)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", ["final.json", "running.json", "started.json", "request.json"])
def test_one_app_does_not_hide_the_others(apps: Apps, name: str, plant: Callable[[Path], None]) -> None:
    for app in ("bad", "good"):
        apps.submit(app, "exec sleep 1000")
        apps.until(app, "RUNNING")
    before = (apps.root / "bad" / name).read_text() if name == "request.json" else ""
    replace(apps.root / "bad" / name, plant)
    began = time.monotonic()
    launcher = TorchXLauncher.for_attempt("local_detached", {"local_root": str(apps.root)})
    handles = {app: f"local_detached://torchx/{app}" for app in ("bad", "good")}
    seen = launcher.observe(list(handles.values()))
    assert seen[handles["good"]].app_state == "RUNNING"
    # Its supervisor lives, and holds the lock: nothing else tells what it is doing.
    assert seen[handles["bad"]].app_state in ("RUNNING", "PENDING")
    assert time.monotonic() - began < 10
    launcher.cancel(handles["good"])
    wait_until(lambda: launcher.observe([handles["good"]])[handles["good"]].app_state == "CANCELLED", "its end")
    if before:
        replace(apps.root / "bad" / name, lambda place: [place.write_text(before)][0] and None)


@pytest.mark.parametrize("plant", PLANTS)
def test_end_is_recorded_over_whatever_is_in_its_place(apps: Apps, plant: Callable[[Path], None]) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    replace(apps.root / "app" / "final.json", plant)
    apps.scheduler.cancel("app")
    wait_until(lambda: (apps.final_json("app") or {}).get("state") == "CANCELLED", "its end")


@pytest.mark.parametrize("plant", PLANTS)
def test_app_whose_supervisor_died_ends_with_an_unusable_file(apps: Apps, plant: Callable[[Path], None]) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    apps.kill_supervisor("app")
    replace(apps.root / "app" / "final.json", plant)
    assert apps.until("app") == "FAILED"


def forge(apps: Apps, **content: Any) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    token = apps.scheduler.directory("app").token
    apps.kill_supervisor("app")
    file = apps.root / "app" / "running.json"
    file.write_text(json.dumps({k: token if v == "TOKEN" else v for k, v in content.items()}))


@pytest.mark.parametrize("token", [{}, {"token": "guessed"}, {"token": None}])
def test_forged_list_of_processes_kills_no_stranger(
    apps: Apps, stranger: subprocess.Popen[bytes], token: dict[str, Any]
) -> None:
    forge(apps, time=1.0, leaders={str(stranger.pid): process(stranger.pid).start}, **token)
    assert apps.until("app") == "FAILED"
    assert stranger.poll() is None


@pytest.mark.parametrize("leaders", [{"x": 1}, {"1": "x"}, [1], "all", {"-1": 0}, None])
def test_list_of_processes_that_is_none(apps: Apps, leaders: object) -> None:
    forge(apps, time=1.0, leaders=leaders, token="TOKEN")
    assert apps.until("app") == "FAILED"


def test_observer_with_more_rights_kills_only_processes_of_the_owner(
    apps: Apps, stranger: subprocess.Popen[bytes]
) -> None:
    """The app of an ordinary user names a process of root, and root's triggerer looks at the app."""
    forge(apps, time=1.0, leaders={str(stranger.pid): process(stranger.pid).start}, token="TOKEN")
    for path in [apps.root, apps.root / "app", *(apps.root / "app").rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    assert apps.until("app") == "FAILED"
    assert stranger.poll() is None


@pytest.mark.parametrize("name", ["final.json", "running.json"])
def test_file_of_another_user_is_not_believed(apps: Apps, stranger: subprocess.Popen[bytes], name: str) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    token = apps.scheduler.directory("app").token
    apps.kill_supervisor("app")
    file = apps.root / "app" / name
    leaders = {str(stranger.pid): process(stranger.pid).start}
    file.write_text(
        json.dumps(
            {
                "state": "SUCCEEDED",
                "message": "",
                "infrastructure": False,
                "exits": {},
                "time": 1.0,
                "leaders": leaders,
                "token": token,
            }
        )
    )
    os.chown(file, NOBODY, NOBODY)
    assert apps.until("app") == "FAILED"
    assert stranger.poll() is None


def test_forged_end_is_not_believed(apps: Apps) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    final = {"state": "SUCCEEDED", "message": "", "infrastructure": False, "exits": {}, "time": 1.0}
    (apps.root / "app" / "final.json").write_text(json.dumps(final))
    assert apps.state("app") == "RUNNING"


def test_cancel_marker_that_is_a_link_makes_no_file(apps: Apps, tmp_path: Path) -> None:
    apps.submit("app", "exec sleep 1000")
    apps.until("app", "RUNNING")
    (apps.root / "app" / "cancel").symlink_to(tmp_path / "made")
    apps.scheduler.cancel("app")
    assert apps.until("app") == "CANCELLED"
    assert not (tmp_path / "made").exists()


# -- secrets at rest -------------------------------------------------------------------------------------------------


def holds(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_text(errors="replace")]


def secret_app(apps: Apps, script: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-value")
    apps.submit("app", f"{script} # argument-s3cr3t", **options)


def test_secrets_leave_with_the_start_of_the_app(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_app(apps, 'echo "got $${#AWS_SECRET_ACCESS_KEY}"; exec sleep 1000', monkeypatch)
    wait_until(lambda: "got 12\n" in list(apps.scheduler.log_iter("app", "trainer")), "the app's start")
    wait_until(lambda: not holds(apps.root, "s3cr3t"), "the end of the secrets")
    description = apps.scheduler.describe("app")
    assert description is not None
    assert [(role.name, role.num_replicas) for role in description.roles] == [("trainer", 1)]


@pytest.mark.parametrize("how", ["cancelled in the queue", "supervisor killed", "cancelled before any supervisor"])
def test_secrets_leave_with_the_end_of_an_app_that_never_started(
    apps: Apps, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    apps.submit("blocker", "exec sleep 1000", max_parallel=1)
    apps.until("blocker", "RUNNING")
    if how == "cancelled before any supervisor":
        from airflow_provider_axtx.launcher.local_detached import launch

        monkeypatch.setattr(launch, "start", lambda app: True)
    secret_app(apps, "exit 0", monkeypatch, max_parallel=1)
    assert holds(apps.root, "s3cr3t")
    if how == "supervisor killed":
        apps.kill_supervisor("app")
    else:
        apps.scheduler.cancel("app")
    apps.until("app")
    assert not holds(apps.root, "s3cr3t")


def test_state_files_are_for_their_owner_only(apps: Apps) -> None:
    apps.submit("app", "exit 0")
    apps.until("app")
    for path in (apps.root, apps.root / "app"):
        assert path.stat().st_mode & 0o077 == 0
    assert AppDir(str(apps.root), "app").read("final.json") is not None
