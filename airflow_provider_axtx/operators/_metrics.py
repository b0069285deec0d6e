"""What operators report through Airflow's stats; the names are in ``docs/metrics.md``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.observability import stats as stats_module

from airflow_provider_axtx.compat import stats_functions

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

stats = stats_functions(stats_module)


def count_trial(operator: BaseOperator, status: str) -> None:
    """Count a trial that this task has settled.

    :param status: its terminal Ax ``TrialStatus`` name.
    """
    stats.incr(f"axtx.trials.{status.lower()}", tags={"dag_id": operator.dag_id})


@contextmanager
def generation_timer(operator: BaseOperator) -> Iterator[None]:
    """Measure how long a request for trials takes, with the import of Ax and the wait for another task's model."""
    with stats.timer("axtx.generation.duration", tags={"dag_id": operator.dag_id}):
        yield
