"""What a task does when a user has paused or stopped what it is about to start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException

from airflow_provider_axtx.core.errors import ExperimentPausedError, TrialStoppedError

#: Seconds after which a task looks again whether its experiment is still paused.
PAUSED_SECONDS = 20.0


def reschedule_paused(task: BaseOperator, error: ExperimentPausedError) -> AirflowRescheduleException:
    """Return the exception with which Airflow runs the task again later; it holds no worker slot until then."""
    task.log.info("%s This task looks again in %.0f s.", error.message, PAUSED_SECONDS)
    return AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=PAUSED_SECONDS))


@contextmanager
def as_users_want(task: BaseOperator) -> Iterator[None]:
    """Let the task wait while its experiment is paused, and be skipped when its trial was stopped.

    :raises AirflowRescheduleException: while it is paused.
    :raises AirflowSkipException: when it was stopped; the trial is ABANDONED.
    """
    try:
        yield
    except ExperimentPausedError as error:
        raise reschedule_paused(task, error) from error
    except TrialStoppedError as error:
        raise AirflowSkipException(str(error)) from error
