"""A loop behind a branch that chooses it or not, and the best trial behind the loop."""

from __future__ import annotations

from airflow.sdk import dag, task
from cases_common import COMPONENT, DAG_SETTINGS, app_args, experiment

from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

#: Two parameterizations, so that the second of two rounds of two trials has none left.
SMALL = [{"type": "choice", "name": "x", "parameter_type": "float", "values": [0.25, 0.75]}]


@dag(**{**DAG_SETTINGS, "params": {**DAG_SETTINGS["params"], "chosen": "tune.create"}})
def branch() -> None:
    @task.branch
    def choose(params: dict[str, str] | None = None) -> str | None:
        return (params or {})["chosen"] or None

    definition = {**experiment(), "parameters": SMALL, "generation": {"method": "fast"}}
    loop = ax_trial_loop(
        "tune", definition, COMPONENT, rounds=2, trials_per_round=2, component_args=app_args(), poke_interval=1
    )
    best = AxBestTrialOperator(task_id="best", experiment_name=definition["name"])
    choose() >> loop >> best


branch()
