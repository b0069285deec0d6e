"""Ways to wait for an app, which the tests interrupt."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag
from cases_common import COMPONENT, DAG_SETTINGS, RETRY_SOON, app_args, experiment

from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.task_groups import ax_trial_loop

#: Seconds since its submission after which an app is cancelled, shorter than the absence of the triggerer.
SHORT_TIMEOUT = 45
NO_RETRY = {"retries": 0}


def loop(**settings: object) -> None:
    """A loop of one round, whose steps are tasks of their own."""
    chosen = {"rounds": 1, "fused": False, "poke_interval": 2, "default_args": RETRY_SOON, **settings}
    ax_trial_loop("tune", experiment(), COMPONENT, component_args=app_args(), **chosen)


def optimize(**settings: object) -> None:
    """The whole experiment in one task."""
    chosen = {"max_trials": 2, "parallelism": 2, "poll_interval": 2, **RETRY_SOON, **settings}
    AxOptimizeOperator(
        task_id="optimize", experiment=experiment(), component=COMPONENT, component_args=app_args(), **chosen
    )


@dag(**DAG_SETTINGS)
def deferred_loop_with_timeout() -> None:
    loop(deferrable=True, timeout=SHORT_TIMEOUT)


@dag(**DAG_SETTINGS)
def deferred_optimize_with_timeout() -> None:
    optimize(deferrable=True, trial_timeout=SHORT_TIMEOUT, max_trials=1, parallelism=1)


@dag(**DAG_SETTINGS)
def poking_loop() -> None:
    loop()


@dag(**DAG_SETTINGS)
def deferred_loop() -> None:
    loop(deferrable=True)


@dag(**DAG_SETTINGS)
def fused_loop() -> None:
    loop(fused=None)


@dag(**DAG_SETTINGS)
def poking_optimize() -> None:
    optimize()


@dag(**DAG_SETTINGS)
def sensor_without_retries() -> None:
    """Nothing ends the app but its sensor: there is no reap."""
    create = AxCreateExperimentOperator(task_id="create", experiment=experiment())
    trial = AxGenerateTrialOperator(task_id="generate", experiment_name=create.output)
    run = TorchXSubmitTrialOperator(
        task_id="submit", trial=trial.output, component=COMPONENT, component_args=app_args()
    )
    wait = TorchXTrialSensor(task_id="wait", run=run.output, poke_interval=1, **NO_RETRY)
    AxCompleteTrialOperator(task_id="complete", run=wait.output)


@dag(**DAG_SETTINGS)
def deferred_loop_without_retries() -> None:
    loop(deferrable=True, rounds=2, trials_per_round=3, poke_interval=1, default_args=NO_RETRY)


@dag(**DAG_SETTINGS)
def deferred_optimize_without_retries() -> None:
    optimize(deferrable=True, max_trials=4, parallelism=3, **NO_RETRY)


@dag(**DAG_SETTINGS, dagrun_timeout=timedelta(seconds=60))
def timed_run_with_loop() -> None:
    loop(deferrable=True, trials_per_round=2)


@dag(**DAG_SETTINGS, dagrun_timeout=timedelta(seconds=60))
def timed_run_with_deferred_optimize() -> None:
    optimize(deferrable=True)


@dag(**DAG_SETTINGS, dagrun_timeout=timedelta(seconds=60))
def timed_run_with_poking_optimize() -> None:
    optimize()


deferred_loop_with_timeout()
deferred_optimize_with_timeout()
poking_loop()
deferred_loop()
fused_loop()
poking_optimize()
sensor_without_retries()
deferred_loop_without_retries()
deferred_optimize_without_retries()
timed_run_with_loop()
timed_run_with_deferred_optimize()
timed_run_with_poking_optimize()
