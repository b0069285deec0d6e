"""Reads what a step of a loop needs, in one transaction whose cost does not grow with the trials that have ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import sqlalchemy as sa

from airflow_provider_axtx.core.loop_facts import AttemptSpan, EndedTrial, LoopFacts
from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity
from airflow_provider_axtx.core.status import TERMINAL_TRIAL_STATUSES
from airflow_provider_axtx.core.steering import Steering
from airflow_provider_axtx.store import _attempt_rows, _change_rows, _experiment_rows, _loop_rows, _trial_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.tables import experiments, runs, trials

#: Indexes in one statement; databases limit the number of parameters.
_INDEXES_AT_ONCE = 500

_LIGHT = (trials.c.request_key, trials.c.trial_index, trials.c.status, trials.c.reason)
# Made once: to put a statement together takes as long as to execute it, and a loop reads these in each step.
_NAME: sa.BindParameter[str] = sa.bindparam("name")
_COUNTED = (
    sa.select(trials.c.status, sa.func.count().label("number"))
    .where(trials.c.experiment == _NAME)
    .group_by(trials.c.status)
)
_UNFINISHED = sa.select(runs.c.trial_index).where(runs.c.finished_at.is_(None), runs.c.experiment == _NAME)
_ATTEMPTS = _attempt_rows.select(
    runs.c.experiment == _NAME, runs.c.trial_index.in_(sa.bindparam("indexes", expanding=True))
)
_ASKED_BY = sa.select(trials.c.trial_index, trials.c.requested_by).where(
    trials.c.experiment == _NAME, trials.c.trial_index.in_(sa.bindparam("indexes", expanding=True))
)
_SPANS = sa.select(
    runs.c.trial_index,
    runs.c.submitted_at,
    runs.c.started_at,
    runs.c.ended_at,
    runs.c.finished_at,
    runs.c.cpus,
    runs.c.gpus,
    runs.c.lookup_options,
).where(runs.c.experiment == _NAME)


class LoopFactRecords:
    """The part of ``ExperimentStore`` that a step of a loop reads."""

    _db: Database

    def loop_facts(
        self,
        name: str,
        task_key: str,
        *,
        known_slots: int = 0,
        asked: Collection[int] = (),
        asked_reason: str | None = None,
    ) -> LoopFacts:
        """Return what a step of the task's loop needs to know, as of one moment.

        :param known_slots: of so many slots the loop knows which trial is in it.
        :param asked: indexes of trials that are to be among the answer's ``trials`` in any case.
        :param asked_reason: so are trials in other slots whose reason begins with this.
        """
        return self._db.read(lambda connection: _read(connection, name, task_key, known_slots, asked, asked_reason))


def _read(
    connection: sa.Connection, name: str, task: str, known_slots: int, asked: Collection[int], asked_reason: str | None
) -> LoopFacts:
    c = experiments.c
    experiment = _experiment_rows.require(connection, name, c.uid, c.spec, c.app)
    loop = _loop_rows.find(connection, name, task)
    changes = _change_rows.of_experiments(connection, [name])[name]
    counts = {row.status: row.number for row in connection.execute(_COUNTED, {"name": name})}
    new = _trial_rows.granted_rows(connection, name, task, known_slots, _LIGHT)
    wanted = set(asked)
    if asked_reason is not None:
        wanted |= {row.trial_index for row in new if (row.reason or "").startswith(asked_reason)}
    wanted |= set(connection.scalars(_UNFINISHED, {"name": name}))
    found = {record.index: record for record in _trial_rows.records_of(connection, name)}
    for indexes in _chunks(wanted - found.keys()):
        found |= {record.index: record for record in _trial_rows.records_of(connection, name, indexes)}
    ended = tuple(
        EndedTrial(row.trial_index, row.status, row.reason)
        for row in new
        if row.status in TERMINAL_TRIAL_STATUSES and row.trial_index not in found
    )
    attempts = _attempts(connection, name, found)
    given_up = {row.trial_index for row in new if row.status in TERMINAL_TRIAL_STATUSES} & found.keys()
    return LoopFacts(
        uid=experiment.uid,
        spec=experiment.spec,
        app=experiment.app,
        steering=Steering.of(changes),
        loop=loop,
        counts=counts,
        granted=tuple(row.trial_index for row in new),
        ended=ended,
        spans=_spans(connection, name) if ended else (),
        trials=found,
        attempts=attempts,
        asked_by=_asked_by(connection, name, given_up - attempts.keys()),
    )


def _asked_by(connection: sa.Connection, name: str, indexes: Collection[int]) -> dict[int, TaskIdentity]:
    found: dict[int, TaskIdentity] = {}
    for part in _chunks(indexes):
        rows = connection.execute(_ASKED_BY, {"name": name, "indexes": part})
        found |= {row.trial_index: TaskIdentity.from_json(row.requested_by) for row in rows}
    return found


def _attempts(connection: sa.Connection, name: str, indexes: Collection[int]) -> dict[int, list[AttemptRecord]]:
    found: dict[int, list[AttemptRecord]] = {}
    for part in _chunks(indexes):
        for row in connection.execute(_ATTEMPTS, {"name": name, "indexes": part}):
            found.setdefault(row.trial_index, []).append(_attempt_rows.record(row))
    return found


def _spans(connection: sa.Connection, name: str) -> tuple[AttemptSpan, ...]:
    return tuple(AttemptSpan(*row) for row in connection.execute(_SPANS, {"name": name}))


def _chunks(indexes: Collection[int]) -> Iterator[list[int]]:
    ordered = sorted(indexes)
    for start in range(0, len(ordered), _INDEXES_AT_ONCE):
        yield ordered[start : start + _INDEXES_AT_ONCE]
