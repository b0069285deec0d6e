"""Early stopping in the tasks that wait: in process, and from the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers.optimize import AxOptimizeTrigger
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.operators.conftest import BOOTH, Execute, FakeTaskInstance, app_state

SPEC = {
    **BOOTH,
    "early_stopping": {"type": "threshold", "metric_threshold": 1.0, "min_progression": 2, "min_curves": 0},
}
#: Writes a plateau, step after step, and would go on for minutes.
PLATEAU = (
    "import sys, json, pathlib, time; a = dict(v.split('=', 1) for v in sys.argv[1:]);"
    "p = pathlib.Path(a['tracker_base'], a['trial_idx'] + '.steps'); p.mkdir(parents=True, exist_ok=True)\n"
    "for step in range(6000):\n"
    "    (p / str(step)).write_text(json.dumps({'booth_eval': 50.0})); time.sleep(0.1)\n"
)
Components = Callable[[str], str]


@pytest.fixture
def trial(execute: Execute) -> dict[str, Any]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=SPEC))
    return execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))


def check_stopped(execute: Execute, store: ExperimentStore, outcome: dict[str, Any]) -> None:
    assert (outcome["trial_status"], outcome["app_state"]) == ("EARLY_STOPPED", "CANCELLED")
    assert "worse than the metric threshold" in outcome["message"]
    assert app_state(outcome["app_handle"]) in ("CANCELLED", "FAILED")
    completed = execute(AxCompleteTrialOperator(task_id="complete", run=outcome))
    assert completed["trial_status"] == "EARLY_STOPPED"
    assert completed["metrics"] == {"booth_eval": {"mean": 50.0, "sem": None}}
    assert store.trial("booth", 0).status == "EARLY_STOPPED"
    written = len(list(Path(outcome["tracker_base"], "0.steps").iterdir()))
    # The last file may have been cut by the end of the app.
    assert 3 <= len(store.observations("booth", 0)) in (written, written - 1)


def test_a_sensor_that_polls(
    execute: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore
) -> None:
    run = execute(TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=components(PLATEAU)))
    check_stopped(execute, store, execute(TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05)))


def test_a_task_that_submits_and_waits(
    execute: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore
) -> None:
    run = TorchXRunTrialOperator(
        task_id="run", trial=trial, component=components(PLATEAU), poke_interval=0.05, trial_retries=1
    )
    check_stopped(execute, store, execute(run))
    assert len(store.attempts("booth")) == 1


async def test_a_deferred_task_is_woken_by_progress_until_its_trial_is_stopped(
    execute: Execute, resume: Execute, trial: dict[str, Any], components: Components, store: ExperimentStore
) -> None:
    run = execute(
        TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=components(PLATEAU.replace("0.1)", "0.5)")))
    )
    sensor = TorchXTrialSensor(task_id="wait", run=run, deferrable=True, poke_interval=3, early_stopping_interval=0.05)
    outcome, events = None, []
    try:
        outcome = execute(sensor)
    except TaskDeferred as deferred:
        waiting = deferred
    while outcome is None:
        _, arguments = waiting.trigger.serialize()
        events += [event.payload async for event in TorchXTrialTrigger(**arguments).run()]
        try:
            outcome = resume(sensor, events[-1])
        except TaskDeferred as deferred:
            waiting = deferred
    # The end of the app, which was cancelled, is seen by the trigger or by the task.
    assert events[0]["status"] == "progress"
    assert {event["status"] for event in events} <= {"progress", "observed"}
    check_stopped(execute, store, outcome)


async def test_without_early_stopping_progress_is_recorded_at_the_end_and_wakes_nobody(
    execute: Execute, resume: Execute, components: Components, store: ExperimentStore
) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    trial = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))
    run = execute(TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=components(PLATEAU)))
    sensor = TorchXTrialSensor(
        task_id="wait", run=run, deferrable=True, poke_interval=0.05, timeout=3, early_stopping_interval=0.05
    )
    with pytest.raises(TaskDeferred) as deferred:
        execute(sensor)
    _, arguments = deferred.value.trigger.serialize()
    (event,) = [event.payload async for event in TorchXTrialTrigger(**arguments).run()]
    assert event["status"] == "timeout"
    assert resume(sensor, event)["trial_status"] == "ABANDONED"
    # Its curve is recorded all the same, when it ends.
    assert len(store.observations("booth", 0)) >= 3


async def test_a_deferred_optimization_is_woken_by_progress_alone(
    execute: Execute, components: Components, store: ExperimentStore, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    waiting = f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)\n"
    lines = PLATEAU.splitlines(keepends=True)
    component = components("".join([lines[0], waiting, *lines[1:]]))
    task = AxOptimizeOperator(
        task_id="tune",
        experiment=SPEC,
        component=component,
        max_trials=1,
        poll_interval=3600,
        early_stopping_interval=0.05,
        deferrable=True,
    )
    with pytest.raises(TaskDeferred) as deferred:
        execute(task)
    _, arguments = deferred.value.trigger.serialize()
    (run,) = store.open_attempts(experiment="booth")
    assert arguments["reporting"] == [[run.tracker_base, 0, 0]]
    waiter = asyncio.ensure_future(anext(AxOptimizeTrigger(**arguments).run()))
    done, _ = await asyncio.wait([waiter], timeout=1)
    assert not done, "an interval is over, and there is nothing to look at"
    gate.touch()
    assert (await waiter).payload == {"status": "due"}
    result = None
    while result is None:
        try:
            result = task.execute_complete({"ti": FakeTaskInstance("tune")}, {"status": "due"})
        except TaskDeferred as again:
            _, arguments = again.trigger.serialize()
            await anext(AxOptimizeTrigger(**arguments).run())
    assert result["trials"] == {"EARLY_STOPPED": 1}
