"""DAG runs that share one experiment, also while its model still waits for results."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import dag
from cases_common import COMPONENT, DAG_SETTINGS, FOLDER, PARAMS, app_args, experiment, young

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

DAYS: dict[str, Any] = {
    "schedule": "@daily",
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "max_active_runs": 3,
    "params": {**PARAMS, "folder": f"{FOLDER}/days"},
}


def loop(name: str) -> None:
    """A loop of one round of two trials."""
    ax_trial_loop(
        "tune",
        young(name),
        COMPONENT,
        rounds=1,
        trials_per_round=2,
        component_args=app_args(),
        poke_interval=2,
        deferrable=True,
    )


def optimize(name: str, max_trials: int) -> None:
    """The whole experiment in one task."""
    AxOptimizeOperator(
        task_id="optimize",
        experiment=young(name),
        component=COMPONENT,
        component_args=app_args(),
        max_trials=max_trials,
        parallelism=2,
        poll_interval=5,
        deferrable=True,
        retries=0,
    )


@dag(**DAG_SETTINGS)
def young_loop() -> None:
    loop("young-loop")


@dag(**DAG_SETTINGS)
def young_optimize() -> None:
    optimize("young-optimize", max_trials=4)


@dag(**DAYS, catchup=False)
def young_backfill() -> None:
    loop("young-backfill")


@dag(**{**DAYS, "end_date": datetime(2026, 1, 3, tzinfo=UTC)}, catchup=True)
def young_catchup() -> None:
    optimize("young-catchup", max_trials=6)


@dag(**{**DAG_SETTINGS, "params": {**PARAMS, "rounds": 4}})
def too_many_rounds() -> None:
    ax_trial_loop(
        "tune",
        experiment(),
        COMPONENT,
        rounds="{{ params.rounds }}",
        max_rounds=2,
        component_args=app_args(),
        poke_interval=2,
    )


@dag(**{**DAG_SETTINGS, "params": {**PARAMS, "trials": 1025}})
def too_many_trials() -> None:
    """More than ``[core] max_map_length`` mapped tasks."""
    ax_trial_loop(
        "tune",
        experiment(),
        COMPONENT,
        rounds=1,
        trials_per_round="{{ params.trials }}",
        component_args=app_args(),
        poke_interval=2,
    )


young_loop()
young_optimize()
young_backfill()
young_catchup()
too_many_rounds()
too_many_trials()
