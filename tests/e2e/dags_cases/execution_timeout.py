"""Tasks with an execution_timeout: the two that defer, and one that waits in its process."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag
from cases_common import COMPONENT, DAG_SETTINGS, app_args, experiment

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

TIMEOUT = {"execution_timeout": timedelta(seconds=30), "retries": 0}


def optimize(deferrable: bool) -> None:
    AxOptimizeOperator(
        task_id="optimize",
        experiment=experiment(),
        component=COMPONENT,
        component_args=app_args(),
        max_trials=2,
        parallelism=2,
        poll_interval=2,
        deferrable=deferrable,
        **TIMEOUT,
    )


@dag(**DAG_SETTINGS)
def timed_deferred_loop() -> None:
    ax_trial_loop(
        "tune",
        experiment(),
        COMPONENT,
        rounds=1,
        component_args=app_args(),
        poke_interval=2,
        deferrable=True,
        default_args=TIMEOUT,
    )


@dag(**DAG_SETTINGS)
def timed_deferred_optimize() -> None:
    optimize(True)


@dag(**DAG_SETTINGS)
def timed_poking_optimize() -> None:
    optimize(False)


timed_deferred_loop()
timed_deferred_optimize()
timed_poking_optimize()
