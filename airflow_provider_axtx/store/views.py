"""Read-only views of the store for displays: overviews and whole experiments, each in a few statements.

They never create a file or a table, and they give up soon when the database does not answer: a display that waits holds
a thread of Airflow's API server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard
from airflow_provider_axtx.core.completed import CompletedTrial
from airflow_provider_axtx.core.errors import StoreNotFoundError, StoreUnavailableError
from airflow_provider_axtx.core.records import AttemptRecord, Observation, Parameters, TrialRecord
from airflow_provider_axtx.store import _analysis_rows, _attempt_rows, _trial_rows, _view_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store._schema import open_schema
from airflow_provider_axtx.store._view_rows import Creators, ExperimentLine, ListFilter, Owners, Spent
from airflow_provider_axtx.store.tables import analyses, runs, trials

__all__ = [
    "Course",
    "ExperimentLine",
    "ExperimentView",
    "ExperimentViews",
    "ListFilter",
    "Owners",
    "RememberedOutageError",
    "Spent",
    "TrialView",
]

T = TypeVar("T")

#: Seconds before the newest change that are read again: a transaction that began earlier may have committed later.
OVERLAP_SECONDS = 60.0
#: Up to so many trials a statement names them.
_FEW_TRIALS = 100
#: Seconds for which a store that did not answer is not asked again.
OUTAGE_SECONDS = 60.0


class RememberedOutageError(StoreUnavailableError):
    """The store did not answer a moment ago, and was not asked again."""


class _Outages:
    """Remembers which stores did not answer, for all threads of this process."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, url: str, shown_url: str) -> None:
        """Raise while an outage is remembered. After that time one thread asks again; for the others it is renewed."""
        with self._lock:
            until, now = self._until.get(url), time.monotonic()
            if until is None:
                return
            if until <= now:
                self._until[url] = now + OUTAGE_SECONDS
                return
        raise RememberedOutageError(
            f"The experiment store {shown_url} did not answer; it is asked again in {until - now:.0f} s.",
            fix="check that the database is up and reachable from this machine.",
        )

    def note(self, url: str, *, answered: bool) -> None:
        """Remember whether the store has answered."""
        with self._lock:
            if answered:
                self._until.pop(url, None)
            else:
                self._until[url] = time.monotonic() + OUTAGE_SECONDS


def _was_connected(error: StoreUnavailableError) -> bool:
    """Return whether the database could be connected to.

    One statement that takes too long, or all connections of this process in use, is no outage: one slow request once
    closed the store to all users for a minute. A connection that was lost is made anew by the next request.
    """
    cause = error.__cause__
    return not (isinstance(cause, sa.exc.DBAPIError) and cause.statement is None)


_outages = _Outages()
#: The creators of each store's experiments as they were last read, by the store's URL.
_creators: dict[str, Creators] = {}


@dataclass(frozen=True)
class TrialView:
    """A trial with its attempts and final values; times are seconds since the epoch (UTC).

    :param observations: final values only (step None).
    """

    record: TrialRecord
    created_at: float
    updated_at: float
    completed_at: float | None
    attempts: list[AttemptRecord] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)


@dataclass(frozen=True)
class ExperimentView:
    """An experiment, and its trials or those that have changed.

    :param cursor: pass it as ``since`` to get only what has changed.
    :param has_curves: whether there are observations with a step.
    :param analysed_at: when its analysis cards were recorded, or None.
    :param explained_at: when its explanation was recorded, or None.
    """

    line: ExperimentLine
    trials: list[TrialView]
    cursor: float
    has_curves: bool
    analysed_at: float | None
    explained_at: float | None


@dataclass(frozen=True)
class Course:
    """How an experiment went; times are seconds since the epoch (UTC).

    :param began_at: when its first trial was created, or None.
    :param completed_at: when each COMPLETED trial was completed, by index, in the order of these times.
    :param spent: what each ended attempt has used, in the order of their ends.
    """

    began_at: float | None
    completed_at: dict[int, float]
    spent: list[Spent]


class ExperimentViews:
    """Reads an experiment store for display.

    Each method raises ``StoreUnavailableError`` when the database does not answer within a few seconds. When it cannot
    be connected to, each method raises ``RememberedOutageError`` at once for a minute afterwards.

    :param url: SQLAlchemy URL of the store.
    :raises InvalidInputError: when the URL, its login or its driver cannot be used.
    :raises StoreNotFoundError: when the SQLite file or the tables do not exist yet.
    :raises SchemaVersionError: when the tables are older or newer than this package.
    :raises StoreUnavailableError: when the database does not answer.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        _require_file(url)
        self._db = Database(url, retry_seconds=0, reader=True)
        self._guarded(lambda: open_schema(self._db, create=False))

    def _guarded(self, read: Callable[[], T]) -> T:
        _outages.check(self._url, self._db.shown_url)
        try:
            found = read()
        except StoreUnavailableError as error:
            _outages.note(self._url, answered=_was_connected(error))
            raise
        _outages.note(self._url, answered=True)
        return found

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        return self._guarded(lambda: self._db.read(work))

    def _creators(self, connection: sa.Connection) -> Creators:
        _creators[self._url] = found = _view_rows.creators(connection, _creators.get(self._url, {}))
        return found

    def dag_ids(self) -> set[str]:
        """Return every DAG that experiments of this store belong to."""

        def work(connection: sa.Connection) -> set[str]:
            created = {task.dag_id for task in self._creators(connection).values() if task.dag_id}
            return created | _view_rows.dag_ids(connection)

        return self._read(work)

    def owners(self, name: str, installation: str = "") -> Owners:
        """Return whose an experiment is; it has no DAG when it was made outside Airflow.

        :param installation: identity of this Airflow deployment.
        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        return self._read(lambda connection: _view_rows.owners(connection, name, installation))

    def page(
        self, wanted: ListFilter | None = None, *, limit: int | None = None, offset: int = 0
    ) -> tuple[list[ExperimentLine], int]:
        """Return one page of the experiments, the one with the latest activity first, and their total number.

        :param wanted: which experiments; None is all.
        :param limit: number of experiments on a page; None is all.
        :param offset: number of experiments on the pages before.
        """

        def work(connection: sa.Connection) -> tuple[list[ExperimentLine], int]:
            # The creators as of the same moment: an experiment that appears in between would have none.
            created_by = self._creators(connection)
            return _view_rows.page(connection, wanted or ListFilter(), created_by, limit, offset)

        return self._read(work)

    def line(self, name: str) -> ExperimentLine:
        """Return one experiment.

        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        return self._read(lambda connection: _view_rows.line(connection, name))

    def completed(self, name: str, since: float | None = None) -> list[CompletedTrial]:
        """Return the COMPLETED trials with their final results, in order of their index.

        :param since: only those that have changed since this cursor, and the baseline; None means all.
        """
        return self._read(lambda connection: _view_rows.completed(connection, name, since))

    def experiment(self, name: str, since: float | None = None, limit: int | None = None) -> ExperimentView:
        """Return an experiment with its trials, as of one moment.

        :param since: only trials that are open or have changed since this cursor; None means all.
        :param limit: only so many of the latest trials; ``trials`` returns the others.
        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        return self._read(lambda connection: _experiment(connection, name, since, limit))

    def trials(self, name: str, before: int, limit: int) -> list[TrialView]:
        """Return the trials with an index in ``[before - limit, before)``."""
        c = trials.c
        chosen = sa.and_(c.experiment == name, c.trial_index < before, c.trial_index >= before - limit)
        return self._read(lambda connection: _trials(connection, name, chosen))

    def metric_curves(
        self, name: str, metric: str, *, indexes: Collection[int] | None = None, since: float | None = None, most: int
    ) -> dict[int, list[tuple[float, float]]]:
        """Return the (step, mean) of a metric by trial, in order of steps.

        :param indexes: of these trials; None means those that are open or have changed since ``since``.
        :param most: about so many points of each trial, evenly spread.
        """
        changed = sa.select(trials.c.trial_index).where(_view_rows.changed(name, since))
        wanted = changed if indexes is None else indexes
        return self._read(lambda connection: _view_rows.curves(connection, name, metric, wanted, most))

    def stepped_metrics(self, name: str, indexes: Collection[int]) -> list[str]:
        """Return the metrics of which one of the trials has progressive observations."""
        return self._read(lambda connection: _view_rows.stepped_metrics(connection, name, indexes))

    def curves(self, name: str, since: float | None = None) -> list[Observation]:
        """Return the observations with a step, of the trials that ``experiment`` would return, in order of steps.

        :raises ExperimentNotFoundError: when there is no such experiment.
        """

        def work(connection: sa.Connection) -> list[Observation]:
            _view_rows.line(connection, name)
            indexes = sa.select(trials.c.trial_index).where(_view_rows.changed(name, since))
            return _view_rows.observed(connection, name, indexes, stepped=True)

        return self._read(work)

    def course(self, name: str) -> Course:
        """Return when an experiment's trials were completed, and what its attempts have used."""

        def work(connection: sa.Connection) -> Course:
            began = _view_rows.first_request(connection, name)
            times = _view_rows.completion_times(connection, name)
            return Course(began, times, _view_rows.spent(connection, name))

        return self._read(work)

    def parameters(self, name: str, index: int) -> Parameters:
        """Return the parameterization of a trial; empty when there is no such trial."""
        c = trials.c
        query = sa.select(c.parameters).where(c.experiment == name, c.trial_index == index)
        return self._read(lambda connection: connection.scalar(query)) or {}

    def analyses(self, name: str) -> list[AnalysisCard]:
        """Return the analysis cards recorded last, in their order."""
        return self._read(lambda connection: _analysis_rows.recorded(connection, name))

    def explanation(self, name: str) -> list[AnalysisCard]:
        """Return the charts of the explanation recorded last, in their order."""
        return self._read(lambda connection: _analysis_rows.explanation(connection, name))

    def experiments_of(self, dag_id: str, run_id: str, installation: str = "") -> list[str]:
        """Return the names of the experiments that a DAG run has requested or run trials of.

        :param installation: identity of this Airflow deployment.
        """
        return self._read(lambda connection: _view_rows.experiments_of(connection, installation, dag_id, run_id))


def _require_file(url: str) -> None:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return  # Database reports it, without the text
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise StoreNotFoundError(
            f"There is no experiment store at {parsed.database} yet.", fix="run a DAG that creates an experiment."
        )


def _trials(connection: sa.Connection, name: str, chosen: sa.ColumnElement[bool]) -> list[TrialView]:
    found = {
        row.trial_index: TrialView(_trial_rows.record(row), row.created_at, row.updated_at, row.completed_at)
        for row in connection.execute(sa.select(trials).where(chosen).order_by(trials.c.trial_index))
    }
    # What has changed is little, and is named instead of being looked for again.
    indexes = list(found) if len(found) <= _FEW_TRIALS else sa.select(trials.c.trial_index).where(chosen)
    for row in connection.execute(_attempt_rows.select(runs.c.experiment == name, runs.c.trial_index.in_(indexes))):
        found[row.trial_index].attempts.append(_attempt_rows.record(row))
    for one in _view_rows.observed(connection, name, indexes, stepped=False):
        found[one.trial_index].observations.append(one)
    return list(found.values())


def _experiment(connection: sa.Connection, name: str, since: float | None, limit: int | None) -> ExperimentView:
    line = _view_rows.line(connection, name)
    chosen = _view_rows.changed(name, since)
    if limit is not None:
        # Indexes are 0, 1, ... without gaps.
        chosen = sa.and_(chosen, trials.c.trial_index >= sum(line.summary.trial_counts.values()) - limit)
    recorded = sa.select(sa.func.max(analyses.c.created_at)).where(analyses.c.experiment == name)
    return ExperimentView(
        line=line,
        trials=_trials(connection, name, chosen),
        cursor=line.summary.last_activity_at - OVERLAP_SECONDS,
        has_curves=connection.scalar(sa.select(_view_rows.has_steps(name))) or False,
        analysed_at=connection.scalar(recorded.where(analyses.c.kind != EXPLANATION)),
        explained_at=connection.scalar(recorded.where(analyses.c.kind == EXPLANATION)),
    )
