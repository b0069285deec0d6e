"""An app may put anything in place of its results: it harms its own trial, and no file outside the tracker."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_axtx.core.errors import InvalidResultError, TrackerUnavailableError
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.launcher.tracker import list_steps, read_progress, read_results, remove_results


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the worker with a file of the name that a result has."""
    folder = tmp_path / "worker"
    (folder / "deep").mkdir(parents=True)
    for name in ("1", "5", "airflow.cfg", "deep/file"):
        (folder / name).write_text('{"fernet_key": "s3cr3t"}')
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "tracker"
    folder.mkdir()
    return folder


def intact(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("1", "5", "airflow.cfg", "deep/file"))


def link_to_file(place: Path, outside: Path) -> None:
    place.symlink_to(outside / "airflow.cfg")


def link_to_itself(place: Path, _: Path) -> None:
    place.symlink_to(place)


def link_to_nothing(place: Path, _: Path) -> None:
    place.symlink_to("/nowhere")


def fifo(place: Path, _: Path) -> None:
    os.mkfifo(place)


def folder(place: Path, _: Path) -> None:
    place.mkdir()


def device(place: Path, _: Path) -> None:
    place.symlink_to("/dev/zero")


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("plant", [link_to_file, link_to_itself, link_to_nothing, fifo, folder, device])
def test_result_that_is_not_a_file(base: Path, outside: Path, plant: Callable[[Path, Path], None], scheme: str) -> None:
    plant(base / "1", outside)
    began = time.monotonic()
    with pytest.raises(InvalidResultError) as caught:
        read_results(f"{scheme}{base}", 1)
    assert time.monotonic() - began < 10
    assert "s3cr3t" not in str(caught.value)
    remove_results(f"{scheme}{base}", 1)
    assert not os.path.lexists(base / "1")
    assert intact(outside)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_link_in_place_of_the_steps_removes_nothing_outside(base: Path, outside: Path, scheme: str) -> None:
    (base / "1.steps").symlink_to(outside)
    assert list_steps(f"{scheme}{base}", 1) == set()
    assert read_progress(f"{scheme}{base}", 1) == {}
    remove_results(f"{scheme}{base}", 1)
    assert intact(outside)
    assert not os.path.lexists(base / "1.steps")


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_links_among_the_steps(base: Path, outside: Path, scheme: str) -> None:
    steps = base / "1.steps"
    steps.mkdir()
    (steps / "1").write_text('{"a": 1.0}')
    (steps / "2").symlink_to(outside / "airflow.cfg")
    os.mkfifo(steps / "3")
    (steps / "4").symlink_to(outside)
    (steps / "deeper").mkdir()
    (steps / "deeper" / "file").write_text("x")
    (steps / "deeper" / "link").symlink_to(outside / "deep")
    assert read_progress(f"{scheme}{base}", 1) == {1.0: {"a": 1.0}}
    remove_results(f"{scheme}{base}", 1)
    assert intact(outside)
    assert not steps.exists()


def test_tracker_base_itself_may_be_a_link(base: Path, tmp_path: Path) -> None:
    """It is the DAG author's, not the app's."""
    (tmp_path / "current").symlink_to(base)
    (base / "1").write_text('{"a": 1}')
    assert read_results(str(tmp_path / "current"), 1) == {"a": 1}
    remove_results(str(tmp_path / "current"), 1)
    assert list(base.iterdir()) == []


def test_many_steps_are_limited(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "MAX_STEPS", 10)
    (base / "1.steps").mkdir()
    for step in range(50):
        (base / "1.steps" / str(step)).write_text('{"a": 1}')
    assert list_steps(str(base), 1) == set(range(10))


def test_file_system_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead NFS server or object store: the task, the reaper and the shared threads go on."""
    answered = threading.Event()

    class Silent(MemoryFileSystem):  # type: ignore[misc]
        protocol = "silent"

        def open(self, *_: object, **__: object) -> object:
            answered.wait(60)
            raise OSError("too late")

        ls = find = info = open

    fsspec.register_implementation("silent", Silent, clobber=True)
    monkeypatch.setattr(tracker, "DEADLINE_SECONDS", 0.2)
    try:
        for call in (read_results, remove_results, list_steps, read_progress):
            with pytest.raises(TrackerUnavailableError, match="did not answer"):
                call("silent://base", 1)
    finally:
        answered.set()


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_tracker_of_an_attempt_is_removed_whole(tmp_path: Path, outside: Path, scheme: str) -> None:
    root = f"{scheme}{tmp_path}/trackers"
    for key in ("KEY", "OTHER"):
        with fsspec.open(f"{root}/{key}/checkpoints/1", "w", auto_mkdir=True) as file:
            file.write("x")
    if scheme != "memory://":
        (tmp_path / "trackers" / "KEY" / "link").symlink_to(outside)
    assert not tracker.remove_tracker(f"{root}/OTHER", "KEY")
    assert tracker.remove_tracker(f"{root}/KEY", "KEY")
    assert not tracker.remove_tracker(f"{root}/KEY/", "KEY")
    files = fsspec.url_to_fs(root)[0]
    assert files.exists(f"{tmp_path}/trackers/OTHER/checkpoints/1")
    assert not files.exists(f"{tmp_path}/trackers/KEY/checkpoints/1")
    assert intact(outside)
