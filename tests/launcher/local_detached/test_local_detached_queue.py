"""First come, first served among the apps that may start, and never more at once than their limits allow."""

from __future__ import annotations

import time
from itertools import accumulate
from pathlib import Path

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.local_detached.host_queue import Queue
from tests.launcher.local_detached.harness import Apps, wait_until


def journal(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def logging_script(path: Path, name: str, seconds: float = 0.15) -> str:
    return f"echo start {name} >> {path}; sleep {seconds}; echo end {name} >> {path}"


def blocker(apps: Apps, tmp_path: Path) -> Path:
    """Submit an app that holds a slot until the returned file exists."""
    go = tmp_path / "go"
    apps.submit("blocker", f"while [ ! -e {go} ]; do sleep 0.05; done", max_parallel=1)
    apps.until("blocker", "RUNNING")
    return go


def test_apps_start_in_the_order_of_their_submission_one_after_the_other(apps: Apps, tmp_path: Path) -> None:
    lines = tmp_path / "journal"
    go = blocker(apps, tmp_path)
    # Names in no order, so that only the time of submission can have made it.
    names = ["m", "c", "x", "a", "q"]
    for name in names:
        apps.submit(name, logging_script(lines, name, 0.05), max_parallel=1)
    assert {apps.state(name) for name in names} == {"PENDING"}
    assert apps.message("c") == "queued"
    go.touch()
    for name in names:
        assert apps.until(name) == "SUCCEEDED"
    assert journal(lines).split("\n")[:-1] == [f"{word} {name}" for name in names for word in ("start", "end")]


def test_never_more_than_max_parallel_run_and_that_many_do(apps: Apps, tmp_path: Path) -> None:
    lines, release = tmp_path / "journal", tmp_path / "release"
    go = blocker(apps, tmp_path)
    names = [f"a{i}" for i in range(6)]
    held = f"echo start >> {lines}; while [ ! -e {release} ]; do sleep 0.05; done; echo end >> {lines}"
    for name in names:
        apps.submit(name, held, max_parallel=3)
    go.touch()
    wait_until(lambda: [apps.state(name) for name in names].count("RUNNING") == 3, "three that run")
    wait_until(lambda: journal(lines).count("start") == 3, "three starts")
    assert [apps.state(name) for name in names] == ["RUNNING"] * 3 + ["PENDING"] * 3
    release.touch()
    for name in names:
        assert apps.until(name) == "SUCCEEDED"
    running = list(accumulate({"start": 1, "end": -1}[word] for word in journal(lines).split()))
    assert (max(running), running[-1]) == (3, 0)


def test_an_app_does_not_wait_for_one_before_it_that_has_not_asked_for_its_slot_yet(tmp_path: Path) -> None:
    """Submitted at the same time, apps used to find each other's tickets and to look again after a pause only."""
    first, second, third = (
        Queue(str(tmp_path), "host", name, max_parallel=2, host_max_parallel=99) for name in ("c", "a", "b")
    )
    for queue in (first, second, third):
        queue.join()
    assert (second.enter(), first.enter(), third.enter()) == (True, True, False)
    first.leave()
    assert third.enter()
    for queue in (second, third):
        queue.leave()
    assert [path for path in (tmp_path / ".queue").rglob("*-*") if path.is_file()] == []


def test_a_dead_one_in_the_queue_holds_up_nobody(apps: Apps, tmp_path: Path) -> None:
    lines = tmp_path / "journal"
    go = blocker(apps, tmp_path)
    for name in ("a", "b", "c", "d"):
        apps.submit(name, logging_script(lines, name, 0), max_parallel=1)
    apps.kill_supervisor("b")
    apps.kill_supervisor("a")
    assert apps.state("a") == apps.state("b") == "FAILED"
    assert apps.message("a").startswith("lost: ")
    go.touch()
    assert apps.until("c") == apps.until("d") == "SUCCEEDED"
    assert journal(lines).split() == ["start", "c", "end", "c", "start", "d", "end", "d"]


def test_a_dead_running_one_gives_its_slot_back(apps: Apps, tmp_path: Path) -> None:
    blocker(apps, tmp_path)
    apps.submit("next", "exit 0", max_parallel=1)
    apps.kill_supervisor("blocker")
    assert apps.until("next") == "SUCCEEDED"
    assert apps.state("blocker") == "FAILED"


def test_a_queued_app_is_cancelled_at_once_and_never_runs(apps: Apps, tmp_path: Path) -> None:
    lines = tmp_path / "journal"
    go = blocker(apps, tmp_path)
    for name in ("a", "b"):
        apps.submit(name, logging_script(lines, name, 0), max_parallel=1)
    apps.scheduler.cancel("a")
    assert apps.until("a") == "CANCELLED"
    assert apps.state("blocker") == "RUNNING"
    go.touch()
    assert apps.until("b") == "SUCCEEDED"
    assert journal(lines).split() == ["start", "b", "end", "b"]


def test_a_wider_app_starts_beside_a_running_one(apps: Apps, tmp_path: Path) -> None:
    blocker(apps, tmp_path)
    apps.submit("wide", "exit 0", max_parallel=2)
    assert apps.until("wide") == "SUCCEEDED"
    assert apps.state("blocker") == "RUNNING"


def test_the_queue_leaves_no_files(apps: Apps) -> None:
    for name in ("a", "b"):
        apps.submit(name, "exit 0", max_parallel=1)
    for name in ("a", "b"):
        apps.until(name)
    wait_until(lambda: not [path for path in (apps.root / ".queue").rglob("*-*") if path.is_file()], "an empty queue")


def test_waiting_and_watching_cost_next_to_nothing(apps: Apps, tmp_path: Path) -> None:
    blocker(apps, tmp_path)
    apps.submit("waits", "exit 0", max_parallel=1)
    supervisors = [apps.supervisor("waits"), apps.supervisor("blocker")]

    def used() -> list[float]:
        return [sum(supervisor.cpu_times()[:2]) for supervisor in supervisors]

    before, began = used(), time.monotonic()
    time.sleep(2)
    elapsed = time.monotonic() - began
    assert [(after - first) / elapsed < 0.05 for first, after in zip(before, used(), strict=True)] == [True, True]


def held(apps: Apps, tmp_path: Path, name: str, **options: int) -> Path:
    """Submit an app that runs until the returned file exists."""
    go = tmp_path / f"go-{name}"
    apps.submit(name, f"while [ ! -e {go} ]; do sleep 0.05; done", **options)
    return go


def test_app_with_a_small_limit_stops_no_other(apps: Apps, tmp_path: Path) -> None:
    """The first in the queue wants to be alone with one of its own: the others do not wait for that."""
    go = blocker(apps, tmp_path)
    apps.submit("narrow", "exit 0", max_parallel=1)
    wide = [held(apps, tmp_path, f"wide{n}", max_parallel=4) for n in range(2)]
    for n in range(2):
        assert apps.until(f"wide{n}", "RUNNING") == "RUNNING"
    assert apps.state("narrow") == "PENDING"
    # Nor does it wait for those that have overtaken it, or it might wait for ever.
    go.touch()
    assert apps.until("narrow") == "SUCCEEDED"
    assert [apps.state(f"wide{n}") for n in range(2)] == ["RUNNING"] * 2
    for file in wide:
        file.touch()


def test_limit_of_the_host_holds_for_all_apps(apps: Apps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AXTX_HOST_MAX_PARALLEL", "2")
    files = {name: held(apps, tmp_path, name, max_parallel=9) for name in ("a", "b")}
    for name in files:
        apps.until(name, "RUNNING")
    for name in ("c", "d"):
        files[name] = held(apps, tmp_path, name, max_parallel=9)
    assert [apps.state(name) for name in "cd"] == ["PENDING"] * 2
    files["b"].touch()
    apps.until("c", "RUNNING")
    assert apps.state("d") == "PENDING"
    monkeypatch.delenv("AXTX_HOST_MAX_PARALLEL")
    apps.submit("e", "exit 0", max_parallel=9, host_max_parallel=1)
    for file in (files["a"], files["c"]):
        file.touch()
    apps.until("d", "RUNNING")
    assert apps.state("e") == "PENDING"
    files["d"].touch()
    assert apps.until("e") == "SUCCEEDED"


def test_a_free_slot_goes_to_the_first_that_may_start(apps: Apps, tmp_path: Path) -> None:
    lines = tmp_path / "journal"
    go = blocker(apps, tmp_path)
    apps.submit("narrow", logging_script(lines, "narrow"), max_parallel=1, host_max_parallel=1)
    apps.submit("wide", logging_script(lines, "wide"), max_parallel=4, host_max_parallel=1)
    assert [apps.state(name) for name in ("narrow", "wide")] == ["PENDING"] * 2
    go.touch()
    assert apps.until("wide") == "SUCCEEDED"
    assert journal(lines).split()[1] == "narrow"


@pytest.mark.parametrize("value", ["0", "many", "-1", "1.5"])
def test_limit_of_the_host_that_is_no_number(apps: Apps, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AXTX_HOST_MAX_PARALLEL", value)
    with pytest.raises(InvalidInputError, match="AXTX_HOST_MAX_PARALLEL"):
        apps.submit("app", "exit 0")
