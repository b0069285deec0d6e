"""Apps that leave what is not a result, or leave it late, and a generator that breaks."""

from __future__ import annotations

from airflow.sdk import dag
from cases_common import COMPONENT, DAG_SETTINGS, RETRY_SOON, app_args, experiment

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.task_groups import ax_trial_loop


def optimize(**settings: object) -> None:
    """Run four trials, two at once."""
    chosen = {
        "experiment": experiment(),
        "max_trials": 4,
        "parallelism": 2,
        "propose_ahead": 0,
        "poll_interval": 2,
        "retries": 0,
        "deferrable": True,
        **settings,
    }
    AxOptimizeOperator(task_id="optimize", component=COMPONENT, component_args=app_args(), **chosen)


@dag(**DAG_SETTINGS)
def deferred_optimize() -> None:
    optimize()


@dag(**DAG_SETTINGS)
def poking_optimize_without_pause() -> None:
    optimize(deferrable=False, poll_interval=0.01)


@dag(**DAG_SETTINGS)
def two_rounds() -> None:
    ax_trial_loop(
        "tune",
        experiment(),
        COMPONENT,
        rounds=2,
        trials_per_round=2,
        component_args=app_args(),
        poke_interval=2,
        deferrable=True,
        default_args=RETRY_SOON,
    )


@dag(**DAG_SETTINGS)
def broken_generator() -> None:
    optimize(
        experiment=experiment(factory="cases_strategies:broken"),
        allowed_factories=["cases_strategies:*"],
        parallelism=3,
        propose_ahead=1,
    )


@dag(**DAG_SETTINGS)
def late_loop() -> None:
    ax_trial_loop(
        "tune",
        experiment(),
        COMPONENT,
        rounds=1,
        component_args=app_args(),
        poke_interval=1,
        fused=False,
        default_args=RETRY_SOON,
    )


@dag(**DAG_SETTINGS)
def late_optimize() -> None:
    optimize(max_trials=1, parallelism=1, deferrable=False, poll_interval=1)


deferred_optimize()
poking_optimize_without_pause()
two_rounds()
broken_generator()
late_loop()
late_optimize()
