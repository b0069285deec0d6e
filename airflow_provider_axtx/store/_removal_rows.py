"""Removing an experiment: who uses it, whose files are gone, and its rows at last."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import StoreConflictError, TrialStateError
from airflow_provider_axtx.core.records import CHECKPOINT_REMOVED, FILES_REMOVED_AT, TaskIdentity
from airflow_provider_axtx.core.status import TERMINAL_TRIAL_STATUSES
from airflow_provider_axtx.core.steering import Action
from airflow_provider_axtx.store import _experiment_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.tables import changes, experiments, metadata, runs, trials

#: An attempt without an app handle may still get one from a slow submitter: for so many seconds it counts as live.
_LATE_SUBMISSION_SECONDS = 3600.0


@dataclass(frozen=True)
class ExperimentUse:
    """Who has worked on an experiment, and whether it may be removed.

    :param uid: random id that it was given at its creation.
    :param last_activity_at: when it was created or, later, when a trial last changed its status or a user last asked
        for a change, in seconds since the epoch.
    :param open_because: why it may not be removed now (an open trial, an attempt without a recorded end, a task that
        generates), or None.
    :param tasks: the tasks that created it, asked for its trials or submitted them.
    :param is_to_go: whether a user has asked for it to be deleted.
    """

    uid: str
    last_activity_at: float
    open_because: str | None
    tasks: frozenset[TaskIdentity]
    is_to_go: bool


class RemovalRecords:
    """The part of ``ExperimentStore`` that removes experiments."""

    _db: Database

    def use(self, name: str) -> ExperimentUse:
        """Return who has worked on an experiment, and why it may not be removed, as of one moment."""
        return self._db.read(lambda connection: _use(connection, name))

    def to_be_deleted(self) -> set[str]:
        """Return the names of the experiments whose deletion a user has asked for."""
        return self._db.read(lambda connection: set(connection.scalars(_deletions())))

    def note_files_removed(self, name: str, submission_keys: Collection[str]) -> None:
        """Record that the apps' folders, logs and trackers of ended attempts have been removed.

        Another host, or a later call, then knows that there is nothing left to look for.
        """
        self._db.write(
            "note_files_removed",
            lambda connection: _note_removed(connection, name, set(submission_keys), FILES_REMOVED_AT, time.time()),
        )

    def note_checkpoints_removed(self, name: str, submission_keys: Collection[str]) -> None:
        """Record that the checkpoints of the trials to which these attempts belong have been removed."""
        self._db.write(
            "note_checkpoints_removed",
            lambda connection: _note_removed(connection, name, set(submission_keys), CHECKPOINT_REMOVED, True),
        )

    def delete(self, name: str, uid: str, submission_keys: Collection[str], *, idle_since: float | None = None) -> None:
        """Remove an experiment with all its rows, unless a task uses it. Nothing happens if it is gone already.

        :param uid: its random id. Another experiment that was created under the name since is left alone.
        :param submission_keys: its attempts, whose files have been removed.
        :param idle_since: it must have had no activity since then, in seconds since the epoch.
        :raises TrialStateError: when it has an open trial or a live attempt, or was used after ``idle_since``.
        :raises StoreConflictError: when it has another attempt, whose files are still there.
        """
        self._db.write("delete", lambda connection: _delete(connection, name, uid, set(submission_keys), idle_since))


def _use(connection: sa.Connection, name: str) -> ExperimentUse:
    row = _experiment_rows.require(connection, name)
    identities = ("installation", "dag_id", "run_id", "task_id")
    ran = sa.select(*(runs.c[part] for part in identities)).where(runs.c.experiment == name).distinct()
    asked = sa.select(trials.c.requested_by).where(trials.c.experiment == name).distinct()
    tasks = {TaskIdentity(**found) for found in connection.execute(ran).mappings()}
    tasks |= {TaskIdentity.from_json(found) for found in connection.scalars(asked)}
    return ExperimentUse(
        uid=row.uid,
        last_activity_at=_last_activity_at(connection, row),
        open_because=open_because(connection, row, lock=False),
        tasks=frozenset(tasks | {TaskIdentity.from_json(row.created_by)}),
        is_to_go=connection.scalar(_deletions().where(changes.c.experiment == name)) is not None,
    )


def _deletions() -> sa.Select[tuple[str]]:
    is_open = (changes.c.action == str(Action.DELETE), changes.c.settled_at.is_(None))
    return sa.select(changes.c.experiment).where(*is_open).distinct()


def _last_activity_at(connection: sa.Connection, row: sa.Row[Any]) -> float:
    times = ((trials, trials.c.updated_at), (changes, changes.c.requested_at))
    newest = [connection.scalar(sa.select(sa.func.max(at)).where(of.c.experiment == row.name)) for of, at in times]
    return float(max(row.created_at, *(at or 0.0 for at in newest)))


def open_because(connection: sa.Connection, row: sa.Row[Any], *, lock: bool) -> str | None:
    """Return why an experiment may not be removed, or None.

    :param lock: lock all trials, so that none is opened again, or gets an attempt, before the transaction ends.
    """
    states = sa.select(trials.c.trial_index, trials.c.status).where(trials.c.experiment == row.name)
    states = states.order_by(trials.c.trial_index)
    found = connection.execute(states.with_for_update() if lock else states).all()
    still_open = [one for one in found if one.status not in TERMINAL_TRIAL_STATUSES]
    if still_open:
        first = still_open[0]
        return f"{len(still_open)} of its trials are open, the first is trial {first.trial_index} ({first.status})"
    c = runs.c
    late = sa.and_(c.app_handle.is_(None), c.requested_at > time.time() - _LATE_SUBMISSION_SECONDS)
    live = sa.select(c.trial_index, c.attempt, c.app_handle, c.submission_key).where(
        c.experiment == row.name, sa.or_(c.finished_at.is_(None), late)
    )
    attempt = connection.execute(live.order_by(c.trial_index, c.attempt).limit(1)).one_or_none()
    if attempt is not None:
        app = attempt.app_handle or attempt.submission_key
        return f"attempt {attempt.attempt} of trial {attempt.trial_index} may still run ({app})"
    if row.lease_owner is not None and row.lease_expires_at > time.time():
        return f"a task generates trials for it ({row.lease_owner})"
    return None


def _note_removed(connection: sa.Connection, name: str, keys: set[str], mark: str, value: float) -> None:
    c = runs.c
    query = sa.select(c.submission_key, c.lookup_options).where(c.experiment == name)
    for row in connection.execute(query).all():
        if row.submission_key in keys and mark not in (row.lookup_options or {}):
            options = {**(row.lookup_options or {}), mark: value}
            connection.execute(
                sa.update(runs).where(c.submission_key == row.submission_key).values(lookup_options=options)
            )


def _delete(connection: sa.Connection, name: str, uid: str, keys: set[str], idle_since: float | None) -> None:
    e = experiments.c
    # A generating task updates this row first: it waits for the end of this transaction, and then finds the row gone.
    row = connection.execute(sa.select(experiments).where(e.name == name).with_for_update()).one_or_none()
    if row is None or row.uid != uid:
        return
    reason = open_because(connection, row, lock=True)
    if reason is None and idle_since is not None and _last_activity_at(connection, row) > idle_since:
        reason = "it has been used again meanwhile"
    if reason is not None:
        raise TrialStateError(
            f"The experiment {name!r} cannot be removed: {reason}.",
            fix="wait until its tasks have ended, or end what they have left behind with 'airflow ax reap'.",
        )
    others = set(connection.scalars(sa.select(runs.c.submission_key).where(runs.c.experiment == name))) - keys
    if others:
        raise StoreConflictError(
            f"The experiment {name!r} has got other attempts meanwhile: {', '.join(sorted(others)[:3])}.",
            fix="remove their files and try again.",
        )
    for table in reversed(metadata.sorted_tables):
        if "experiment" in table.c:
            connection.execute(sa.delete(table).where(table.c.experiment == name))
    connection.execute(sa.delete(experiments).where(e.name == name))
