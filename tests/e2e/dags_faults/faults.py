"""DAGs of the fault tests: loops over an app that waits until it is let go, and what has no teardown."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import Context, dag

from airflow_provider_axtx.operators.ax import (
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxGenerateTrialsOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.task_groups import ax_trial_loop

COMPONENT = f"{Path(__file__).parent / 'apps' / 'components.py'}:app"
EXPERIMENT = {
    "name": "{{ dag.dag_id }}-{{ run_id }}",
    "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
    "objective": "-loss",
    # Sobol only: no test here is about the model.
    "generation": {"initialization_budget": 50, "initialization_random_seed": 1, "random_seed": 1},
}
COMPONENT_ARGS = {"folder": "{{ params.folder }}", "behaviours": "{{ params.behaviours }}"}
PARAMS = {"folder": "", "behaviours": "good", "rounds": 1, "trials": 1, "upper": 1, "kill": {}}


def arm(context: Context) -> None:
    """Arm the crash point that ``params.kill`` names for this task; in its first try the process kills itself there."""
    ti = context["ti"]
    point = context["params"]["kill"].get(ti.task_id)
    if point and ti.try_number == 1:
        os.environ["AXTX_CRASH_POINT"] = point


SETTINGS: dict[str, Any] = {
    "schedule": None,
    "params": PARAMS,
    "default_args": {"retries": 2, "retry_delay": timedelta(seconds=1), "pre_execute": arm},
}


def loop(*, fused: bool | None = False, **wait: Any) -> None:
    """Wire the loop that all fault tests run, with a way to wait."""
    ax_trial_loop(
        "tune",
        experiment=EXPERIMENT,
        component=COMPONENT,
        component_args=COMPONENT_ARGS,
        rounds="{{ params.rounds }}",
        max_rounds=2,
        trials_per_round="{{ params.trials }}",
        poke_interval=1,
        timeout=900,
        fused=fused,
        **wait,
    )


@dag(**SETTINGS)
def deferred_loop() -> None:
    loop(deferrable=True)


@dag(**SETTINGS)
def poking_loop() -> None:
    loop(deferrable=False)


@dag(**SETTINGS)
def resubmitting_loop() -> None:
    loop(deferrable=True, trial_retries=1)


@dag(**SETTINGS)
def resubmitting_poking_loop() -> None:
    loop(deferrable=False, trial_retries=1)


def alone(**wait: Any) -> None:
    """Wire a single trial, without a teardown."""
    create = AxCreateExperimentOperator(task_id="create", experiment=EXPERIMENT)
    trial = AxGenerateTrialOperator(task_id="generate", experiment_name=create.output)
    run = TorchXSubmitTrialOperator(
        task_id="submit", trial=trial.output, component=COMPONENT, component_args=COMPONENT_ARGS
    )
    TorchXTrialSensor(task_id="wait", run=run.output, poke_interval=1, timeout=900, deferrable=True, **wait)


@dag(**SETTINGS)
def deferred_alone() -> None:
    """Whatever cancels the app, it is the sensor's trigger."""
    alone()


@dag(**SETTINGS)
def streamed() -> None:
    alone(stream_logs=True)


@dag(**SETTINGS)
def never_waits() -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=EXPERIMENT)
    trials = AxGenerateTrialsOperator(task_id="generate", experiment_name=create.output, n="{{ params.trials }}")
    TorchXSubmitTrialOperator.partial(task_id="submit", component=COMPONENT, component_args=COMPONENT_ARGS).expand(
        trial=trials.output
    )


@dag(**SETTINGS)
def never_submits() -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=EXPERIMENT)
    AxGenerateTrialsOperator(task_id="generate", experiment_name=create.output)


def optimize(experiment: dict[str, Any] = EXPERIMENT, **options: Any) -> None:
    AxOptimizeOperator(
        task_id="optimize",
        experiment=experiment,
        component=COMPONENT,
        component_args=COMPONENT_ARGS,
        max_trials="{{ params.trials }}",
        parallelism=2,
        propose_ahead=1,
        poll_interval=1,
        trial_timeout=900,
        **options,
    )


@dag(**SETTINGS)
def changing() -> None:
    """The definition changes with a param; what the model says is computed at the end."""
    bounds = [0.0, "{{ params.upper }}"]
    parameters = [{"type": "range", "name": "x", "parameter_type": "float", "bounds": bounds}]
    generation = {**EXPERIMENT["generation"], "initialization_budget": 6}
    definition = {**EXPERIMENT, "name": "changing", "parameters": parameters, "generation": generation}
    optimize(experiment=definition, on_change="update", analyze="end")


@dag(**SETTINGS)
def fused_loop() -> None:
    loop(fused=None)


def loaded() -> list[str]:
    """Return which of the slow libraries this task has found imported."""
    return sorted({"ax", "torchx"} & set(sys.modules))


@dag(**SETTINGS)
def warm() -> None:
    PythonOperator(task_id="look", python_callable=loaded)


@dag(**SETTINGS)
def optimizing() -> None:
    optimize(deferrable=True)


@dag(**SETTINGS)
def optimizing_in_process() -> None:
    optimize(deferrable=False)


deferred_alone()
streamed()
deferred_loop()
poking_loop()
resubmitting_loop()
resubmitting_poking_loop()
never_waits()
never_submits()
fused_loop()
changing()
warm()
optimizing()
optimizing_in_process()
