"""Tasks obey what users want, on the real local scheduler: in process and deferred, in loops and in chains of tasks."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException, TaskDeferred

from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.operators.ax import (
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.operators.conftest import BOOTH, Execute, FakeTaskInstance, app_state, wait_until
from tests.operators.test_optimize import APP, REPORT, SLEEP, fire, operator

EXPERIMENT = BOOTH["name"]


def want(store: ExperimentStore, action: Action, trial: int | None = None, **given: Any) -> None:
    number = len(store.changes(EXPERIMENT))
    store.steer(EXPERIMENT, NewChange(action, str(number), "vera", "cli", "why", trial, given))


def test_a_deferred_experiment_is_paused_resumed_extended_and_stopped(
    components: Any, store: ExperimentStore, tmp_path: Any
) -> None:
    wait = f"\nwhile not pathlib.Path({str(tmp_path)!r}, 'go-' + a['trial_idx']).exists(): time.sleep(0.02)\n"
    component = components(APP + wait + REPORT.removeprefix(APP))
    context: Any = {"ti": FakeTaskInstance("optimize")}

    def task() -> Any:
        # Above what an app is awaited for in the process: it defers at once.
        return operator(component, deferrable=True, parallelism=1, max_trials=2, poll_interval=20)

    def deferred(event: dict[str, Any] | None) -> Any:
        with pytest.raises(TaskDeferred) as caught:
            task().execute(context) if event is None else task().execute_complete(context, event)
        caught.value.trigger.arguments["poll_interval"] = 0.05
        return caught.value.trigger

    trigger = deferred(None)
    want(store, Action.PAUSE)
    event = fire(trigger)
    assert event == {"status": "due"}
    trigger = deferred(event)
    (tmp_path / "go-0").touch()
    event = fire(trigger)
    assert event["status"] == "ended"
    trigger = deferred(event)
    assert (trigger.arguments["submitted"], trigger.arguments["until"]) == ({}, None)
    want(store, Action.RUN)
    event = fire(trigger)
    trigger = deferred(event)
    assert len(trigger.arguments["submitted"]) == 1
    want(store, Action.LIMITS, limits={"max_trials": 3})
    (tmp_path / "go-1").touch()
    trigger = deferred(fire(trigger))
    while not any(str(handle).count("-t2-") for handle in trigger.arguments["submitted"]):
        trigger = deferred(fire(trigger))
    want(store, Action.STOP)
    trigger = deferred(fire(trigger))  # has cancelled the app, and waits for its end
    result = task().execute_complete(context, fire(trigger))
    assert result["stop_reason"] == "stop: asked by vera: why"
    assert result["trials"] == {"ABANDONED": 1, "COMPLETED": 2}
    assert {app_state(str(run.app_handle)) for run in store.attempts(EXPERIMENT)} == {"SUCCEEDED", "CANCELLED"}


@pytest.fixture
def trials(execute: Execute) -> list[dict[str, Any]]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    found: list[dict[str, Any]] = execute(AxGenerateTrialsOperator(task_id="generate", experiment_name=EXPERIMENT, n=2))
    return found


def submit(execute: Execute, trial: dict[str, Any], component: Any, **identity: Any) -> Any:
    return execute(TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=component), **identity)


def test_tasks_of_a_paused_experiment_are_rescheduled(
    execute: Execute, trials: list[dict[str, Any]], store: ExperimentStore, components: Any
) -> None:
    component = components(SLEEP)
    first = submit(execute, trials[0], component)
    want(store, Action.PAUSE)
    assert submit(execute, trials[0], component, try_number=2) == first  # it has started before
    with pytest.raises(AirflowRescheduleException):
        submit(execute, trials[1], component, map_index=1)
    with pytest.raises(AirflowRescheduleException):
        execute(AxGenerateTrialOperator(task_id="one", experiment_name=EXPERIMENT))
    assert [trial.status for trial in store.trials(EXPERIMENT)] == ["RUNNING", "CANDIDATE"]
    want(store, Action.RUN)
    assert submit(execute, trials[1], component, map_index=1)["attempt"] == 1
    execute(TorchXReapTrialsOperator(task_id="reap"))


@pytest.mark.parametrize("action", [Action.STOP_TRIAL, Action.STOP, Action.DRAIN])
def test_a_trial_that_was_stopped_before_its_submission_is_skipped(
    execute: Execute, trials: list[dict[str, Any]], store: ExperimentStore, components: Any, action: Action
) -> None:
    want(store, action, 0 if action == Action.STOP_TRIAL else None)
    for try_number in (1, 2):
        with pytest.raises(AirflowSkipException, match="asked by vera: why"):
            submit(execute, trials[0], components(SLEEP), try_number=try_number)
    assert store.trial(EXPERIMENT, 0).status == "ABANDONED"
    assert store.attempts(EXPERIMENT) == []


@pytest.mark.parametrize("action", [Action.STOP_TRIAL, Action.STOP])
def test_a_task_that_waits_cancels_the_app_of_a_stopped_trial(
    execute: Execute, trials: list[dict[str, Any]], store: ExperimentStore, components: Any, action: Action
) -> None:
    run = submit(execute, trials[0], components(SLEEP))
    want(store, action, 0 if action == Action.STOP_TRIAL else None)
    ended = execute(TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05))
    assert ended["trial_status"] == store.trial(EXPERIMENT, 0).status == "ABANDONED"
    assert ended["message"].startswith("stopped by a user")
    assert app_state(run["app_handle"]) == "CANCELLED"


def test_a_deferred_task_is_woken_to_cancel_the_app_of_its_stopped_trial(
    execute: Execute, resume: Execute, trials: list[dict[str, Any]], store: ExperimentStore, components: Any
) -> None:
    import asyncio

    run = submit(execute, trials[0], components(SLEEP))
    sensor = TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05, deferrable=True)
    event: Any = None
    for _ in range(20):
        with pytest.raises(TaskDeferred) as caught:
            execute(sensor) if event is None else resume(sensor, event)
        if event is None:
            want(store, Action.STOP_TRIAL, 0)

        async def fired() -> Any:
            trigger: Any = TorchXTrialTrigger(**caught.value.trigger.serialize()[1])
            return (await anext(trigger.run())).payload

        event = asyncio.run(fired())
        if event["status"] == "observed":
            break
    ended = resume(sensor, event)
    assert (ended["trial_status"], app_state(run["app_handle"])) == ("ABANDONED", "CANCELLED")
    wait_until(lambda: store.open_attempts(experiment=EXPERIMENT) == [])
