"""Minimizes the Branin function; each of the five trials is a process."""

from __future__ import annotations

from typing import Annotated

from airflow.sdk import dag, task

from airflow_provider_axtx.decorators import Range


@dag(schedule=None)
def branin() -> None:
    @task.ax_optimize(objective="-branin", max_trials=5, poll_interval=1)
    def tune(x1: Annotated[float, Range(-5.0, 10.0)], x2: Annotated[float, Range(0.0, 15.0)]) -> float:
        import math

        curve = x2 - 5.1 / (4 * math.pi**2) * x1**2 + 5 / math.pi * x1 - 6
        return curve**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x1) + 10

    tune()


branin()
