"""``poll_interval`` and ``poke_interval`` are one argument of every task that waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import BOOTH


def optimize(**given: Any) -> float:
    task = AxOptimizeOperator(task_id="o", experiment=BOOTH, component="utils.booth", max_trials=1, **given)
    return float(task.poll_interval)


def sensor(**given: Any) -> float:
    return float(TorchXTrialSensor(task_id="s", run="{{ x }}", **given).poke_interval)


def run(**given: Any) -> float:
    return float(TorchXRunTrialOperator(task_id="r", trial="{{ x }}", component="utils.booth", **given).poke_interval)


def loop(**given: Any) -> float:
    with DAG("loop", schedule=None) as dag:
        ax_trial_loop("tune", experiment=BOOTH, component="utils.booth", rounds=1, **given)
    task: Any = dag.get_task("tune.round_0.run")
    return float(task.partial_kwargs["poke_interval"] if hasattr(task, "partial_kwargs") else task.poke_interval)


@pytest.mark.parametrize("waiting", [optimize, sensor, run, loop])
def test_both_names_are_taken(waiting: Any) -> None:
    assert waiting() == 10.0
    assert waiting(poll_interval=3) == waiting(poke_interval=3) == 3.0
    assert waiting(poll_interval=timedelta(seconds=3), poke_interval=3) == 3.0
    with pytest.raises(InvalidInputError, match="which is the same argument"):
        waiting(poll_interval=3, poke_interval=4)
