"""The triggers: what they wait for, what they send, and what they end when a user has ended their task."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import AppElsewhereError
from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import killing
from airflow_provider_axtx.triggers.optimize import AxOptimizeTrigger, lookups_of
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.fakes.scheduler import FakeCluster
from tests.triggers.conftest import WAITER, old_arguments, submitted

#: The arguments that triggers of the version before this one accept (commit ee14062); any other is an error there.
OLD_TRIAL = {
    *("run", "scheduler", "submitted_at", "deadline", "poll_interval", "grace_seconds", "grace_polls", "ax_conn_id"),
    *("torchx_conn_id", "early_stopping_interval", "steps_seen", "stream_logs", "log_given"),
}
OLD_OPTIMIZE = {
    *("experiment", "submitted", "identity", "scheduler", "until", "poll_interval", "grace_seconds", "grace_polls"),
    *("ax_conn_id", "reporting", "early_stopping_interval"),
}


@pytest.fixture
def attempt(cluster: FakeCluster, store: ExperimentStore) -> AttemptRecord:
    return submitted(store)


def app_id(attempt: AttemptRecord) -> str:
    return str(attempt.app_handle).rsplit("/", 1)[1]


def trigger_of(attempt: AttemptRecord, **changed: Any) -> TorchXTrialTrigger:
    new = {"lookup_options": attempt.lookup_options, "identity": WAITER.to_json()}
    return TorchXTrialTrigger(**old_arguments(attempt, **{**new, **changed}))


async def fired(trigger: TorchXTrialTrigger | AxOptimizeTrigger) -> dict[str, Any]:
    async with asyncio.timeout(20):
        (event,) = [event.payload async for event in trigger.run()]
    payload: dict[str, Any] = event
    return payload


async def test_a_trigger_of_the_version_before_runs(cluster: FakeCluster, attempt: AttemptRecord) -> None:
    cluster.set_state(app_id(attempt), "SUCCEEDED")
    arguments = old_arguments(attempt)
    trigger = TorchXTrialTrigger(**arguments)
    assert trigger.serialize() == ("airflow_provider_axtx.triggers.trial.TorchXTrialTrigger", arguments)
    assert set(trigger.serialize()[1]) <= OLD_TRIAL
    event = await fired(trigger)
    assert (event["status"], event["app_state"], event["run"]) == ("observed", "SUCCEEDED", arguments["run"])


async def test_an_optimize_trigger_of_the_version_before_runs(cluster: FakeCluster, attempt: AttemptRecord) -> None:
    arguments = {
        "experiment": "e",
        "submitted": {attempt.app_handle: attempt.submitted_at},
        "identity": {name: value for name, value in WAITER.to_json().items() if name != "installation"},
        "scheduler": "fake",
        "until": None,
        "poll_interval": 0.02,
        "grace_seconds": 60.0,
        "grace_polls": 3,
        "ax_conn_id": "ax_default",
        "reporting": None,
        "early_stopping_interval": 60.0,
    }
    trigger = AxOptimizeTrigger(**arguments)
    assert trigger.serialize() == ("airflow_provider_axtx.triggers.optimize.AxOptimizeTrigger", arguments)
    assert set(trigger.serialize()[1]) <= OLD_OPTIMIZE
    cluster.set_state(app_id(attempt), "FAILED")
    event = await fired(trigger)
    assert (event["status"], event["apps"][attempt.app_handle]["app_state"]) == ("ended", "FAILED")


async def test_arguments_of_a_newer_version_are_kept_and_missing_ones_have_defaults(
    cluster: FakeCluster, attempt: AttemptRecord
) -> None:
    arguments = old_arguments(attempt, of_a_newer_version={"a": 1})
    assert TorchXTrialTrigger(**arguments).serialize()[1] == arguments
    cluster.set_state(app_id(attempt), "SUCCEEDED")
    assert (await fired(TorchXTrialTrigger(run=arguments["run"])))["status"] == "observed"
    bare = AxOptimizeTrigger(experiment="e", of_a_newer_version=2)
    assert bare.serialize()[1]["of_a_newer_version"] == 2
    assert await fired(bare) == {"status": "due"}


@pytest.mark.parametrize("optimize", [False, True])
async def test_no_event_before_the_deferral_is_recorded(
    cluster: FakeCluster, attempt: AttemptRecord, optimize: bool
) -> None:
    cluster.set_state(app_id(attempt), "SUCCEEDED")
    not_before = time.time() + 0.7
    trigger: TorchXTrialTrigger | AxOptimizeTrigger
    if optimize:
        trigger = AxOptimizeTrigger(
            experiment="e",
            submitted={str(attempt.app_handle): 0.0},
            lookups=lookups_of([attempt]),
            poll_interval=0.02,
            not_before=not_before,
        )
    else:
        trigger = trigger_of(attempt, not_before=not_before)
    assert (await fired(trigger))["status"] in ("observed", "ended")
    assert time.time() >= not_before


async def test_an_app_that_ended_while_the_triggerer_was_away_is_no_timeout(
    cluster: FakeCluster, attempt: AttemptRecord
) -> None:
    cluster.set_state(app_id(attempt), "SUCCEEDED")
    assert (await fired(trigger_of(attempt, deadline=time.time() - 90)))["app_state"] == "SUCCEEDED"


async def test_an_app_that_still_runs_after_its_deadline(cluster: FakeCluster, attempt: AttemptRecord) -> None:
    event = await fired(trigger_of(attempt, deadline=time.time() + 0.1))
    assert event["status"] == "timeout"


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize(("before", "app_state"), [("RUNNING", "CANCELLED"), ("SUCCEEDED", "SUCCEEDED")])
async def test_a_cancelled_app_that_its_scheduler_forgets_is_not_waited_for_until_it_is_lost(
    cluster: FakeCluster, attempt: AttemptRecord, before: str, app_state: str, optimize: bool
) -> None:
    trigger: TorchXTrialTrigger | AxOptimizeTrigger
    if optimize:
        trigger = AxOptimizeTrigger(
            experiment="e",
            submitted={str(attempt.app_handle): time.time()},
            lookups=lookups_of([attempt]),
            poll_interval=0.02,
            cancelled={str(attempt.app_handle): "stopped early: hopeless"},
        )
    else:
        trigger = trigger_of(attempt, submitted_at=time.time(), cancel_reason="stopped early: hopeless")
    if before == "RUNNING":
        cluster.forget(app_id(attempt))
    else:
        cluster.set_state(app_id(attempt), before)
    event = await fired(trigger)
    seen = event["apps"][attempt.app_handle] if optimize else event
    assert seen["app_state"] == app_state
    assert ("hopeless" in seen["message"]) is (app_state == "CANCELLED")


async def test_execution_timeout_fires(cluster: FakeCluster, attempt: AttemptRecord) -> None:
    event = await fired(trigger_of(attempt, execution_deadline=time.time() + 0.1))
    assert event["status"] == "execution_timeout"
    task = AxOptimizeTrigger(
        experiment="e",
        submitted={str(attempt.app_handle): 0.0},
        lookups=lookups_of([attempt]),
        poll_interval=0.02,
        until=time.time() + 600,
        execution_deadline=time.time() + 0.1,
    )
    assert await fired(task) == {"status": "execution_timeout"}


async def test_apps_with_other_lookup_options_are_polled_by_launchers_of_their_own(
    cluster: FakeCluster, store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submitted(store, 0), submitted(store, 1)
    made: list[Any] = []
    original = TorchXLauncher.for_attempt.__func__  # type: ignore[attr-defined]

    def for_attempt(cls: type[TorchXLauncher], scheduler: str, options: Any, **arguments: Any) -> TorchXLauncher:
        made.append((scheduler, options))
        launcher: TorchXLauncher = original(cls, scheduler, options, **arguments)
        return launcher

    monkeypatch.setattr(TorchXLauncher, "for_attempt", classmethod(for_attempt))
    lookups = [["fake", {"queue": "night"}, [first.app_handle]], ["fake", {"queue": "day"}, [second.app_handle]]]
    cluster.set_state(app_id(second), "FAILED")
    event = await fired(
        AxOptimizeTrigger(
            experiment="e",
            submitted={str(a.app_handle): 0.0 for a in (first, second)},
            lookups=lookups,
            poll_interval=0.02,
        )
    )
    assert list(event["apps"]) == [second.app_handle]
    assert ("fake", {"queue": "day"}) in made


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize(
    ("conn_id", "expected"), [("torchx_default", {"queue": "night"}), ("of_another_scheduler", {}), ("missing", None)]
)
async def test_an_attempt_of_schema_0001_is_polled_with_the_options_of_the_connection(
    cluster: FakeCluster,
    attempt: AttemptRecord,
    monkeypatch: pytest.MonkeyPatch,
    conn_id: str,
    expected: dict[str, str] | None,
    optimize: bool,
) -> None:
    extra = {"scheduler": "fake", "scheduler_args": {"queue": "night"}}
    monkeypatch.setenv("AIRFLOW_CONN_TORCHX_DEFAULT", json.dumps({"conn_type": "torchx", "extra": extra}))
    monkeypatch.setenv("AIRFLOW_CONN_OF_ANOTHER_SCHEDULER", json.dumps({"conn_type": "torchx", "extra": {}}))
    polled: list[Any] = []
    original = TorchXLauncher.observe

    def observe(launcher: TorchXLauncher, handles: Any) -> Any:
        polled.append(launcher.lookup_options())
        return original(launcher, handles)

    monkeypatch.setattr(TorchXLauncher, "observe", observe)
    cluster.set_state(app_id(attempt), "SUCCEEDED")
    trigger: TorchXTrialTrigger | AxOptimizeTrigger
    if optimize:
        trigger = AxOptimizeTrigger(
            experiment="e",
            submitted={str(attempt.app_handle): 0.0},
            identity={**WAITER.to_json(), "torchx_conn_id": conn_id},
            lookups=[["fake", None, [attempt.app_handle]]],
            poll_interval=0.02,
        )
    else:
        trigger = trigger_of(attempt, lookup_options=None, torchx_conn_id=conn_id)
    event = await fired(trigger)
    if expected is None:
        assert (event["status"], "'missing'" in event["message"]) == ("error", True)
    else:
        assert event["status"] in ("observed", "ended")
        assert polled[0] == expected


async def test_an_app_of_another_host_is_told_with_the_name_of_the_host(
    attempt: AttemptRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(*_: Any) -> dict[str, AppObservation]:
        raise AppElsewhereError("The app runs on worker-7.", fix="poll it there")

    monkeypatch.setattr(TorchXLauncher, "observe", elsewhere)
    event = await fired(trigger_of(attempt))
    assert (event["status"], event["elsewhere"], "worker-7" in event["message"]) == ("error", True, True)


async def test_a_bug_is_an_event_that_the_task_can_act_on(
    attempt: AttemptRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchXLauncher, "observe", lambda *_: 1 / 0)
    event = await fired(trigger_of(attempt))
    assert (event["status"], "ZeroDivisionError" in event["message"]) == ("error", True)


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Airflow answers about the state of the waiting task."""
    answer: dict[str, Any] = {"state": "failed"}

    def get_task_states(dag_id: str, run_ids: list[str], task_ids: list[str], map_index: int | None) -> Any:
        if answer["state"] == "missing":
            return {}
        return {run_ids[0]: {task_ids[0]: answer["state"]}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    return answer


def kills(attempt: AttemptRecord) -> list[TorchXTrialTrigger | AxOptimizeTrigger]:
    task = AxOptimizeTrigger(
        experiment="e",
        submitted={str(attempt.app_handle): 0.0},
        identity=attempt.identity.to_json(),
        lookups=lookups_of([attempt]),
    )
    return [trigger_of(attempt), task]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("answer", ["failed", "success", "skipped", "removed", "upstream_failed", "missing"])
async def test_a_marked_or_removed_task_ends_its_apps_and_settles_its_trials(
    cluster: FakeCluster, attempt: AttemptRecord, store: ExperimentStore, state: Any, answer: str, which: int
) -> None:
    state["state"] = answer
    await kills(attempt)[which].on_kill()
    assert cluster.apps()[app_id(attempt)]["state"] == "CANCELLED"
    assert store.trial("e", 0).status == "ABANDONED"
    assert store.open_attempts() == []


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("answer", [None, "scheduled", "queued", "running", "deferred", "up_for_retry"])
async def test_a_cleared_task_leaves_its_apps_to_its_next_try(
    cluster: FakeCluster, attempt: AttemptRecord, store: ExperimentStore, state: Any, answer: str | None, which: int
) -> None:
    state["state"] = answer
    await kills(attempt)[which].on_kill()
    assert cluster.apps()[app_id(attempt)]["state"] == "RUNNING"
    assert (store.trial("e", 0).status, store.attempt("e", 0, 1).cancel_reason) == ("RUNNING", None)


async def test_an_app_that_had_succeeded_before_its_task_was_marked_is_recorded_as_that(
    cluster: FakeCluster, attempt: AttemptRecord, store: ExperimentStore, state: Any
) -> None:
    cluster.set_state(app_id(attempt), "SUCCEEDED")
    await kills(attempt)[0].on_kill()
    assert (store.attempt("e", 0, 1).app_state, cluster.calls("cancel")) == ("SUCCEEDED", 0)
    # It has written no results, which is its own failure.
    assert store.trial("e", 0).status == "FAILED"


async def test_work_on_kill_goes_on_although_airflow_cancels_the_trigger_again(
    cluster: FakeCluster,
    attempt: AttemptRecord,
    store: ExperimentStore,
    state: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached, release = asyncio.Event(), asyncio.Event()
    original = AxHook.aget_url

    async def slow(hook: AxHook) -> str:
        reached.set()
        await release.wait()
        return await original(hook)

    monkeypatch.setattr(AxHook, "aget_url", slow)
    killed = asyncio.create_task(trigger_of(attempt).on_kill())
    await reached.wait()
    for _ in range(3):  # the triggerer does so at each of its loops
        killed.cancel("user-action")
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await killed
    (work,) = killing._unfinished
    release.set()
    async with asyncio.timeout(20):
        await work
    assert store.trial("e", 0).status == "ABANDONED"


async def test_work_on_kill_that_fails_is_logged_and_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise ZeroDivisionError("a bug")

    await killing.finish("end the app of trial 3", fails())
    assert "Could not end the app of trial 3" in caplog.text
    assert "ZeroDivisionError: a bug" in caplog.text
    monkeypatch.setattr(killing, "SECONDS", 0.05)
    caplog.clear()
    await killing.finish("end the app of trial 4", asyncio.Event().wait())  # type: ignore[arg-type]
    assert "Could not end the app of trial 4" in caplog.text


async def test_the_event_loop_goes_on_while_airflow_is_asked(
    attempt: AttemptRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, release = threading.Event(), threading.Event()

    def get_task_states(**_: Any) -> Any:
        asked.set()
        release.wait(1.5)
        return {"run": {"wait": "running"}}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", get_task_states)
    killed = asyncio.create_task(trigger_of(attempt).on_kill())
    while not asked.is_set():  # noqa: ASYNC110 - set in a thread
        await asyncio.sleep(0.001)
    release.set()
    await killed
