"""Which DAG runs asked for trials: a run that is deleted and created again under its id is another run."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import StoreConflictError
from airflow_provider_axtx.core.keys import dag_run_key
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.store import _trial_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.tables import dag_runs


class DagRunRecords:
    """The part of ``ExperimentStore`` that tells DAG runs of one id apart."""

    _db: Database

    def dag_run_generation(
        self, installation: str, dag_id: str, run_id: str, *, started_at: float, clear_number: int
    ) -> int:
        """Return how often a DAG run of this id was deleted and created again before this one.

        Airflow keeps the start of a DAG run, unless a user clears a run that had ended; then it counts a Clear more.
        A run that started later although it was not cleared since is another run.

        :param started_at: when the DAG run started, in seconds since the epoch.
        :param clear_number: how often users have cleared tasks of it.
        """
        key = dag_run_key(dag_id, run_id, installation)
        row = self._db.read(lambda connection: _row(connection, key))
        if row is not None and (row.started_at, row.clear_number) == (started_at, clear_number):
            return int(row.generation)

        def work(connection: sa.Connection) -> int:
            return _note(connection, key, started_at, clear_number)

        try:
            return self._db.write("dag_run_generation", work)
        except StoreConflictError:
            # Another task of the DAG run inserted the row between our look and our insert; now we see it.
            return self._db.write("dag_run_generation", work)

    def requested_by(self, name: str, index: int) -> TaskIdentity:
        """Return the task that asked for a trial, with the generation of its DAG run; all defaults when none did.

        :raises TrialNotFoundError: when there is no such trial.
        """
        row = self._db.read(lambda connection: _trial_rows.require(connection, name, index))
        return TaskIdentity.from_json(row.requested_by)


def _row(connection: sa.Connection, key: str, *, lock: bool = False) -> sa.Row[Any] | None:
    query = sa.select(dag_runs).where(dag_runs.c.dag_run == key)
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def _note(connection: sa.Connection, key: str, started_at: float, clear_number: int) -> int:
    row = _row(connection, key, lock=True)
    seen = {"started_at": started_at, "clear_number": clear_number}
    if row is None:
        connection.execute(sa.insert(dag_runs).values(dag_run=key, generation=0, **seen))
        return 0
    if started_at < row.started_at:
        # A process that began before the DAG run was deleted and created again, or before a Clear. If it were noted,
        # the next task of the DAG run that runs now would count once more, and end its own apps as a deleted one's.
        return int(row.generation) if clear_number < row.clear_number else max(int(row.generation) - 1, 0)
    is_another_run = row.started_at != started_at and clear_number <= row.clear_number
    generation = int(row.generation) + int(is_another_run)
    connection.execute(sa.update(dag_runs).where(dag_runs.c.dag_run == key).values(generation=generation, **seen))
    return generation
