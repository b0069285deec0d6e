"""Output of an app of ``local_detached``: kept once, within a limit, and never a reason for the app to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher import log_files
from airflow_provider_axtx.launcher.local_detached.output import Output
from airflow_provider_axtx.launcher.log_sources import FileLog
from airflow_provider_axtx.launcher.logs import LogFollower
from tests.launcher.local_detached.harness import DEADLINE, Apps, processes_with, wait_until

KB, MB = 1024, 1024 * 1024


@pytest.fixture
def apps(tmp_path: Path) -> Iterator[Apps]:
    own = Apps(tmp_path / "apps")
    yield own
    for app in own.scheduler.list():
        own.scheduler.cancel(app.app_id)
        own.until(app.app_id)


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def lines_of(apps: Apps, name: str = "app", k: int = 0) -> list[str]:
    return [line.rstrip("\n") for line in apps.scheduler.log_iter(name, "trainer", k)]


def test_each_byte_is_on_disk_once(apps: Apps) -> None:
    apps.submit("app", f"{sys.executable} -c \"print('x' * 1000000)\"; echo err >&2")
    assert apps.until("app") == "SUCCEEDED"
    assert on_disk(apps.root / "app" / "logs") == 1_000_005


#: Numbered lines of 1 kB: 20 MB of them.
FLOOD = "import sys; [sys.stdout.write(f'{n:06d}' + 'x' * 1017 + chr(10)) for n in range(20000)]; print('the end')"


def test_of_a_flood_the_beginning_and_the_end_are_kept(apps: Apps) -> None:
    apps.submit("app", f'{sys.executable} -c "{FLOOD}"; exit 3', log_limit_mb=2)
    assert apps.until("app") == "FAILED"
    assert apps.message("app") == "trainer/0: exit code 3"
    assert MB < on_disk(apps.root / "app" / "logs") <= 2 * MB
    lines = lines_of(apps)
    assert (lines[0][:6], lines[-1]) == ("000000", "the end")
    (note,) = [i for i, line in enumerate(lines) if line.startswith("[")]
    assert int(lines[note].split()[0][1:]) == 1024 * (20_000 - (len(lines) - 2))
    assert "bytes of output are left out here" in lines[note]
    # Whole lines on both sides, and none is missing but there.
    numbers = [int(line[:6]) for line in lines[:note]], [int(line[:6]) for line in lines[note + 1 : -1]]
    assert numbers[0] == list(range(len(numbers[0])))
    assert numbers[1] == list(range(20_000 - len(numbers[1]), 20_000))
    assert min(map(len, numbers)) > 400
    tail = log_files.last_lines(apps.scheduler.log_file("app", "trainer", 0), 10)
    assert tail == lines[-10:]


def test_the_limit_is_for_all_replicas_together(apps: Apps) -> None:
    apps.submit("app", f'{sys.executable} -c "{FLOOD}"', replicas=4, log_limit_mb=4)
    assert apps.until("app") == "SUCCEEDED"
    assert 2 * MB < on_disk(apps.root / "app" / "logs") <= 4 * MB
    assert [lines_of(apps, k=k)[-1] for k in range(4)] == ["the end"] * 4


def test_a_flood_does_not_keep_its_app_from_being_cancelled(apps: Apps) -> None:
    apps.submit("app", "exec yes 'a flood 1000.4716'", log_limit_mb=1)
    wait_until(lambda: "a flood 1000.4716" in lines_of(apps)[-2:], "the flood")
    apps.scheduler.cancel("app")
    assert apps.until("app") == "CANCELLED"
    assert on_disk(apps.root / "app" / "logs") <= MB
    assert processes_with("1000.4716") == []


def test_what_follows_the_log_is_told_what_it_has_missed(tmp_path: Path) -> None:
    kept = Output(str(tmp_path / "combined.log"), 8 * 16 * KB)
    follower = LogFollower(lambda: AppObservation("RUNNING"), lambda: [FileLog("app/0", tmp_path / "combined.log")])

    def write(first: int, last: int) -> None:
        for n in range(first, last):
            kept._keep(f"{n:08d}\n".encode())

    write(0, 1000)
    assert follower.new_lines()[-1] == "app/0: 00000999"
    write(1000, 4000)  # from the first piece into the third
    assert follower.new_lines() == [f"app/0: {n:08d}" for n in range(1000, 3000)]
    write(4000, 50_000)
    shown = [line for _ in range(20) for line in follower.new_lines()]
    (note,) = [line for line in shown if "left out" in line]
    before, after = shown[: shown.index(note)], shown[shown.index(note) + 1 :]
    assert before == [f"app/0: {n:08d}" for n in range(3000, 3000 + len(before))]
    assert after == [f"app/0: {n:08d}" for n in range(50_000 - len(after), 50_000)]
    assert len(before) + len(after) + int(note.split("[")[1].split()[0]) // 9 == 47_000
    # Another process goes on from the same place.
    write(50_000, 50_001)
    again = LogFollower(
        lambda: AppObservation("RUNNING"), lambda: [FileLog("app/0", tmp_path / "combined.log")], follower.given
    )
    assert again.new_lines() == ["app/0: 00050000"]


def test_a_reader_that_waits_goes_on_into_the_next_piece(tmp_path: Path) -> None:
    kept = Output(str(tmp_path / "combined.log"), 8 * 16 * KB)
    ended = threading.Event()
    seen: list[str] = []

    def read() -> None:
        path = tmp_path / "combined.log"
        seen.extend(line for _, line in log_files.read_lines(path, ended=ended.is_set, should_wait=True))

    reader = threading.Thread(target=read)
    reader.start()
    expected = [f"line {n}\n" for n in range(6000)]
    for line in expected:
        kept._keep(line.encode())
    ended.set()
    reader.join(DEADLINE)
    assert seen == expected


def test_one_line_without_an_end_is_limited_too(tmp_path: Path) -> None:
    kept = Output(str(tmp_path / "combined.log"), 8 * 16 * KB)
    for _ in range(100):
        kept._keep(b"\r50 %" * 4000)
    assert on_disk(tmp_path) <= 8 * 16 * KB
    assert log_files.last_lines(tmp_path / "combined.log", 3)[-1] == "50 %"


def test_an_app_that_opens_its_standard_error_loses_nothing(apps: Apps) -> None:
    """``> /dev/stderr`` would empty a file; ``tee /dev/stderr`` would write over it."""
    apps.submit("app", "echo one; echo two > /dev/stderr; echo three | tee /dev/stderr; echo four > /dev/stdout")
    assert apps.until("app") == "SUCCEEDED"
    assert lines_of(apps) == ["one", "two", "three", "three", "four"]


# -- the app goes on whatever becomes of its log -----------------------------------------------------------------------


def test_output_that_cannot_be_kept_is_dropped_and_the_end_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Output(str(tmp_path / "combined.log"), MB)
    os.close(kept._file)
    kept._file = os.open("/dev/full", os.O_WRONLY)
    kept._keep(b"line\n")
    assert kept.trouble == " (the log is incomplete: [Errno 28] No space left on device)"


def plant_folder(place: Path) -> None:
    place.mkdir()


def plant_link(place: Path) -> None:
    place.symlink_to("/etc/passwd")


def plant_fifo(place: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize("plant", [plant_folder, plant_link, plant_fifo])
def test_what_an_app_puts_in_the_way_of_its_log_harms_nothing(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    before = Path("/etc/passwd").read_text()
    kept = Output(str(tmp_path / "combined.log"), 8 * 16 * KB)
    kept._keep(b"x" * 16 * KB)
    plant(tmp_path / f"combined.log.{16 * KB:016d}")
    kept._keep(b"more\n")
    kept._keep(b"and more\n")
    assert Path("/etc/passwd").read_text() == before
    if plant is plant_folder:
        assert "incomplete" in kept.trouble
    else:
        assert log_files.last_lines(tmp_path / "combined.log", 1) == ["and more"]


@pytest.mark.parametrize("name", ["0000000000000000", "0000000000000001", "9999999999999999", "x", "1"])
def test_files_that_look_like_pieces_end_no_reader(tmp_path: Path, name: str) -> None:
    path = tmp_path / "combined.log"
    path.write_text("one\ntwo\n")
    (tmp_path / f"combined.log.{name}").write_text("planted\n")
    began = time.monotonic()
    lines = [line for _, line in log_files.read_lines(path, ended=lambda: True)]
    assert len(lines) < 10
    assert log_files.last_lines(path, 5)
    assert time.monotonic() - began < 10


def test_an_app_that_removes_its_log_goes_on(apps: Apps, tmp_path: Path) -> None:
    go = tmp_path / "go"
    apps.submit(
        "app", f'echo one; while [ ! -e {go} ]; do sleep 0.05; done; {sys.executable} -c "{FLOOD}"', log_limit_mb=1
    )
    wait_until(lambda: lines_of(apps) == ["one"], "the first line")
    apps.scheduler.log_file("app", "trainer", 0).unlink()
    go.touch()
    assert apps.until("app") == "SUCCEEDED"
    assert apps.message("app") == "<NONE>"


def test_a_supervisor_that_does_not_read_stops_no_app_that_writes_little(apps: Apps, tmp_path: Path) -> None:
    done = tmp_path / "done"
    waiting = f"echo ready; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done"
    apps.submit("app", f"{waiting}; {sys.executable} -c \"print('x' * 50000)\"; touch {done}")
    wait_until(lambda: lines_of(apps) == ["ready"], "the first line")
    supervisor = apps.supervisor("app")
    supervisor.send_signal(signal.SIGSTOP)
    (tmp_path / "go").touch()
    wait_until(done.exists, "the app's end")
    supervisor.send_signal(signal.SIGCONT)
    assert apps.until("app") == "SUCCEEDED"
    assert on_disk(apps.root / "app" / "logs") == 50_007


def test_what_is_written_last_is_there_when_the_end_is(apps: Apps) -> None:
    for number in range(5):
        apps.submit(f"app{number}", f"{sys.executable} -c \"print('x' * 300000)\"; echo last")
    for number in range(5):
        assert apps.until(f"app{number}") == "SUCCEEDED"
        assert lines_of(apps, f"app{number}")[-1] == "last"


def test_an_app_whose_supervisor_is_killed_leaves_what_it_had_written(apps: Apps) -> None:
    apps.submit("app", "echo one; echo two; exec sleep 1000.4717")
    wait_until(lambda: lines_of(apps) == ["one", "two"], "its output")
    apps.kill_supervisor("app")
    assert apps.until("app") == "FAILED"
    assert lines_of(apps) == ["one", "two"]
    assert processes_with("1000.4717") == []
