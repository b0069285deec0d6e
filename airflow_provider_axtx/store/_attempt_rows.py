"""The SQL steps on the attempts of a trial. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import (
    InvalidInputError,
    StoreConflictError,
    TrialNotFoundError,
    TrialStateError,
)
from airflow_provider_axtx.core.keys import attempt_tracker_base, submission_key
from airflow_provider_axtx.core.records import AttemptRecord, FirstAttempt, TaskIdentity
from airflow_provider_axtx.store import _experiment_rows, _trial_rows
from airflow_provider_axtx.store.tables import experiments, runs, trials


@dataclass(frozen=True)
class NewAttempt:
    """What a caller asks for; ``claim`` is a random token by which a repeated call recognises its own row."""

    claim: str
    scheduler: str
    tracker_base: str | None
    tracker_root: str | None
    identity: TaskIdentity
    expected_attempt: int | None
    reopen_reason: str | None
    cpus: int = 0
    gpus: int = 0
    lookup_options: dict[str, Any] | None = None
    host: str | None = None
    is_promoted: bool = False


# Made once: to put a statement together takes as long as to execute it, and a loop executes these for each trial.
_KEY: sa.BindParameter[str] = sa.bindparam("of_key")
_NEW_HANDLE = sa.update(runs).where(
    runs.c.submission_key == _KEY, runs.c.app_handle.is_(None), runs.c.finished_at.is_(None)
)
_NEW_START = sa.update(runs).where(runs.c.submission_key == _KEY, runs.c.started_at.is_(None))
_NEW_ROW = sa.insert(runs)
_RUN = sa.select(runs).where(runs.c.submission_key == _KEY)
_LOCKED_RUN = _RUN.with_for_update()
_CANDIDATES = sa.update(trials).where(
    trials.c.experiment == sa.bindparam("name"),
    trials.c.trial_index.in_(sa.bindparam("indexes", expanding=True)),
    trials.c.status == "CANDIDATE",
)


def record(row: sa.Row[Any]) -> AttemptRecord:
    """Return the row as plain data."""
    return AttemptRecord(
        experiment=row.experiment,
        trial_index=row.trial_index,
        number=row.attempt,
        submission_key=row.submission_key,
        scheduler=row.scheduler,
        tracker_base=row.tracker_base,
        requested_at=row.requested_at,
        identity=TaskIdentity(
            dag_id=row.dag_id,
            run_id=row.run_id,
            task_id=row.task_id,
            map_index=row.map_index,
            try_number=row.try_number,
            max_tries=row.max_tries,
            torchx_conn_id=row.torchx_conn_id,
            installation=row.installation,
        ),
        app_handle=row.app_handle,
        submitted_at=row.submitted_at,
        finished_at=row.finished_at,
        cancel_requested_at=row.cancel_requested_at,
        cancel_reason=row.cancel_reason,
        app_state=row.app_state,
        message=row.message,
        unseen_polls=row.unseen_polls,
        is_infrastructure_failure=row.infrastructure,
        cpus=row.cpus,
        gpus=row.gpus,
        lookup_options=row.lookup_options,
        host=row.host,
        started_at=row.started_at,
        ended_at=row.ended_at,
        poll_failures=row.poll_failures,
    )


def select(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the query for runs that meet all conditions, in order of experiment, trial and attempt."""
    return sa.select(runs).where(*conditions).order_by(runs.c.experiment, runs.c.trial_index, runs.c.attempt)


_OF_KEYS = select(runs.c.submission_key.in_(sa.bindparam("keys", expanding=True)))
_OF_TRIAL = select(runs.c.experiment == sa.bindparam("name"), runs.c.trial_index == sa.bindparam("index"))


def of_trial(connection: sa.Connection, name: str, index: int) -> list[sa.Row[Any]]:
    """Return the trial's runs in order of their attempt."""
    return list(connection.execute(_OF_TRIAL, {"name": name, "index": index}))


def attempt(connection: sa.Connection, name: str, index: int, number: int) -> AttemptRecord:
    """Return one attempt of the trial.

    :raises TrialNotFoundError: when there is no such run.
    """
    for row in of_trial(connection, name, index):
        if row.attempt == number:
            return record(row)
    _experiment_rows.require(connection, name)
    raise TrialNotFoundError(
        f"Trial {index} of experiment {name!r} has no attempt {number}.",
        fix="pass the run as it came from the submit task, and the ax_conn_id of the store that it used.",
    )


def unfinished(
    experiment: str | None, dag_id: str | None, run_id: str | None, installation: str | None
) -> sa.Select[Any]:
    """Return the query for attempts without a recorded end; None matches everything."""
    c = runs.c
    wanted = ((c.experiment, experiment), (c.dag_id, dag_id), (c.run_id, run_id), (c.installation, installation))
    return select(c.finished_at.is_(None), *(column == value for column, value in wanted if value is not None))


def require(connection: sa.Connection, key: str, *, lock: bool = False) -> sa.Row[Any]:
    """Return the run with this submission key, locked against other writers on request.

    :raises TrialNotFoundError: when there is none.
    """
    row = connection.execute(_LOCKED_RUN if lock else _RUN, {"of_key": key}).one_or_none()
    if row is None:
        raise TrialNotFoundError(
            f"The store has no run with the submission key {key!r}.", fix="pass a run that begin_attempt returned."
        )
    return row


def update(connection: sa.Connection, key: str, *conditions: sa.ColumnElement[bool], **values: Any) -> AttemptRecord:
    """Update the run where the conditions hold; return it as it is afterwards."""
    connection.execute(sa.update(runs).where(runs.c.submission_key == key, *conditions).values(**values))
    return record(require(connection, key))


def begin(connection: sa.Connection, name: str, index: int, new: NewAttempt) -> AttemptRecord:
    """Insert the write-ahead row of the trial's next attempt; see ``ExperimentStore``."""
    # The lock makes two beginners take turns, and keeps the trial from being completed between our look and our insert.
    trial = _trial_rows.require(connection, name, index, lock=True)
    earlier = of_trial(connection, name, index)
    for row in earlier:
        if row.claim == new.claim:
            return record(row)  # our own earlier call, whose commit went through although the connection broke
    attempt = earlier[-1].attempt + 1 if earlier else 1
    _check_attempt(trial, earlier, attempt, new.expected_attempt)
    _trial_rows.stage(connection, trial, new.reopen_reason, is_promoted=new.is_promoted)
    uid = _experiment_rows.require(connection, name, experiments.c.uid).uid
    key = submission_key(name, uid, index, attempt)
    new = replace(new, tracker_base=_tracker_base(new, name, uid, index, attempt))
    connection.execute(sa.insert(runs).values(**_row(name, uid, index, attempt, new)))
    return record(require(connection, key))


def begin_first(
    connection: sa.Connection, name: str, first: Sequence[FirstAttempt], common: NewAttempt
) -> list[AttemptRecord]:
    """Insert the write-ahead rows of several trials' first attempts; see ``ExperimentStore``."""
    indexes = [one.trial_index for one in first]
    of_these = (runs.c.experiment == name, runs.c.trial_index.in_(indexes))
    by_index: dict[int, int] = {index: place for place, index in enumerate(indexes)}
    # Locks the trials, as ``begin`` does.
    staged = _stage_candidates(connection, name, indexes)
    if staged < len(indexes):
        known = [record(row) for row in connection.execute(select(*of_these, runs.c.claim == common.claim))]
        if len(known) == len(indexes):
            # Our own earlier call, whose commit went through although the connection broke.
            return sorted(known, key=lambda one: by_index[one.trial_index])
        raise StoreConflictError(
            f"Of the trials {indexes} of {name!r}, only {staged} still wait for their first attempt.",
            fix="read them again.",
        )
    uid = _experiment_rows.require(connection, name, experiments.c.uid).uid
    rows = [
        _row(
            *(name, uid, one.trial_index, 1),
            replace(common, tracker_base=one.tracker_base, cpus=one.cpus, gpus=one.gpus),
        )
        for one in first
    ]
    # A candidate that is to run again has an attempt already: the primary key refuses its first one.
    connection.execute(_NEW_ROW, rows)
    begun = _of_keys(connection, [row["submission_key"] for row in rows])
    return sorted(begun, key=lambda one: by_index[one.trial_index])


def _stage_candidates(connection: sa.Connection, name: str, indexes: Collection[int]) -> int:
    """Move those of these trials that are CANDIDATE to STAGED, and lock them; return how many there were."""
    staged = {"name": name, "indexes": list(indexes), "status": "STAGED", "updated_at": time.time()}
    return int(connection.execute(_CANDIDATES, staged).rowcount)


def _row(name: str, uid: str, index: int, attempt: int, new: NewAttempt) -> dict[str, Any]:
    identity = new.identity
    return {
        "experiment": name,
        "trial_index": index,
        "attempt": attempt,
        "submission_key": submission_key(name, uid, index, attempt),
        "claim": new.claim,
        "scheduler": new.scheduler,
        "tracker_base": new.tracker_base,
        "requested_at": time.time(),
        "unseen_polls": 0,
        "infrastructure": False,
        "cpus": new.cpus,
        "gpus": new.gpus,
        "dag_id": identity.dag_id,
        "run_id": identity.run_id,
        "task_id": identity.task_id,
        "map_index": identity.map_index,
        "try_number": identity.try_number,
        "max_tries": identity.max_tries,
        "torchx_conn_id": identity.torchx_conn_id,
        "installation": identity.installation,
        "lookup_options": new.lookup_options,
        "host": new.host,
        "poll_failures": 0,
    }


def _tracker_base(new: NewAttempt, name: str, uid: str, index: int, attempt: int) -> str:
    if new.tracker_base is not None:
        return new.tracker_base
    if new.tracker_root is not None:
        return attempt_tracker_base(new.tracker_root, name, uid, index, attempt)
    raise InvalidInputError(
        f"Trial {index} of {name!r} has no place for its results.", fix="pass tracker_base or tracker_root."
    )


def _check_attempt(trial: sa.Row[Any], earlier: list[sa.Row[Any]], attempt: int, expected: int | None) -> None:
    which = f"trial {trial.trial_index} of {trial.experiment!r}"
    if expected is not None and expected != attempt:
        raise StoreConflictError(
            f"The next attempt of {which} is {attempt}, not {expected}: another process was first.",
            fix="read its latest run again and attach to that.",
        )
    if earlier and earlier[-1].finished_at is None:
        last = earlier[-1]
        raise TrialStateError(
            f"Attempt {last.attempt} of {which} has not ended ({last.app_handle or last.submission_key}).",
            fix="attach to it, or cancel it and record its end before the next attempt.",
        )


def record_handles(connection: sa.Connection, submitted: Sequence[tuple[AttemptRecord, str]]) -> list[AttemptRecord]:
    """Record the scheduler's answers; see ``ExperimentStore``."""
    for attempt, app_handle in submitted:
        key = attempt.submission_key
        new = {"of_key": key, "app_handle": app_handle, "submitted_at": time.time()}
        if connection.execute(_NEW_HANDLE, new).rowcount:
            _trial_rows.set_running(connection, attempt.experiment, attempt.trial_index)
        else:
            record_handle(connection, key, app_handle)
    return _of_keys(connection, [attempt.submission_key for attempt, _ in submitted])


def note_started(connection: sa.Connection, started: Sequence[tuple[AttemptRecord, float]]) -> list[AttemptRecord]:
    """Record when apps began to run; the first time stays."""
    for attempt, at in started:
        connection.execute(_NEW_START, {"of_key": attempt.submission_key, "started_at": at})
    return _of_keys(connection, [attempt.submission_key for attempt, _ in started])


def _of_keys(connection: sa.Connection, keys: Sequence[str]) -> list[AttemptRecord]:
    """Return the runs with these submission keys, in their order."""
    rows = connection.execute(_OF_KEYS, {"keys": list(keys)})
    found = {row.submission_key: record(row) for row in rows}
    return [found[key] for key in keys]


def record_handle(connection: sa.Connection, key: str, app_handle: str) -> AttemptRecord:
    """Record the scheduler's answer; see ``ExperimentStore``."""
    row = require(connection, key, lock=True)
    if row.app_handle == app_handle:
        return record(row)
    if row.app_handle is not None:
        raise TrialStateError(
            f"Attempt {row.attempt} of trial {row.trial_index} of {row.experiment!r} has the app {row.app_handle!r} "
            f"already, not {app_handle!r}.",
            fix="cancel the app that was submitted second.",
        )
    now = time.time()
    if row.finished_at is None:
        _trial_rows.set_running(connection, row.experiment, row.trial_index)
        return update(connection, key, app_handle=app_handle, submitted_at=now)
    # The run was ended as "never submitted" while its submitter was only slow. The app exists now, and a run that
    # counts as finished is looked after by nobody: open it again, to be cancelled.
    reason = row.cancel_reason or f"submitted after the run had been ended ({row.message or row.app_state})"
    return update(
        connection,
        key,
        app_handle=app_handle,
        submitted_at=now,
        finished_at=None,
        app_state=None,
        infrastructure=False,
        cancel_requested_at=row.cancel_requested_at or now,
        cancel_reason=reason,
    )


def request_cancel(connection: sa.Connection, key: str, reason: str) -> AttemptRecord:
    """Record the intent to cancel, once and only while the run has not ended."""
    still_wanted = (runs.c.finished_at.is_(None), runs.c.cancel_requested_at.is_(None))
    return update(connection, key, *still_wanted, cancel_requested_at=time.time(), cancel_reason=reason)


def unseen_polls(connection: sa.Connection, key: str) -> int:
    """Return the number of consecutive polls in which the scheduler did not know the app."""
    return int(require(connection, key).unseen_polls)


def set_unseen_polls(connection: sa.Connection, key: str, polls: int) -> int:
    """Record that number."""
    return update(connection, key, unseen_polls=polls).unseen_polls


def pass_to_try(connection: sa.Connection, key: str, identity: TaskIdentity) -> AttemptRecord:
    """Record the later try of the same task that goes on with the attempt; see ``ExperimentStore``."""
    return update(connection, key, runs.c.try_number < identity.try_number, try_number=identity.try_number)


def poll_failures(connection: sa.Connection, key: str) -> int:
    """Return the number of consecutive polls that the scheduler has not answered."""
    return int(require(connection, key).poll_failures)


def set_poll_failures(connection: sa.Connection, key: str, failures: int) -> int:
    """Record that number."""
    return update(connection, key, poll_failures=failures).poll_failures
