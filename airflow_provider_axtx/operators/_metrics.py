"""What operators report through Airflow's stats; the names are in ``docs/metrics.md``."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.observability import stats as stats_module

from airflow_provider_axtx.compat import stats_functions
from airflow_provider_axtx.core.usage import usage_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.core.usage import Usage

stats = stats_functions(stats_module)


def count_trial(operator: BaseOperator, status: str) -> None:
    """Count a trial that this task has settled.

    :param status: its terminal Ax ``TrialStatus`` name.
    """
    stats.incr(f"axtx.trials.{status.lower()}", tags={"dag_id": operator.dag_id})


def count_usage(operator: BaseOperator, attempts: Sequence[AttemptRecord]) -> Usage:
    """Count what the attempts of a trial that has ended have used.

    :return: the same in hours.
    """
    used = usage_of(attempts, time.time())
    figures = {
        "cpu_seconds": used.cpu * 3600,
        "gpu_seconds": used.gpu * 3600,
        "cost_hundredths": 100 * (used.cost or 0),
    }
    for name, figure in figures.items():
        if count := _whole(figure, name, attempts):
            stats.incr(f"axtx.{name}", count, tags={"dag_id": operator.dag_id})
    return used


def _whole(figure: float, name: str, attempts: Sequence[AttemptRecord]) -> int:
    """Return a figure as a whole number: counters count in whole ones.

    It is rounded up for as many trials as its fraction says, chosen by a checksum. If each were rounded to the nearest
    number, trials of a fraction of a second or of a cent would never count.
    """
    key = " ".join([name, *(attempt.submission_key for attempt in attempts)])
    return math.floor(figure + zlib.crc32(key.encode()) / 2**32)


@contextmanager
def generation_timer(operator: BaseOperator) -> Iterator[None]:
    """Measure how long a request for trials takes, with the import of Ax and the wait for another task's model."""
    with stats.timer("axtx.generation.duration", tags={"dag_id": operator.dag_id}):
        yield
