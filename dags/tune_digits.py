"""Tunes a classifier of handwritten digits, then trains the best one again and scores it on held-out images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import dag, task

from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

COMPONENT = f"{Path(__file__).parent / 'apps' / 'components.py'}:digits"

EXPERIMENT = {
    "name": "digits-{{ run_id }}",
    "parameters": [
        {"type": "range", "name": "c", "parameter_type": "float", "bounds": [1e-2, 1e3], "scaling": "log"},
        {"type": "range", "name": "gamma", "parameter_type": "float", "bounds": [1e-4, 1.0], "scaling": "log"},
        {"type": "range", "name": "pixels", "parameter_type": "int", "bounds": [2, 64]},
        {
            "type": "choice",
            "name": "kernel",
            "parameter_type": "str",
            "values": ["rbf", "sigmoid"],
            "is_ordered": False,
        },
    ],
    "objective": "accuracy",
    "generation": {"initialization_budget": 6, "initialization_random_seed": 1, "random_seed": 1},
}


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["ax", "torchx"], doc_md=__doc__)
def tune_digits() -> None:
    loop = ax_trial_loop(
        "tune",
        experiment=EXPERIMENT,
        component=COMPONENT,
        rounds=5,
        trials_per_round=3,
        poke_interval=2,
        timeout=600,
        deferrable=True,
    )
    best = AxBestTrialOperator(task_id="best", experiment_name="digits-{{ run_id }}")

    @task
    def final_fit(best_trial: dict[str, Any]) -> float:
        from apps.digits import held_out_score

        score = held_out_score(best_trial["parameters"])
        print(f"Accuracy on held-out images with {best_trial['parameters']}: {score:.4f}")
        return score

    loop >> best
    final_fit(best.output)


tune_digits()
