"""One experiment for each DAG run, until its time is over."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator

APP = str(Path(__file__).parents[1] / "app.py")
FOLDER = os.environ.get("AXTX_SOAK_FOLDER", "/nonexistent")


@dag(schedule=None, params={"seconds": 60}, max_active_runs=10)
def soak() -> None:
    optimize = AxOptimizeOperator(
        task_id="optimize",
        experiment={
            "name": "soak-{{ run_id }}",
            "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [-10.0, 10.0]}],
            "objective": "-loss",
            # The product is under test, not Ax: a model of a growing experiment would take all of the machine.
            "generation": {"method": "random_search"},
        },
        component="axtx.command",
        component_args={"command": [sys.executable, APP, FOLDER, "{tracker_base}", "{x}", "4"]},
        metrics={"loss": {"regex": r"loss=(?P<value>\S+)"}},
        max_trials=1_000_000,
        max_seconds="{{ params.seconds }}",
        parallelism=2,
        trial_retries=1,
        poll_interval=5,
        deferrable=True,
        # Every process is killed again and again.
        retries=1000,
        retry_delay=timedelta(seconds=5),
    )
    optimize >> TorchXReapTrialsOperator(task_id="reap", retries=100).as_teardown(setups=optimize)


soak()
