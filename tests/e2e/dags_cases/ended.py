"""DAG runs that a user ends: marked, deleted, or without their DAG file."""

from __future__ import annotations

from airflow.sdk import dag
from cases_common import COMPONENT, DAG_SETTINGS, app_args, experiment, young

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.task_groups import ax_trial_loop


def optimize(deferrable: bool, **settings: object) -> None:
    """Run four trials, two at once."""
    AxOptimizeOperator(
        task_id="optimize",
        component=COMPONENT,
        component_args=app_args(),
        max_trials=4,
        parallelism=2,
        propose_ahead=1,
        poll_interval=5,
        deferrable=deferrable,
        retries=0,
        **settings,
    )


@dag(**DAG_SETTINGS)
def ended_loop() -> None:
    ax_trial_loop(
        "tune",
        experiment(),
        COMPONENT,
        rounds=1,
        trials_per_round=2,
        component_args=app_args(),
        poke_interval=2,
        deferrable=True,
    )


@dag(**DAG_SETTINGS)
def ended_deferred_optimize() -> None:
    optimize(True, experiment=experiment())


@dag(**DAG_SETTINGS)
def ended_poking_optimize() -> None:
    optimize(False, experiment=experiment())


@dag(**DAG_SETTINGS)
def resumed_optimize() -> None:
    """Every DAG run has the same experiment, whose model wants two results before it proposes a third trial."""
    optimize(True, experiment=young("resumed"))


ended_loop()
ended_deferred_optimize()
ended_poking_optimize()
resumed_optimize()
