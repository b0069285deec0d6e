"""The loop that a task runs over an experiment: when it first started, and why it has no further trial."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import StoreConflictError
from airflow_provider_axtx.core.keys import loop_key
from airflow_provider_axtx.core.records import LoopRecord
from airflow_provider_axtx.store import _change_rows, _experiment_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.tables import experiments, loops


class LoopRecords:
    """The part of ``ExperimentStore`` that is about loops."""

    _db: Database

    def loop(self, name: str, task_key: str) -> LoopRecord | None:
        """Return the loop of this task, or None before its first start."""
        return self._db.read(lambda connection: find(connection, name, task_key))

    def loop_of_task(self, task_key: str) -> LoopRecord | None:
        """Return the loop that this task started last, over whichever experiment; None before its first start."""
        query = sa.select(loops).where(loops.c.loop_key == loop_key(task_key)).order_by(loops.c.started_at.desc())
        row = self._db.read(lambda connection: connection.execute(query).first())
        return None if row is None else _record(row)

    def start_loop(
        self, name: str, task_key: str, max_tries: int, definition: dict[str, Any] | None = None
    ) -> LoopRecord:
        """Record that the task starts, or goes on with, its loop. The experiment need not exist yet.

        The time of the first start stays. A retry finds the recorded stop reason; a user's Clear, which changes
        ``max_tries``, and another task take it back: what has been reached is decided anew.

        :param definition: the experiment's definition as this start rendered it.
        """
        row = self._db.read(lambda connection: _row(connection, name, task_key))
        if row is not None and row.max_tries == max_tries:
            return _record(row)

        def work(connection: sa.Connection) -> LoopRecord:
            return _start(connection, name, task_key, max_tries, definition)

        try:
            return self._db.write("start_loop", work)
        except StoreConflictError:
            # Another process of the same task inserted the row between our look and our insert; now we see it.
            return self._db.write("start_loop", work)

    def stop_loop(self, name: str, task_key: str, reason: str, *, seen: int | None = None) -> str | None:
        """Record why the loop, and with it the experiment, has no further trial; the first reason stays.

        :param seen: position of the last change by users on which the decision rests (``Steering.position``). A change
            after it may contradict the reason, and could not take back what was not recorded yet. None asks for none.
        :return: the recorded reason; None when there is such a change, and nothing was recorded.
        """

        def work(connection: sa.Connection) -> str | None:
            if seen is not None and _change_rows.newest_waking(connection, name) > seen:
                return None
            first = (*_is(name, task_key), loops.c.stop_reason.is_(None))
            connection.execute(sa.update(loops).where(*first).values(stop_reason=reason))
            _experiment_rows.finish(connection, name, reason)
            row = _row(connection, name, task_key)
            return reason if row is None else str(row.stop_reason)

        return self._db.write("stop_loop", work)


_LOOP = sa.select(loops).where(loops.c.experiment == sa.bindparam("name"), loops.c.loop_key == sa.bindparam("key"))


def _is(name: str, task_key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return loops.c.experiment == name, loops.c.loop_key == loop_key(task_key)


def find(connection: sa.Connection, name: str, task_key: str) -> LoopRecord | None:
    """Return the loop of a task, or None before its first start."""
    row = _row(connection, name, task_key)
    return None if row is None else _record(row)


def _row(connection: sa.Connection, name: str, task_key: str) -> sa.Row[Any] | None:
    return connection.execute(_LOOP, {"name": name, "key": loop_key(task_key)}).one_or_none()


def _record(row: sa.Row[Any]) -> LoopRecord:
    return LoopRecord(row.started_at, row.stop_reason, row.experiment, row.max_tries, row.definition)


def _start(
    connection: sa.Connection, name: str, task_key: str, max_tries: int, definition: dict[str, Any] | None
) -> LoopRecord:
    row = _row(connection, name, task_key)
    if row is None:
        started_at = time.time()
        row_of_loop = {"experiment": name, "loop_key": loop_key(task_key), "max_tries": max_tries}
        connection.execute(sa.insert(loops).values(**row_of_loop, started_at=started_at, definition=definition))
    elif row.max_tries == max_tries:
        return _record(row)
    else:
        started_at = row.started_at
        again = {"max_tries": max_tries, "stop_reason": None, "definition": definition}
        connection.execute(sa.update(loops).where(*_is(name, task_key)).values(**again))
    resumed = {"stop_reason": None, "stopped_at": None}
    connection.execute(sa.update(experiments).where(experiments.c.name == name).values(**resumed))
    return LoopRecord(started_at, None, name, max_tries, definition)
