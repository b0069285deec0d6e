"""The SQL steps on trials. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

import functools
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
from airflow_provider_axtx.core.keys import dag_run_of, request_key
from airflow_provider_axtx.core.output_line import without_line
from airflow_provider_axtx.core.records import Observation, OpenTrial, Proposal, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import (
    TERMINAL_TRIAL_STATUSES,
    TRIAL_STATUSES,
    is_terminal_trial_status,
    moves_forward,
)
from airflow_provider_axtx.core.steering import Action
from airflow_provider_axtx.store import _experiment_rows, _observation_rows
from airflow_provider_axtx.store.tables import KEY_LENGTH, changes, experiments, trials

#: Request keys looked up at once at first; a task seldom asks for more trials.
_KEYS_AT_ONCE = 10
_MOST_KEYS_AT_ONCE = 800
_OPEN = tuple(sorted(TRIAL_STATUSES - TERMINAL_TRIAL_STATUSES))
_BEFORE_RUNNING = tuple(sorted(status for status in TRIAL_STATUSES if moves_forward(status, "RUNNING")))
_REOPENABLE = frozenset({"FAILED", "ABANDONED"})


#: The columns of a ``TrialRecord`` in the order of its fields.
_RECORD = (
    trials.c.trial_index,
    trials.c.arm_name,
    trials.c.parameters,
    trials.c.status,
    trials.c.generation_node,
    trials.c.generation,
    trials.c.origin,
    trials.c.reason,
)


# Made once: to put a statement together takes as long as to execute it.
_NAME: sa.BindParameter[str] = sa.bindparam("name")
_INDEX: sa.BindParameter[int] = sa.bindparam("index")
_TRIAL = sa.select(trials).where(trials.c.experiment == _NAME, trials.c.trial_index == _INDEX)
_LOCKED_TRIAL = _TRIAL.with_for_update()
_INDEXES: sa.BindParameter[Any] = sa.bindparam("indexes", expanding=True)
_RECORDS = sa.select(*_RECORD).where(trials.c.experiment == _NAME, trials.c.trial_index.in_(_INDEXES))
_OPEN_RECORDS = sa.select(*_RECORD).where(trials.c.experiment == _NAME, trials.c.status.in_(_OPEN))
_CHANGE = sa.update(trials).where(trials.c.experiment == _NAME, trials.c.trial_index == _INDEX)
_COME_TO_RUN = _CHANGE.where(trials.c.status.in_(_BEFORE_RUNNING))


@functools.cache
def _by_keys(*columns: sa.Column[Any]) -> sa.Select[Any]:
    keys: sa.BindParameter[Any] = sa.bindparam("keys", expanding=True)
    return sa.select(*columns).where(trials.c.experiment == _NAME, trials.c.request_key.in_(keys))


@dataclass(frozen=True)
class Outcome:
    """How a trial ends, checked; ``observations`` in the order in which they are kept."""

    status: str
    observations: tuple[Observation, ...]
    reason: str | None
    evidence: dict[str, Any] | None


def record(row: sa.Row[Any]) -> TrialRecord:
    """Return the row as plain data."""
    return TrialRecord(
        index=row.trial_index,
        arm_name=row.arm_name,
        parameters=row.parameters,
        status=row.status,
        generation_node=row.generation_node,
        generation=row.generation,
        origin=row.origin,
        reason=row.reason,
    )


def all_records(connection: sa.Connection, name: str) -> tuple[TrialRecord, ...]:
    """Return the experiment's trials in order of their index."""
    query = sa.select(*_RECORD).where(trials.c.experiment == name).order_by(trials.c.trial_index)
    # All at once: fetching single rows takes twice as long, which counts in an experiment of many thousand trials.
    return tuple(TrialRecord(*row) for row in connection.execute(query).all())


def records_of(connection: sa.Connection, name: str, indexes: Collection[int] | None = None) -> list[TrialRecord]:
    """Return the trials with these indexes, as many as one statement may name; None are those that have not ended."""
    if indexes is None:
        rows = connection.execute(_OPEN_RECORDS, {"name": name})
    else:
        rows = connection.execute(_RECORDS, {"name": name, "indexes": list(indexes)})
    return [TrialRecord(*row) for row in rows]


def require(connection: sa.Connection, name: str, index: int, *, lock: bool = False) -> sa.Row[Any]:
    """Return the trial's row, locked against other writers on request.

    :raises ExperimentNotFoundError: when there is no such experiment.
    :raises TrialNotFoundError: when it has no such trial.
    """
    row = connection.execute(_LOCKED_TRIAL if lock else _TRIAL, {"name": name, "index": index}).one_or_none()
    if row is None:
        _experiment_rows.require(connection, name)
        raise TrialNotFoundError(
            f"The experiment {name!r} has no trial {index}.",
            fix="pass the index of one of its trials; a task passes the trial as it came from the generate task.",
        )
    return row


def granted(connection: sa.Connection, name: str, task: str, *, first: int = 0) -> list[TrialRecord]:
    """Return the trials that the task has got already, from slot ``first`` on, up to the first free slot."""
    return [record(row) for row in granted_rows(connection, name, task, first, tuple(trials.c))]


def granted_rows(
    connection: sa.Connection, name: str, task: str, first: int, columns: Sequence[sa.Column[Any]]
) -> list[sa.Row[Any]]:
    """Return the same as rows of some columns, ``request_key`` among them."""
    found: list[sa.Row[Any]] = []
    while True:
        # More at once the more there are: a long loop has many thousands.
        number = min(max(_KEYS_AT_ONCE, len(found)), _MOST_KEYS_AT_ONCE)
        keys = [request_key(task, first + len(found) + ahead) for ahead in range(number)]
        rows = connection.execute(_by_keys(*columns), {"name": name, "keys": keys})
        by_key = {row.request_key: row for row in rows}
        for key in keys:
            if key not in by_key:
                return found
            found.append(by_key[key])


def add(
    connection: sa.Connection,
    name: str,
    proposal: Proposal,
    task: str,
    first_slot: int,
    expected_version: int,
    requested_by: TaskIdentity | None,
    planned_trials: int | None = None,
) -> list[TrialRecord]:
    """Insert the proposed trials if the experiment's version is the expected one; see ``ExperimentStore``."""
    c = experiments.c
    swap: dict[str, Any] = {
        "version": expected_version + 1,
        "generator_state": proposal.generator_state,
        # Only its own: when it has expired meanwhile, another task may hold it.
        "lease_owner": sa.case((c.lease_owner == task[-KEY_LENGTH:], sa.null()), else_=c.lease_owner),
    }
    if planned_trials is not None:
        swap["planned_trials"] = planned_trials
    # The UPDATE both compares and locks the row: who comes second waits, then sees the new version.
    swapped = connection.execute(
        sa.update(experiments).where(c.name == name, c.version == expected_version).values(**swap)
    )
    if swapped.rowcount == 0:
        return _already_added(connection, name, proposal, task, first_slot, expected_version)
    newest = connection.scalar(sa.select(sa.func.max(trials.c.trial_index)).where(trials.c.experiment == name))
    start, now = 0 if newest is None else newest + 1, time.time()
    rows = [
        {
            "experiment": name,
            "trial_index": start + offset,
            "arm_name": proposed.arm_name,
            "parameters": proposed.parameters,
            "status": "CANDIDATE" if proposed.results is None else "COMPLETED",
            "generation_node": proposed.generation_node,
            "generation": proposed.generation,
            "origin": proposed.origin,
            "request_key": request_key(task, first_slot + offset),
            "dag_run": dag_run_of(task),
            "requested_by": None if requested_by is None else requested_by.to_json(),
            "created_at": now,
            "updated_at": now,
            "completed_at": None if proposed.results is None else now,
        }
        for offset, proposed in enumerate(proposal.trials)
    ]
    connection.execute(sa.insert(trials), rows)
    for index, proposed in enumerate(proposal.trials, start):
        results = [Observation(index, metric, mean, sem) for metric, (mean, sem) in (proposed.results or {}).items()]
        _observation_rows.insert(connection, name, index, _observation_rows.checked(index, results), first=0)
    return granted(connection, name, task, first=first_slot)[: len(rows)]


def _already_added(
    connection: sa.Connection, name: str, proposal: Proposal, task: str, first_slot: int, expected_version: int
) -> list[TrialRecord]:
    """Return what an earlier call under the same request keys has added.

    That call may be our own (its commit went through although the connection broke), or the same task's, run twice.
    """
    found = granted(connection, name, task, first=first_slot)[: len(proposal.trials)]
    if len(found) == len(proposal.trials):
        return found
    version = _experiment_rows.require(connection, name, experiments.c.version).version
    raise StoreConflictError(
        f"The experiment {name!r} has got other trials meanwhile (version {version}, expected {expected_version}).",
        fix="read its facts again and propose anew.",
    )


def checked_outcome(
    index: int, status: str, given: Sequence[Observation], reason: str | None, evidence: dict[str, Any] | None
) -> Outcome:
    """Return the outcome with its observations in order.

    :raises InvalidInputError: for a status that is not terminal, and for observations that cannot be kept.
    """
    if status not in TERMINAL_TRIAL_STATUSES:
        raise InvalidInputError(
            f"A trial cannot be completed with status {status!r}.",
            fix=f"one of {', '.join(sorted(TERMINAL_TRIAL_STATUSES))}.",
        )
    return Outcome(status, _observation_rows.checked(index, given), reason, evidence)


def complete(connection: sa.Connection, name: str, index: int, outcome: Outcome, *, overwrite: bool) -> TrialRecord:
    """Record the outcome; see ``ExperimentStore``."""
    return complete_locked(connection, require(connection, name, index, lock=True), outcome, overwrite=overwrite)


def complete_locked(connection: sa.Connection, row: sa.Row[Any], outcome: Outcome, *, overwrite: bool) -> TrialRecord:
    """Record the outcome of a (locked) trial."""
    name, index = row.experiment, row.trial_index
    recorded = _observation_rows.observed(connection, name, index)
    if is_terminal_trial_status(row.status) and not overwrite:
        if row.status == outcome.status and _says_the_same(recorded, outcome.observations):
            return record(row)
        raise TrialStateError(
            f"Trial {index} of {name!r} is {row.status} already and cannot become {outcome.status} with other results.",
            fix="leave it, or pass overwrite=True if the recorded outcome is wrong.",
        )
    now = time.time()
    values: dict[str, Any] = {
        "status": outcome.status,
        "reason": outcome.reason,
        "updated_at": now,
        "completed_at": now,
    }
    if outcome.evidence is not None:
        values["evidence"] = outcome.evidence
    _update(connection, row, values)
    given = {(o.metric, o.step) for o in outcome.observations}
    steps = [o for o in recorded if o.step is not None and (o.metric, o.step) not in given]
    if recorded:
        _observation_rows.replace_all(connection, row, [*steps, *outcome.observations])
    else:
        _observation_rows.insert(connection, name, index, outcome.observations, first=0)
    if outcome.reason is None:
        return replace(record(row), status=outcome.status, reason=None)
    return record(require(connection, name, index))  # text that no database could keep was replaced


def _says_the_same(recorded: Sequence[Observation], given: Sequence[Observation]) -> bool:
    """Return whether a terminal trial's outcome is given again: its final values, and no step that is not recorded."""
    final = [[o for o in part if o.step is None] for part in (recorded, given)]
    return final[0] == final[1] and set(given) <= set(recorded)


def add_progress(connection: sa.Connection, name: str, index: int, given: Sequence[Observation]) -> None:
    """Insert the steps that are not recorded yet; see ``ExperimentStore.record_progress``."""
    row = require(connection, name, index, lock=True)
    if is_terminal_trial_status(row.status):
        return
    recorded = _observation_rows.observed(connection, name, index)
    known = {(o.metric, o.step) for o in recorded}
    new = [o for o in given if (o.metric, o.step) not in known]
    _observation_rows.insert(connection, name, index, new, first=len(recorded))


def stage(connection: sa.Connection, row: sa.Row[Any], reopen_reason: str | None, *, is_promoted: bool = False) -> None:
    """Move the (locked) trial to STAGED for another attempt; RUNNING stays, because a status never moves backwards.

    :param is_promoted: an EARLY_STOPPED trial goes on; what it has measured stays.
    :raises TrialStateError: when it is terminal and may not be reopened.
    """
    if not is_terminal_trial_status(row.status):
        if moves_forward(row.status, "STAGED"):
            _update(connection, row, {"status": "STAGED", "updated_at": time.time()})
        return
    if is_promoted and row.status == "EARLY_STOPPED":
        _update(connection, row, {"status": "STAGED", "reason": None, "completed_at": None, "updated_at": time.time()})
        return
    if reopen_reason is None or row.status not in _REOPENABLE:
        raise TrialStateError(
            f"Trial {row.trial_index} of {row.experiment!r} is {row.status} and cannot be run again.",
            fix="generate another trial; only a FAILED or ABANDONED one can be reopened, with a reason.",
        )
    reopen(connection, row, reopen_reason, "STAGED")


def reopen(connection: sa.Connection, row: sa.Row[Any], why: str, status: str = "CANDIDATE") -> None:
    """Let a (locked) terminal trial run again: its observations go, and so does what was asked about its end."""
    was = f"{row.status}: {without_line(row.reason)}" if row.reason else row.status
    again = {"status": status, "reason": f"reopened (was {was}): {why}", "completed_at": None}
    _update(connection, row, {**again, "updated_at": time.time()})
    _observation_rows.replace_all(connection, row, ())
    c = changes.c
    stops = (c.experiment == row.experiment, c.trial_index == row.trial_index, c.action == str(Action.STOP_TRIAL))
    over = {"settled_at": time.time(), "outcome": f"trial {row.trial_index} was {row.status}, and runs again"}
    connection.execute(sa.update(changes).where(*stops, c.settled_at.is_(None)).values(**over))


def set_running(connection: sa.Connection, name: str, index: int) -> None:
    """Move the trial to RUNNING if it has not come that far yet."""
    running = {"name": name, "index": index, "status": "RUNNING", "updated_at": time.time()}
    connection.execute(_COME_TO_RUN, running)


def _update(connection: sa.Connection, row: sa.Row[Any], values: dict[str, Any]) -> None:
    connection.execute(_CHANGE, {"name": row.experiment, "index": row.trial_index, **values})


def unsettled(connection: sa.Connection, dag_run: str | None, experiment: str | None) -> list[OpenTrial]:
    """Return the trials that have not ended, of a DAG run, of an experiment, or all."""
    c = trials.c
    query = sa.select(c.experiment, c.trial_index, c.dag_run, c.requested_by).where(c.status.in_(_OPEN))
    for column, value in ((c.dag_run, dag_run), (c.experiment, experiment)):
        if value is not None:
            query = query.where(column == value)
    found = connection.execute(query.order_by(c.experiment, c.trial_index))
    return [
        OpenTrial(row.experiment, row.trial_index, row.dag_run or "", TaskIdentity.from_json(row.requested_by))
        for row in found
    ]
