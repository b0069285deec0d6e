"""Tasks of the shapes: several groups in one DAG, another deployment, and what Airflow says about an ended task."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator, TaskGroup

from airflow_provider_axtx.hooks import installation
from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxGenerateTrialsOperator,
    AxOptimizeOperator,
    AxStartTrialOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator
from airflow_provider_axtx.triggers import task_state
from airflow_provider_axtx.triggers.optimize import AxOptimizeTrigger
from tests.faults import tasks
from tests.faults.tasks import TaskInstance
from tests.faults.world import EXPERIMENT, SPEC

_DEADLINE_SECONDS = 0.3


def _in_group(ti: TaskInstance, group: str, operator: type[BaseOperator], name: str, **arguments: Any) -> Any:
    """Execute a task of a group that has other tasks too."""
    with DAG("faults"), TaskGroup(group):
        BaseOperator(task_id="other")
        task = operator(task_id=name, **arguments)
    ti.task_id = task.task_id
    return tasks.execute(task, ti)


def generate_in(ti: TaskInstance, group: str) -> Any:
    return _in_group(ti, group, AxGenerateTrialsOperator, "generate", experiment_name=EXPERIMENT, n=1)


def submit_in(ti: TaskInstance, group: str, trial: dict[str, Any], mode: str) -> Any:
    from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator

    return _in_group(ti, group, TorchXSubmitTrialOperator, "submit", trial=trial, **tasks.app(ti, trial, mode))


def reap_in(ti: TaskInstance, group: str) -> Any:
    return _in_group(ti, group, TorchXReapTrialsOperator, "reap")


@dataclass
class _Completing(TaskInstance):
    """A completing task, which asks Airflow how the task before it has ended."""

    state: str = ""

    def get_task_states(self, **asked: Any) -> dict[str, dict[str, str]]:
        return {self.run_id: {"start": "success", "train": self.state}}


def _body(trial: dict[str, Any], results: Any = None) -> tuple[AxStartTrialOperator, AxCompleteTrialOperator]:
    with DAG("faults"):
        start = AxStartTrialOperator(task_id="start", trial=trial)
        complete = AxCompleteTrialOperator(task_id="complete", trial=start.output, results=results)
        start >> BaseOperator(task_id="train") >> complete
    return start, complete


def start_body(ti: TaskInstance, trial: dict[str, Any]) -> Any:
    ti.task_id = f"start_{trial['trial_index']}"
    return tasks.execute(_body(trial)[0], ti)


def run_body(ti: TaskInstance, started: dict[str, Any]) -> None:
    """Do the work of a trial, which counts as the start of its app."""
    with (ti.folder / "starts").open("a") as file:
        file.write(f"{Path(started['tracker_base']).name}\n")


def complete_body(ti: TaskInstance, started: dict[str, Any], state: str) -> Any:
    _, complete = _body(started, {"loss": started["parameters"]["x"]})
    complete.trial = started
    given = {one.name: getattr(ti, one.name) for one in fields(TaskInstance)}
    return tasks.execute(complete, _Completing(**given, state=state))


def optimize_deferred(ti: TaskInstance, max_trials: int) -> Any:
    """Submit the last trial of the experiment and defer, in the first try; go on to the end in a later one."""
    operator = AxOptimizeOperator(
        task_id="optimize",
        experiment=SPEC,
        max_trials=max_trials,
        parallelism=1,
        poll_interval=tasks.POLL_SECONDS,
        deferrable=True,
        **tasks.app(ti),
    )
    return tasks.execute(operator, ti)


def optimize_to_end(ti: TaskInstance) -> Any:
    """Go on with the experiment in the worker, as a task does that Airflow starts again."""
    ti.task_id, ti.try_number = "optimize", ti.try_number + 1
    return tasks.optimize(ti, {})


def optimize_till_ended(ti: TaskInstance, state: str | None) -> Any:
    """Run the experiment; when the process is asked to stop, Airflow says that the task is in this state."""
    task_state.read_state = lambda identity: state
    return tasks.optimize(ti, {})


def user_ends_optimize(ti: TaskInstance, state: str | None, deferred: dict[str, Any]) -> Any:
    """What the triggerer does when a user has brought the deferred optimize task into this state."""
    task_state.read_state = lambda identity: state
    asyncio.run(AxOptimizeTrigger(**deferred).on_kill())


def of_another_deployment(ti: TaskInstance, name: str, *inputs: Any) -> Any:
    """Do the work of ``tasks.name`` as an Airflow with the same DAG and DAG run ids, on the same store."""
    os.environ["AIRFLOW__AXTX__INSTALLATION"] = "there"
    installation._known = ""
    return getattr(tasks, name)(ti, *inputs)


def defer_with_deadline(ti: TaskInstance, run: dict[str, Any]) -> Any:
    return tasks.defer(ti, run, _DEADLINE_SECONDS)


def wait_till_ended(ti: TaskInstance, state: str | None, run: dict[str, Any]) -> Any:
    """Wait; when the process is asked to stop, Airflow says that the task is in this state."""
    task_state.read_state = lambda identity: state
    return tasks.wait(ti, run)


def wait_again(ti: TaskInstance, run: dict[str, Any]) -> Any:
    """Wait in the next try of the task ``wait``."""
    ti.task_id, ti.try_number = "wait", ti.try_number + 1
    return tasks.wait(ti, run)


def run_till_ended(ti: TaskInstance, state: str | None, trial: dict[str, Any], mode: str) -> Any:
    """Submit and wait; when the process is asked to stop, Airflow says that the task is in this state."""
    task_state.read_state = lambda identity: state
    return tasks.run(ti, trial, mode)
