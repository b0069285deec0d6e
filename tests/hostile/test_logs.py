"""Output of any size and kind: what reads it stays small, goes on, and reads nothing but the app's own files."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher import log_files
from airflow_provider_axtx.launcher.log_sources import FileLog, TimedLog
from airflow_provider_axtx.launcher.logs import LogFollower, last_lines

MB = 1024 * 1024
#: Of a file of 200 MB, a reader may never hold more than this.
MOST_MEMORY = 16 * MB
HUGE = 200 * MB


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


def lines_of_text(file: Path) -> None:
    line = b"x" * 99 + b"\n"
    with file.open("wb") as log:
        for _ in range(HUGE // (len(line) * 1000)):
            log.write(line * 1000)
        log.write(b"the end\n")


def one_line(file: Path) -> None:
    with file.open("wb") as log:
        for _ in range(HUGE // MB):
            log.write(b"x" * MB)
        log.write(b"\nthe end\n")


def progress_bar(file: Path) -> None:
    with file.open("wb") as log:
        for n in range(HUGE // (1000 * 100)):
            log.write(b"".join(b"\r%6d %s" % (n * 1000 + i, b"#" * 92) for i in range(1000)))
        log.write(b"\nthe end\n")


@pytest.mark.parametrize("write", [lines_of_text, one_line, progress_bar])
def test_huge_log(tmp_path: Path, write: Callable[[Path], None]) -> None:
    file = tmp_path / "combined.log"
    write(file)
    seen = AppObservation("RUNNING")
    follower = LogFollower(lambda: seen, lambda: [FileLog("app/0", file)])
    with little_memory():
        tail = last_lines(lambda: seen, lambda: [FileLog("app/0", file)], lines=20, deadline_seconds=60)
        followed: list[str] = []
        while lines := follower.new_lines(deadline_seconds=60):
            followed += lines
    assert tail[-1] == followed[-1] == "app/0: the end"
    assert len(tail) <= 20
    assert "bytes of output are left out" in followed[0]
    assert len(followed) < 20_000
    assert all(len(line) < 3000 for line in (*tail, *followed))


def test_unfinished_line_without_end_is_given_in_pieces(tmp_path: Path) -> None:
    """An app that never ends its line: each look goes on behind the last one."""
    file = tmp_path / "combined.log"
    follower = LogFollower(lambda: AppObservation("RUNNING"), lambda: [FileLog("app/0", file)])
    text = "é" * log_files.MAX_LINE_BYTES
    file.write_text(text)
    pieces = follower.new_lines()
    position = follower.given["app/0"]
    assert "".join(piece.removeprefix("app/0: ") for piece in pieces) == text[: position // 2]
    assert len(text.encode()) - position <= log_files.MAX_LINE_BYTES
    assert follower.new_lines() == []
    with file.open("a") as log:
        log.write("!\n")
    assert follower.new_lines()[-1].endswith("!")
    assert follower.given["app/0"] > position


def test_progress_bar_shows_its_last_state(tmp_path: Path) -> None:
    file = tmp_path / "combined.log"
    file.write_bytes(b"epoch 1\r\n 10%\r 50%\r100%\nepoch 2\r\n 10%\r 20%\r")
    assert log_files.last_lines(file, 10) == ["epoch 1", "100%", "epoch 2", " 20%"]
    assert [line for _, line in log_files.read_lines(file, ended=lambda: False)] == ["epoch 1\n", "100%\n", "epoch 2\n"]


def test_replaced_log_is_read_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "combined.log"
    file.write_text("new\n")
    assert list(log_files.read_lines(file, 10_000, ended=lambda: True)) == [(4, "new\n")]


def plant_link(place: Path, secret: Path) -> None:
    place.symlink_to(secret)


def plant_fifo(place: Path, _: Path) -> None:
    os.mkfifo(place)


def plant_folder(place: Path, _: Path) -> None:
    place.mkdir()


@pytest.mark.parametrize("plant", [plant_link, plant_fifo, plant_folder])
def test_what_is_not_a_file_is_not_read(tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    secret = tmp_path / "airflow.cfg"
    secret.write_text("fernet_key = s3cr3t\n")
    plant(tmp_path / "combined.log", secret)
    seen = AppObservation("RUNNING")
    source = FileLog("app/0", tmp_path / "combined.log")
    [line] = last_lines(lambda: seen, lambda: [source], lines=5, deadline_seconds=10)
    assert line.startswith("[no log of app/0")
    assert LogFollower(lambda: seen, lambda: [source]).new_lines(deadline_seconds=10) == []


def test_folder_on_the_way_may_be_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "combined.log").write_text("s3cr3t\n")
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "app").symlink_to(tmp_path / "elsewhere")
    file = tmp_path / "apps" / "app" / "combined.log"
    with pytest.raises(OSError, match="symbolic link"):
        log_files.last_lines(file, 5, below=tmp_path / "apps")
    assert log_files.last_lines(file, 5) == ["s3cr3t"]


def chunks_of(text: bytes, size: int) -> Callable[[int, int | None], Iterator[bytes]]:
    return lambda _since, _count: (text[i : i + size] for i in range(0, len(text), size))


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_output_with_times_goes_on_behind_the_last_line(size: int) -> None:
    stamps = [f"2026-01-02T03:04:05.{n:09d}Z".encode() for n in range(1, 5)]
    lines = [b"%s line %d\n" % (stamp, n) for n, stamp in enumerate(stamps)]
    asked: list[int] = []

    def fetch(since: int, _count: int | None) -> Iterator[bytes]:
        asked.append(since)
        return chunks_of(b"".join(lines), size)(since, None)

    follower = LogFollower(lambda: AppObservation("RUNNING"), lambda: [TimedLog("app/0", fetch)])
    assert follower.new_lines(most=2) == ["app/0: line 0", "app/0: line 1"]
    second = LogFollower(lambda: AppObservation("RUNNING"), lambda: [TimedLog("app/0", fetch)], follower.given)
    assert second.new_lines() == ["app/0: line 2", "app/0: line 3"]
    assert second.new_lines() == []
    assert asked[0] == 0 < asked[1] < asked[2]


def test_long_line_with_a_time_comes_in_pieces() -> None:
    text = b"2026-01-02T03:04:05Z " + b"x" * 10_000 + b"\n2026-01-02T03:04:06Z end\n"
    source = TimedLog("app/0", chunks_of(text, 64))
    lines = list(source.after(0, lambda: False))
    assert "".join(line for _, line in lines[:-1]) == "x" * 10_000 + "\n"
    assert lines[-1][1] == "end\n"
    assert len({time for time, _ in lines}) == 2
