"""Tunes the digits classifier on a Slurm cluster: four trials at a time, each with the CPUs of its component.

The DAG needs a connection ``torchx_default`` with the scheduler ``slurm``, its ``job_dir`` and a ``tracker_base`` on
the file system that the cluster shares with Airflow's workers. Several workers also need a connection ``ax_default`` to
PostgreSQL or MySQL. ``docs/schedulers.md`` shows both connections.
"""

from __future__ import annotations

from pathlib import Path

import pendulum
from airflow.sdk import Param, dag

from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

COMPONENT = f"{Path(__file__).parent / 'apps' / 'components.py'}:digits"

EXPERIMENT = {
    "name": "digits-on-slurm-{{ run_id }}",
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
    "generation": {"initialization_budget": 4, "initialization_random_seed": 1, "random_seed": 1},
}


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    tags=["ax", "torchx", "slurm"],
    doc_md=__doc__,
    params={"rounds": Param(4, type="integer", minimum=1, maximum=6)},
)
def tune_on_slurm() -> None:
    loop = ax_trial_loop(
        "tune",
        experiment=EXPERIMENT,
        component=COMPONENT,
        component_args={"cpus": 2},
        scheduler="slurm",
        rounds="{{ params.rounds }}",
        max_rounds=6,
        trials_per_round=4,
        # A dead node or a preempted job says nothing about the parameters, so the trial runs once more.
        trial_retries=1,
        poke_interval=5,
        timeout=3600,
        deferrable=True,
    )
    loop >> AxBestTrialOperator(task_id="best", experiment_name="digits-on-slurm-{{ run_id }}")


tune_on_slurm()
