"""The error file of a replica, which the app writes where it likes and as long as it likes."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher.logs import last_lines
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.launcher.local_detached.harness import Apps

MB = 1024 * 1024
SECRET = "fernet_key = s3cr3t"


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    own = Apps(tmp_path / "apps")
    yield own
    for app in own.scheduler.list():
        own.scheduler.cancel(app.app_id)
        own.until(app.app_id)


@pytest.fixture
def error_file(apps: Apps) -> Path:
    """The place of the error file of an app that has failed, and which has written none."""
    apps.submit("app", "exit 1")
    assert apps.until("app") == "FAILED"
    return apps.root / "app" / "logs" / "trainer" / "0" / "error.json"


def link(place: Path, secret: Path) -> None:
    place.symlink_to(secret)


def link_to_itself(place: Path, _: Path) -> None:
    place.symlink_to(place)


def fifo(place: Path, _: Path) -> None:
    os.mkfifo(place)


def folder(place: Path, _: Path) -> None:
    place.mkdir()


def device(place: Path, _: Path) -> None:
    place.symlink_to("/dev/zero")


def folder_link(place: Path, secret: Path) -> None:
    """The whole log folder is a link to one in which there is such a file."""
    elsewhere = secret.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "error.json").write_text(json.dumps({"message": SECRET}))
    place.parent.rename(place.parent.with_name("moved"))
    place.parent.symlink_to(elsewhere)


@pytest.mark.parametrize("plant", [link, link_to_itself, fifo, folder, device, folder_link])
def test_what_is_not_a_file_of_the_app_is_not_shown(
    apps: Apps, error_file: Path, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    secret = tmp_path / "airflow.cfg"
    secret.write_text(SECRET)
    plant(error_file, secret)
    described = apps.scheduler.describe("app")
    assert described is not None
    assert (described.state.name, described.structured_error_msg) == ("FAILED", "<NONE>")
    launcher = TorchXLauncher.for_attempt("local_detached", {"local_root": str(apps.root)})
    handle = "local_detached://torchx/app"
    seen = launcher.observe([handle])[handle]
    assert (seen.app_state, seen.message) == ("FAILED", "trainer/0: exit code 1")
    assert "s3cr3t" not in "".join(launcher.logs(handle))


@pytest.mark.parametrize("content", [b"x" * MB, b'{"message": "' + b"x" * MB, b"[" * MB, b"\xff\x00" * MB])
def test_a_huge_error_file_is_cut(apps: Apps, error_file: Path, content: bytes) -> None:
    with error_file.open("wb") as file:
        for _ in range(max(1, 200 * MB // len(content))):
            file.write(content)
    tracemalloc.start()
    try:
        described = apps.scheduler.describe("app")
        assert tracemalloc.get_traced_memory()[1] < 8 * MB
    finally:
        tracemalloc.stop()
    assert described is not None
    assert 0 < len(described.structured_error_msg) < MB


def test_the_log_of_an_app_without_its_log_folder_says_so(apps: Apps, error_file: Path) -> None:
    error_file.parent.rename(error_file.parent.with_name("moved"))
    launcher = TorchXLauncher.for_attempt("local_detached", {"local_root": str(apps.root)})
    (line,) = launcher.logs("local_detached://torchx/app")
    assert line.startswith("[no log")
    assert last_lines(lambda: AppObservation("FAILED"), list, lines=5, deadline_seconds=5)
