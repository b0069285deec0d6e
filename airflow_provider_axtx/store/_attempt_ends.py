"""The SQL steps on the end of an attempt, and of its trial. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

import time

import sqlalchemy as sa

from airflow_provider_axtx.core.app_observation import AppObservation, trial_status_of
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import AttemptRecord, TrialEnd, TrialRecord
from airflow_provider_axtx.core.status import TERMINAL_APP_STATES, is_terminal_trial_status
from airflow_provider_axtx.store import _attempt_rows, _trial_rows
from airflow_provider_axtx.store.tables import runs

# Made once: to put a statement together takes as long as to execute it, and a loop executes these for each trial.
_OPEN_RUN = sa.update(runs).where(runs.c.submission_key == sa.bindparam("of_key"), runs.c.finished_at.is_(None))
_LATER = (
    sa.select(runs.c.attempt)
    .where(
        runs.c.experiment == sa.bindparam("name"),
        runs.c.trial_index == sa.bindparam("index"),
        runs.c.attempt > sa.bindparam("number"),
    )
    .limit(1)
)


def end(
    connection: sa.Connection, ended: AttemptRecord, observed: AppObservation, trial_end: TrialEnd | None
) -> tuple[AttemptRecord, TrialRecord]:
    """Finish the attempt and, when its end decides it, the trial; see ``ExperimentStore.end_attempt``."""
    name, index = ended.experiment, ended.trial_index
    attempt = finish_observed(connection, ended.submission_key, observed)
    trial = _trial_rows.require(connection, name, index, lock=True)
    if is_terminal_trial_status(trial.status) or _has_followed(connection, attempt):
        return attempt, _trial_rows.record(trial)
    status = trial_status_of(attempt.app_state or observed.app_state, attempt.cancel_reason)
    if status == "COMPLETED":
        if trial_end is None:
            return attempt, _trial_rows.record(trial)
    else:
        reason = attempt.message or attempt.cancel_reason or f"the app ended as {attempt.app_state}"
        trial_end = TrialEnd(status, reason=reason)
    outcome = _trial_rows.checked_outcome(
        index, trial_end.status, trial_end.observations, trial_end.reason, trial_end.evidence
    )
    return attempt, _trial_rows.complete_locked(connection, trial, outcome, overwrite=False)


def _has_followed(connection: sa.Connection, attempt: AttemptRecord) -> bool:
    """Return whether another attempt of the trial has followed this one."""
    of_attempt = {"name": attempt.experiment, "index": attempt.trial_index, "number": attempt.number}
    return connection.scalar(_LATER, of_attempt) is not None


def finish_observed(connection: sa.Connection, key: str, observed: AppObservation) -> AttemptRecord:
    """Record the app's terminal state, and when it began and ended."""
    return finish(
        connection,
        key,
        observed.app_state,
        observed.message,
        observed.is_infrastructure_failure,
        {"started_at": observed.started_at, "ended_at": observed.ended_at},
    )


def finish(
    connection: sa.Connection,
    key: str,
    app_state: str,
    message: str,
    infrastructure: bool,
    times: dict[str, float | None] | None = None,
) -> AttemptRecord:
    """Record the app's terminal state; the first one stays.

    :param times: ``started_at`` and ``ended_at``, which are recorded in any case; None leaves what is recorded.
    :raises InvalidInputError: for a state that is not terminal.
    """
    if app_state not in TERMINAL_APP_STATES:
        raise InvalidInputError(
            f"A run cannot end in the app state {app_state!r}.",
            fix=f"one of {', '.join(sorted(TERMINAL_APP_STATES))}; anything else means: look again.",
        )
    known = {name: at for name, at in (times or {}).items() if at is not None}
    end = {"app_state": app_state, "message": message, "infrastructure": infrastructure, "finished_at": time.time()}
    ended = connection.execute(_OPEN_RUN, {"of_key": key, **end, **known})
    if ended.rowcount == 0 and known:
        return _attempt_rows.update(connection, key, **known)
    return _attempt_rows.record(_attempt_rows.require(connection, key))
