"""DAGs that run ten trials one after the other, and a DAG of ten empty tasks that measures the start of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import chain, dag

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

TRIALS = 10
EXPERIMENT: dict[str, Any] = {
    "name": "{{ dag.dag_id }}-{{ run_id }}",
    "parameters": [
        {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-5.0, 10.0]},
        {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [0.0, 15.0]},
    ],
    "objective": "-value",
    # Sobol, because the time of a model fit does not belong to the overhead.
    "generation": {"method": "random_search", "initialization_random_seed": 1, "random_seed": 1},
}
APP: dict[str, Any] = {
    "component": f"{Path(__file__).parents[1] / 'regret.py'}:function",
    "component_args": {"name": "branin", "slow": 0.0},
}


def _do_nothing() -> None:
    pass


@dag(schedule=None)
def nothing() -> None:
    chain(*(PythonOperator(task_id=f"task_{k}", python_callable=_do_nothing) for k in range(TRIALS)))


def _loop(**options: Any) -> None:
    ax_trial_loop("tune", experiment=EXPERIMENT, poke_interval=0.1, **APP, **{"rounds": TRIALS, **options})


@dag(schedule=None)
def loop() -> None:
    _loop(deferrable=False)


@dag(schedule=None)
def loop_deferrable() -> None:
    _loop(deferrable=True)


@dag(schedule=None)
def loop_in_steps() -> None:
    _loop(deferrable=False, fused=False)


@dag(schedule=None)
def one_round() -> None:
    _loop(rounds=1)


@dag(schedule=None)
def optimize_deferrable() -> None:
    AxOptimizeOperator(
        task_id="optimize", experiment=EXPERIMENT, max_trials=TRIALS, poll_interval=0.1, deferrable=True, **APP
    )


for make in (nothing, loop, loop_deferrable, loop_in_steps, one_round, optimize_deferrable):
    make()
