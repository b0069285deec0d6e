"""What a task process, or a triggerer, of the fault tests does: the product's operators, as Airflow calls them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.context import set_current_context
from airflow.triggers.base import TriggerEvent

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.lifecycle import attempts
from airflow_provider_axtx.lifecycle import complete as complete_module
from airflow_provider_axtx.lifecycle import reap as reap_module
from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import (
    TorchXReapTrialsOperator,
    TorchXRunTrialOperator,
    TorchXSubmitTrialOperator,
)
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.triggers import task_state, timing
from airflow_provider_axtx.triggers import trial as trial_triggers
from airflow_provider_axtx.triggers.poller import Observe
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.faults.world import COMPONENT, EXPERIMENT, SPEC

POLL_SECONDS = 0.05
#: With this file in the folder of a world its trials are an ordinary script that prints, instead of a component.
SCRIPT_DOOR = "script-door"
#: Long enough for a killed submitter to be dead, short enough for a test: the fake scheduler does not lag.
_CLAIM_SECONDS = 0.2
#: Apps of these tests report before they exit or never.
_PATIENCE_SECONDS = 0.2
_RETRIES = 8
_TIMEOUT_SECONDS = 0.2


@dataclass
class TaskInstance:
    """What an operator uses of a task instance."""

    task_id: str
    try_number: int
    folder: Path
    dag_id: str = "faults"
    run_id: str = "run"
    map_index: int = -1
    max_tries: int = _RETRIES
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


#: A task's work: called with its task instance and its inputs (XComs), returns what goes to XCom.
Work = Callable[..., Any]


def execute(operator: Any, ti: TaskInstance, method: str = "execute", **arguments: Any) -> Any:
    """Call the operator as Airflow does; a deferral is returned as ``{"deferred": {"kwargs": ..., "method": ...}}``."""
    attempts.CLAIM_SECONDS = reap_module.CLAIM_SECONDS = _CLAIM_SECONDS
    complete_module.RESULT_PATIENCE_SECONDS = _PATIENCE_SECONDS
    # No scheduler reads the end of a deferred task's process here.
    timing._MARGIN_SECONDS = 0.0
    context: Any = {"ti": ti}
    # As Airflow's task process has it: the task runs on after on_kill, until it is killed.
    signal.signal(signal.SIGTERM, lambda number, frame: operator.on_kill())
    try:
        with set_current_context(context):
            return getattr(operator, method)(context, **arguments)
    except TaskDeferred as deferred:
        return {"deferred": deferred.trigger.serialize()[1], "method": deferred.method_name}


def create(ti: TaskInstance) -> Any:
    return execute(AxCreateExperimentOperator(task_id="create", experiment=SPEC), ti)


def generate(ti: TaskInstance, n: int) -> Any:
    return execute(AxGenerateTrialsOperator(task_id="generate", experiment_name=EXPERIMENT, n=n), ti)


def app(ti: TaskInstance, trial: dict[str, Any] | None = None, mode: str = "") -> dict[str, Any]:
    """Return the app's arguments, the same for all trials of the experiment; the mode of a trial is in a file."""
    if trial is not None:
        (ti.folder / f"mode-{trial['trial_index']}").write_text(mode)
    if (ti.folder / SCRIPT_DOOR).exists():
        arguments = ["{x}", "{trial_idx}", "{tracker_base}", str(ti.folder)]
        return {
            "component": "axtx.script",
            "component_args": {"script": str(Path(__file__).with_name("train.py")), "args": arguments},
            "metrics": {"loss": {"regex": r"loss=(\S+)"}},
        }
    return {"component": COMPONENT, "component_args": {"folder": str(ti.folder)}}


def optimize(ti: TaskInstance, limits: dict[str, Any]) -> Any:
    operator = AxOptimizeOperator(
        task_id="optimize",
        experiment=SPEC,
        max_trials=3,
        parallelism=2,
        propose_ahead=1,
        poll_interval=POLL_SECONDS,
        deferrable=False,
        **limits,
        **app(ti),
    )
    return execute(operator, ti)


def submit(ti: TaskInstance, trial: dict[str, Any], mode: str = "") -> Any:
    ti.task_id = f"submit_{trial['trial_index']}"
    return execute(TorchXSubmitTrialOperator(task_id=ti.task_id, trial=trial, **app(ti, trial, mode)), ti)


def submit_all(ti: TaskInstance, trials: list[dict[str, Any]], modes: list[str]) -> Any:
    return [submit(ti, trial, mode) for trial, mode in zip(trials, modes, strict=True)]


def submit_cleared(ti: TaskInstance, trial: dict[str, Any], mode: str = "") -> Any:
    """The same task after a user's Clear: Airflow goes on counting its tries and gives it more."""
    ti.max_tries, ti.try_number = _RETRIES + 1, ti.try_number + 1
    return submit(ti, trial, mode)


def submit_killed(ti: TaskInstance, trial: dict[str, Any], mode: str = "") -> Any:
    """A task that a user marks as failed: it adopts its app and is asked to stop, as by Airflow's SIGTERM handler."""
    task_state.read_state = lambda identity: "failed"
    ti.task_id = f"submit_{trial['trial_index']}"
    operator = TorchXSubmitTrialOperator(task_id=ti.task_id, trial=trial, **app(ti, trial, mode))
    execute(operator, ti)
    operator.on_kill()


def run(
    ti: TaskInstance, trial: dict[str, Any], mode: str = "", trial_retries: int = 0, retry_from: str = "checkpoint"
) -> Any:
    operator = TorchXRunTrialOperator(
        task_id="run",
        trial=trial,
        poke_interval=POLL_SECONDS,
        trial_retries=trial_retries,
        retry_from=retry_from,
        **app(ti, trial, mode),
    )
    return execute(operator, ti)


def _sensor(run: Any, **arguments: Any) -> TorchXTrialSensor:
    return TorchXTrialSensor(task_id="wait", run=run, poke_interval=POLL_SECONDS, **arguments)


def wait_shortly(ti: TaskInstance, run: dict[str, Any]) -> Any:
    return wait(ti, run, _TIMEOUT_SECONDS)


def wait(ti: TaskInstance, run: dict[str, Any], timeout: float = 600) -> Any:
    return execute(_sensor(run, timeout=timeout), ti)


def defer(ti: TaskInstance, run: dict[str, Any], timeout: float = 600) -> Any:
    return execute(_sensor(run, deferrable=True, timeout=timeout), ti)


def resume(ti: TaskInstance, run: dict[str, Any], event: dict[str, Any]) -> Any:
    """Go on after the trigger's event; Airflow's retry of a task that was killed here starts from its beginning."""
    if ti.try_number > 1:
        return wait(ti, run)
    return execute(_sensor(run, deferrable=True), ti, "execute_complete", event=event)


def time_out(ti: TaskInstance, run: dict[str, Any]) -> Any:
    """Go on after the trigger's "timeout"; a retry starts from the beginning and finds its time is up."""
    if ti.try_number > 1:
        return wait(ti, run, _TIMEOUT_SECONDS)
    sensor = _sensor(run, deferrable=True, timeout=_TIMEOUT_SECONDS)
    return execute(sensor, ti, "execute_complete", event={"status": "timeout", "run": run})


def complete(ti: TaskInstance, outcome: dict[str, Any]) -> Any:
    return execute(AxCompleteTrialOperator(task_id="complete", run=outcome), ti)


def reap(ti: TaskInstance) -> Any:
    return execute(TorchXReapTrialsOperator(task_id="reap"), ti)


def rest(ti: TaskInstance, trials: list[dict[str, Any]]) -> Any:
    """Run trials from their submission to their end, in one process: what is left of a DAG after its victim."""
    runs = [submit(ti, trial) for trial in trials]
    return [complete(ti, wait(ti, run)) for run in runs]


def finish(ti: TaskInstance, runs: list[dict[str, Any]]) -> Any:
    """Wait for submitted trials and complete them, in one process."""
    return [complete(ti, wait(ti, run)) for run in runs]


def triggerer(ti: TaskInstance, deferred: dict[str, dict[str, Any]]) -> Any:
    """Run the triggers that have not fired, in one event loop; each event is stored before the next await.

    :param deferred: name -> the trigger's serialized arguments.
    :return: name -> event.
    """
    events = {name: ti.folder / f"event-{name}.json" for name in deferred}

    async def run_one(name: str) -> None:
        trigger = TorchXTrialTrigger(**deferred[name])
        async for event in trigger.run():
            assert isinstance(event, TriggerEvent)
            write_json(events[name], event.payload)

    make_observe = trial_triggers.make_observe

    def make_gated(*reached: Any) -> Observe:
        observe = make_observe(*reached)

        def look(handles: Sequence[str]) -> Mapping[str, AppObservation]:
            # The apps may finish from the first look on, however slow the machine is: there is always a second one.
            seen = observe(handles)
            (ti.folder / "gate").touch()
            return seen

        return look

    trial_triggers.make_observe = make_gated

    async def run_all() -> None:
        await asyncio.gather(*(run_one(name) for name, file in events.items() if not file.exists()))

    asyncio.run(run_all())
    return {name: json.loads(file.read_text()) for name, file in events.items()}


def user_ends(ti: TaskInstance, state: str | None, deferred: dict[str, Any]) -> Any:
    """What the triggerer does when a user has brought a deferred task into this state."""
    task_state.read_state = lambda identity: state
    asyncio.run(TorchXTrialTrigger(**deferred).on_kill())


def modules_used(ti: TaskInstance) -> Any:
    """Run one trial from its creation to its end; return the names of all modules that this took."""
    create(ti)
    (ti.folder / "gate").touch()
    rest(ti, generate(ti, 1))
    return sorted(sys.modules)


def write_json(path: Path, content: Any) -> None:
    """Write a file as a whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)
