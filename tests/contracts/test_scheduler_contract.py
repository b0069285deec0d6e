"""What every scheduler has to keep, whatever it is: the engine's promises, on each of them."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext

import pytest

from airflow_provider_axtx.core.app_observation import LostAppPolicy
from airflow_provider_axtx.core.errors import DuplicateAppError, InvalidInputError, SchedulerUnavailableError
from airflow_provider_axtx.core.keys import submission_key
from tests.contracts.rig import Rig
from tests.contracts.rigs import rig_parameters

pytestmark = pytest.mark.parametrize("rig", rig_parameters(), indirect=True)

BATCH = 100
ENDED = {"SUCCEEDED", "FAILED", "CANCELLED"}
CANCELLED = "the user wanted so"


@pytest.fixture(autouse=True)
def _can(rig: Rig, request: pytest.FixtureRequest) -> None:
    case = request.node.originalname.removeprefix("test_")
    if case in rig.cannot:
        pytest.skip(rig.cannot[case])


def await_cancelled(rig: Rig, handle: str) -> None:
    """Wait until a cancelled app has ended; whatever the scheduler says then, the trial is ABANDONED."""
    rig.await_true(lambda: not rig.processes(rig.key), f"end of {rig.key}")
    seen = rig.await_state(handle, *rig.after_cancel)
    judged = LostAppPolicy().evaluate(seen, age=0, unseen_polls=1, cancel_reason=CANCELLED)
    assert (judged.app_state, judged.trial_status, judged.message) == ("CANCELLED", "ABANDONED", CANCELLED)


def test_submit_and_succeed(rig: Rig) -> None:
    handle = rig.submit(rig.key)
    assert handle.startswith(f"{rig.name}://")
    assert rig.observe(handle).app_state in ("SUBMITTED", "PENDING", "RUNNING")
    rig.await_running(rig.key, handle)
    rig.release(rig.key)
    rig.await_state(handle, "SUCCEEDED")
    assert rig.starts(rig.key) == 1 or rig.name == "fake"


def test_fail(rig: Rig) -> None:
    handle = rig.submit(rig.key)
    rig.await_running(rig.key, handle)
    rig.release(rig.key, exit_code=3)
    seen = rig.await_state(handle, "FAILED")
    assert not seen.is_infrastructure_failure
    assert "3" in seen.message or not rig.tells_exit_code


def test_queue(rig: Rig) -> None:
    with rig.full():
        handle = rig.submit(rig.key)
        # Never UNKNOWN or FAILED, not even while accounting does not know the app yet.
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            assert rig.observe(handle).app_state in ("SUBMITTED", "PENDING")
            time.sleep(0.02)
        assert not rig.starts(rig.key)
        assert rig.find(rig.key) == handle
    rig.await_running(rig.key, handle)


def test_times(rig: Rig) -> None:
    """When an app ran, without its time in the queue; schedulers that count in seconds cut the rest off."""
    waiting = nullcontext() if "queue" in rig.cannot else rig.full()
    with waiting:
        handle = rig.submit(rig.key)
        queued = rig.observe(handle)
        time.sleep(2 if "queue" not in rig.cannot else 0)
        let_go = time.time()
    rig.await_running(rig.key, handle)
    running, released = rig.observe(handle), time.time()
    rig.release(rig.key)
    ended = rig.await_state(handle, "SUCCEEDED")
    now = time.time()
    if not rig.tells_times:
        assert {seen.started_at for seen in (queued, running, ended)} == {ended.ended_at} == {None}
        return
    assert queued.ended_at is running.ended_at is None
    for seen in (running, ended):
        assert seen.started_at is not None
        assert int(let_go) - 1 <= seen.started_at <= released
    assert ended.ended_at is not None
    assert int(released) <= ended.ended_at <= now


def test_find(rig: Rig) -> None:
    assert rig.find(rig.key) is None
    longer = rig.submit(f"{rig.key}1")
    assert rig.find(rig.key) is None
    handle = rig.submit(rig.key)
    assert rig.find(rig.key) == handle
    assert rig.new_launcher().find(rig.key) == handle
    rig.await_running(rig.key, handle)
    rig.release(rig.key)
    rig.await_state(handle, "SUCCEEDED")
    assert rig.find(rig.key) == handle
    assert rig.find(f"{rig.key}1") == longer


def test_reached_by_its_record(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process finds, observes, reads and cancels an app with what was recorded, and nothing else."""
    recorded = json.loads(json.dumps(rig.launcher.lookup_options()))
    handle = rig.submit(rig.key)
    rig.await_running(rig.key, handle)
    monkeypatch.setenv("AXTX_LOCAL_ROOT", str(rig.folder / "of another process"))
    launcher = rig.attempt_launcher(recorded)
    assert launcher.lookup_options() == recorded
    assert launcher.find(rig.key) == handle
    assert launcher.observe([handle])[handle].app_state == "RUNNING"
    rig.await_true(lambda: any(line.endswith("out of 0") for line in launcher.logs(handle)), "the log")
    assert any(line.endswith("out of 0") for line in launcher.follow(handle).new_lines())
    with pytest.raises(InvalidInputError, match="cannot submit"):
        launcher.plan("utils.booth", {}, trial_index=0, experiment="e", tracker_base="/t", submission_key="k")
    launcher.cancel(handle)
    await_cancelled(rig, handle)
    assert launcher.observe([handle])[handle].app_state in rig.after_cancel


def test_cancel_queued(rig: Rig) -> None:
    with rig.full():
        handle = rig.submit(rig.key)
        rig.await_state(handle, "PENDING")
        rig.cancel(handle)
        await_cancelled(rig, handle)
    after = rig.submit(f"{rig.key}1")
    rig.await_running(f"{rig.key}1", after)
    assert not rig.starts(rig.key)


def test_cancel_running(rig: Rig) -> None:
    handle = rig.submit(rig.key)
    rig.await_running(rig.key, handle)
    rig.new_launcher().cancel(handle)
    await_cancelled(rig, handle)


def test_cancel_twice(rig: Rig) -> None:
    handle = rig.submit(rig.key)
    rig.await_running(rig.key, handle)
    rig.cancel(handle)
    rig.cancel(handle)
    await_cancelled(rig, handle)
    rig.cancel(handle)
    await_cancelled(rig, handle)


def test_cancel_ended(rig: Rig) -> None:
    handle = rig.submit(rig.key)
    rig.await_running(rig.key, handle)
    rig.release(rig.key)
    rig.await_state(handle, "SUCCEEDED")
    rig.cancel(handle)
    assert rig.observe(handle).app_state == "SUCCEEDED"
    assert any("out of 0" in line for line in rig.launcher.logs(handle))


def test_cancel_one_that_traps_term(rig: Rig) -> None:
    handle = rig.submit(rig.key, mode="stubborn")
    rig.await_running(rig.key, handle)
    rig.cancel(handle)
    await_cancelled(rig, handle)


def test_logs(rig: Rig) -> None:
    handle = rig.submit(rig.key, replicas=2)
    rig.await_running(rig.key, handle, replicas=2)
    rig.release(rig.key)
    rig.await_state(handle, "SUCCEEDED")
    lines = rig.new_launcher().logs(handle)
    for replica in ("0", "1"):
        for text in (f"out of {replica}", f"err of {replica}"):
            [line] = [line for line in lines if line.endswith(text)]
            assert f"probe/{replica}" in line or f"probe-{replica}" in line


def test_unknown_app(rig: Rig) -> None:
    handle = rig.unknown_handle()
    live = rig.submit(rig.key)
    seen = rig.launcher.observe([handle, live])
    assert seen[handle].app_state == "UNKNOWN"
    assert seen[live].app_state != "UNKNOWN"
    assert rig.observe(handle).app_state == "UNKNOWN"
    rig.cancel(handle)
    [line] = rig.launcher.logs(handle)
    assert line.startswith("[no log")


def test_outage(rig: Rig) -> None:
    handle, ended = rig.submit(rig.key), rig.submit(f"{rig.key}1", mode="now")
    rig.await_running(rig.key, handle)
    rig.await_state(ended, "SUCCEEDED")
    with rig.outage():
        for call in (lambda: rig.observe(handle), lambda: rig.find(rig.key), lambda: rig.cancel(handle)):
            with pytest.raises(SchedulerUnavailableError):
                call()
        with pytest.raises(SchedulerUnavailableError):
            rig.submit(f"{rig.key}2")
    assert rig.observe(handle).app_state == "RUNNING"
    assert rig.find(rig.key) == handle
    assert rig.observe(ended).app_state == "SUCCEEDED"
    rig.release(rig.key)
    rig.await_state(handle, "SUCCEEDED")


def test_100_at_once(rig: Rig) -> None:
    keys = [submission_key("contract", rig.key, n, 1) for n in range(BATCH)]
    handles = [rig.submit(key, mode="now" if n < 5 else "sleep") for n, key in enumerate(keys)]
    rig.await_true(
        lambda: all(rig.observe(handle).app_state == "SUCCEEDED" for handle in handles[:5]), "end of the first five"
    )
    began = time.perf_counter()
    seen = rig.launcher.observe(handles)
    rig.note("observe 100", time.perf_counter() - began)
    assert set(seen) == set(handles)
    assert [seen[handle].app_state for handle in handles[:5]] == ["SUCCEEDED"] * 5
    assert {seen[handle].app_state for handle in handles[5:]} <= {"SUBMITTED", "PENDING", "RUNNING"}
    assert [rig.find(key) for key in (keys[0], keys[1], keys[99])] == [handles[0], handles[1], handles[99]]


def test_duplicate_submission(rig: Rig) -> None:
    handle = rig.submit(rig.key)
    rig.await_running(rig.key, handle)
    if rig.launcher.refuses_duplicates:
        with pytest.raises(DuplicateAppError):
            rig.submit(rig.key)
        assert rig.find(rig.key) == handle
        return
    second = rig.submit(rig.key)
    assert second != handle
    found = rig.find(rig.key)
    assert found in (handle, second)
    assert rig.new_launcher().find(rig.key) == found
    other = second if found == handle else handle
    rig.cancel(other)
    rig.await_state(other, *rig.after_cancel)
    assert rig.observe(str(found)).app_state in ("SUBMITTED", "PENDING", "RUNNING")
    # The one that is found is the one that lives.
    assert rig.find(rig.key) == found


@pytest.mark.parametrize(
    "value",
    [
        "a,b,,c",
        "a 'quoted' \"text\"",
        "two\nlines\n",
        "$HOME ${img_root} $$ `id` $(id)",
        "Überraschung ☃ 数字",
        "--flag=x",
        "back\\slash \\n %j *",
        "",
        "a;b|c&d>e#f",
    ],
)
def test_odd_values(rig: Rig, value: str) -> None:
    handle = rig.submit(rig.key, value, "now", number=1e-12, count=-3, flag=True)
    rig.await_state(handle, "SUCCEEDED")
    assert rig.values(rig.key) == [value, "1e-12", "-3", "True"]


def test_many_replicas(rig: Rig) -> None:
    handle = rig.submit(rig.key, replicas=3)
    rig.await_running(rig.key, handle, replicas=3)
    assert rig.find(rig.key) == handle
    rig.release(rig.key)
    rig.await_state(handle, "SUCCEEDED")


def test_cancel_many_replicas(rig: Rig) -> None:
    handle = rig.submit(rig.key, replicas=3)
    rig.await_running(rig.key, handle, replicas=3)
    rig.cancel(handle)
    await_cancelled(rig, handle)
