"""What the DAGs of the platform's tests share; their apps wait until a test lets them go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import TaskGroup, dag

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

COMPONENT = f"{Path(__file__).parents[2] / 'e2e' / 'dags_faults' / 'apps' / 'components.py'}:app"
NAME = "{{ params.experiment or dag.dag_id ~ '-' ~ run_id }}"
PARAMS = {"folder": "", "experiment": "", "trials": 1}
RETRY_SOON = {"retries": 10, "retry_delay": timedelta(seconds=1)}


def settings(queue: str = "default") -> dict[str, Any]:
    """Return the settings of a DAG all of whose tasks are for one queue."""
    return {"schedule": None, "params": PARAMS, "default_args": {**RETRY_SOON, "queue": queue}}


def common() -> dict[str, Any]:
    """Return the experiment and the app of a DAG run."""
    experiment = {
        "name": NAME,
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
        "objective": "-loss",
        "generation": {"method": "random_search"},
    }
    return {"experiment": experiment, "component": COMPONENT, "component_args": {"folder": "{{ params.folder }}"}}


def loop(**chosen: Any) -> TaskGroup:
    """Wire a loop of one round."""
    chosen = {"rounds": 1, "trials_per_round": "{{ params.trials }}", "poke_interval": 2, "deferrable": True, **chosen}
    return ax_trial_loop("tune", **common(), **chosen)


def optimize(**chosen: Any) -> None:
    """Make the task that does the whole experiment."""
    limits = {
        "max_trials": "{{ params.trials }}",
        "parallelism": "{{ [params.trials, 2] | min }}",
        "poll_interval": 2,
        "deferrable": True,
    }
    AxOptimizeOperator(task_id="optimize", **common(), **{**limits, **chosen})


def make_dag(dag_id: str, wire: Any, queue: str = "default", **chosen: Any) -> None:
    """Make a DAG of one shape for one queue."""

    @dag(dag_id=dag_id, **settings(queue))
    def shape() -> None:
        wire(**chosen)

    shape()
