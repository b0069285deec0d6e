"""An app's output, piece by piece while it is written."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher import logs
from airflow_provider_axtx.launcher.log_sources import FileLog, LinesLog, LogSource
from airflow_provider_axtx.launcher.logs import LogFollower


class App:
    """An app with one replica whose log is a file, or lines as a scheduler's client gives them."""

    def __init__(self, path: Path | None = None) -> None:
        self.state = "RUNNING"
        self.path = path
        self.lines: list[str] = []

    def read(self) -> Iterable[str]:
        return list(self.lines)

    def follower(self) -> LogFollower:
        return LogFollower(lambda: AppObservation(self.state), lambda: [self.source()])

    def source(self) -> LogSource:
        return FileLog("app/0", self.path) if self.path else LinesLog("app/0", lambda: self.read())


def test_each_line_of_a_file_is_given_once_and_whole(tmp_path: Path) -> None:
    app = App(tmp_path / "combined.log")
    follower = app.follower()
    assert follower.new_lines() == []  # the file does not exist yet
    with (tmp_path / "combined.log").open("ab", buffering=0) as log:
        log.write(b"one\ntw")
        assert follower.new_lines() == ["app/0: one"]
        log.write("o \u00e9".encode()[:-1])
        assert follower.new_lines() == []
        log.write("\u00e9\nthree".encode()[1:])
        assert follower.new_lines() == ["app/0: two \u00e9"]
        app.state = "SUCCEEDED"
        assert follower.new_lines() == ["app/0: three"]  # nothing will be added to it
    assert follower.new_lines() == []


@pytest.mark.parametrize("is_file", [True, False])
def test_another_follower_goes_on_where_the_first_has_stopped(tmp_path: Path, is_file: bool) -> None:
    app = App(tmp_path / "log" if is_file else None)
    app.lines = [f"{i}\n" for i in range(5)]
    (tmp_path / "log").write_text("".join(app.lines))
    first = app.follower()
    assert first.new_lines(most=3) == ["app/0: 0", "app/0: 1", "app/0: 2"]
    second = LogFollower(lambda: AppObservation(app.state), lambda: [app.source()], first.given)
    assert second.new_lines() == ["app/0: 3", "app/0: 4"]


def test_lines_of_a_client_are_given_once() -> None:
    app = App()
    follower = app.follower()
    app.lines = ["one\n", "two\n"]
    assert follower.new_lines() == ["app/0: one", "app/0: two"]
    app.lines.append("three\n")
    assert follower.new_lines() == ["app/0: three"]


@pytest.mark.parametrize(
    ("given", "output"),
    [
        (["one\n", "two\n"], b"one\ntwo\n"),
        (["one", "two", ""], b"one\ntwo\n"),  # as Ray's
        (["one\ntw", "o\nthr"], b"one\ntwo\nthr"),  # as LSF's: pieces of a size
        ([], b""),
    ],
)
def test_the_lines_of_a_client_are_searched_as_they_were_written(given: list[str], output: bytes) -> None:
    assert b"".join(LinesLog("app/0", lambda: given).chunks(10**6)) == output


def test_a_flood_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_LINES", 3)
    (tmp_path / "log").write_text("".join(f"{i}\n" for i in range(7)))
    follower = App(tmp_path / "log").follower()
    assert [len(follower.new_lines()) for _ in range(4)] == [3, 3, 1, 0]


def test_a_client_that_hangs_holds_up_nobody() -> None:
    app, answered = App(), threading.Event()

    def hanging() -> Iterator[str]:
        yield "one\n"
        answered.wait(60)
        yield "two\n"

    app.read = hanging  # type: ignore[method-assign]
    follower = app.follower()
    assert follower.new_lines(deadline_seconds=0.2) == ["app/0: one"]
    assert follower.new_lines(deadline_seconds=0.2) == []  # no second question while the first is open
    answered.set()
    follower._reader.join(60)  # type: ignore[union-attr]
    assert follower.new_lines() == ["app/0: two"]
