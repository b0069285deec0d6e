"""Read-only views of the store for displays: overviews and whole experiments, each in a few statements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.keys import dag_run_key
from airflow_provider_axtx.core.records import AttemptRecord, Observation, TrialRecord, final_means
from airflow_provider_axtx.core.status import TERMINAL_TRIAL_STATUSES
from airflow_provider_axtx.store import _analysis_rows, _attempt_rows, _experiment_rows, _trial_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store._experiment_rows import ExperimentSummary
from airflow_provider_axtx.store._schema import open_schema
from airflow_provider_axtx.store.tables import analyses, experiments, observations, runs, trials

#: Seconds before the newest change that are read again: a transaction that began earlier may have committed later.
OVERLAP_SECONDS = 60.0
_RETRY_SECONDS = 3.0


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment in a list: its summary, its definition, and the DAGs whose tasks ran its trials."""

    summary: ExperimentSummary
    uid: str
    spec: dict[str, Any]
    dag_ids: tuple[str, ...]


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

    :param completed: (index, {metric: mean}) of every COMPLETED trial, not only of those in ``trials``.
    :param baseline: means of the baseline trial, or None.
    :param cursor: pass it as ``since`` to get only what has changed.
    :param has_curves: whether there are observations with a step.
    :param analysed_at: when its analysis cards were recorded, or None.
    """

    line: ExperimentLine
    trials: list[TrialView]
    completed: list[tuple[int, dict[str, float]]]
    baseline: dict[str, float] | None
    cursor: float
    has_curves: bool
    analysed_at: float | None


class ExperimentViews:
    """Reads an experiment store for display.

    :param url: SQLAlchemy URL of the store.
    :raises InvalidInputError: when the URL, its login or its driver cannot be used.
    :raises StoreUnavailableError: when the database does not answer.
    """

    def __init__(self, url: str) -> None:
        self._db = Database(url, _RETRY_SECONDS)
        open_schema(self._db)

    def lines(self) -> list[ExperimentLine]:
        """Return every experiment, the one with the latest activity first."""
        return self._db.read(_lines)

    def line(self, name: str) -> ExperimentLine:
        """Return one experiment.

        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        return self._db.read(lambda connection: _line(connection, name))

    def completed(self, name: str) -> tuple[list[tuple[int, dict[str, float]]], dict[str, float] | None]:
        """Return (index, {metric: mean}) of each COMPLETED trial, and the means of the baseline trial or None."""
        return self._db.read(lambda connection: _completed(connection, name))

    def experiment(self, name: str, since: float | None = None) -> ExperimentView:
        """Return an experiment with its trials, as of one moment.

        :param since: only trials that are open or have changed since this cursor; None means all.
        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        return self._db.read(lambda connection: _experiment(connection, name, since))

    def curves(self, name: str, since: float | None = None) -> list[Observation]:
        """Return the observations with a step, of the trials that ``experiment`` would return, in order of steps."""
        return self._db.read(lambda connection: _curves(connection, name, since))

    def analyses(self, name: str) -> list[AnalysisCard]:
        """Return the analysis cards recorded last, in their order."""
        return self._db.read(lambda connection: _analysis_rows.recorded(connection, name))

    def experiments_of(self, dag_id: str, run_id: str) -> list[str]:
        """Return the names of the experiments that a DAG run has requested or run trials of."""

        def work(connection: sa.Connection) -> list[str]:
            asked = sa.select(trials.c.experiment).where(trials.c.dag_run == dag_run_key(dag_id, run_id))
            ran = sa.select(runs.c.experiment).where(runs.c.dag_id == dag_id, runs.c.run_id == run_id)
            return sorted(connection.scalars(sa.union(asked, ran)))

        return self._db.read(work)


# Without the generator state, which grows to megabytes and which no display shows.
_HEAD = sa.select(experiments.c.name, experiments.c.uid, experiments.c.spec)


def _lines(connection: sa.Connection) -> list[ExperimentLine]:
    rows = {row.name: row for row in connection.execute(_HEAD)}
    dags: dict[str, list[str]] = {}
    for name, dag_id in connection.execute(sa.select(runs.c.experiment, runs.c.dag_id).distinct()):
        dags.setdefault(name, []).append(dag_id)
    found = [_as_line(s, rows[s.name], dags.get(s.name, ())) for s in _experiment_rows.summaries(connection)]
    return sorted(found, key=lambda line: line.summary.last_activity_at, reverse=True)


def _line(connection: sa.Connection, name: str) -> ExperimentLine:
    row = connection.execute(_HEAD.where(experiments.c.name == name)).one_or_none()
    if row is None:
        raise _experiment_rows.not_found(name)
    dags = connection.scalars(sa.select(runs.c.dag_id).where(runs.c.experiment == name).distinct())
    return _as_line(_experiment_rows.summaries(connection, name)[0], row, dags)


def _as_line(summary: ExperimentSummary, row: Any, dag_ids: Iterable[str]) -> ExperimentLine:
    # An attempt that Airflow did not start has an empty dag_id.
    return ExperimentLine(summary, row.uid, row.spec, tuple(sorted(d for d in dag_ids if d)))


def _experiment(connection: sa.Connection, name: str, since: float | None) -> ExperimentView:
    line = _line(connection, name)
    chosen = _chosen(name, since)
    found = {
        row.trial_index: TrialView(_trial_rows.record(row), row.created_at, row.updated_at, row.completed_at)
        for row in connection.execute(sa.select(trials).where(chosen).order_by(trials.c.trial_index))
    }
    indexes = sa.select(trials.c.trial_index).where(chosen)
    for row in connection.execute(_attempt_rows.select(runs.c.experiment == name, runs.c.trial_index.in_(indexes))):
        found[row.trial_index].attempts.append(_attempt_rows.record(row))
    for one in _observed(connection, name, indexes, stepped=False):
        found[one.trial_index].observations.append(one)
    completed, baseline = _completed(connection, name)
    return ExperimentView(
        line=line,
        trials=list(found.values()),
        completed=completed,
        baseline=baseline,
        cursor=line.summary.last_activity_at - OVERLAP_SECONDS,
        has_curves=connection.scalar(sa.select(_has_steps(name))) or False,
        analysed_at=connection.scalar(
            sa.select(sa.func.max(analyses.c.created_at)).where(analyses.c.experiment == name)
        ),
    )


def _chosen(name: str, since: float | None) -> sa.ColumnElement[bool]:
    """Return the condition on trials: all, or those that are open or have changed."""
    if since is None:
        return trials.c.experiment == name
    is_open = trials.c.status.not_in(sorted(TERMINAL_TRIAL_STATUSES))
    return sa.and_(trials.c.experiment == name, sa.or_(is_open, trials.c.updated_at >= since))


def _completed(
    connection: sa.Connection, name: str
) -> tuple[list[tuple[int, dict[str, float]]], dict[str, float] | None]:
    t, o = trials.c, observations.c
    query = (
        sa.select(t.trial_index, t.origin, o.metric, o.mean)
        .join_from(
            trials,
            observations,
            sa.and_(o.experiment == t.experiment, o.trial_index == t.trial_index, o.step.is_(None)),
        )
        .where(t.experiment == name, t.status == "COMPLETED")
        .order_by(t.trial_index)
    )
    rows = connection.execute(query).all()
    means = final_means(Observation(row.trial_index, row.metric, row.mean) for row in rows)
    baseline = next((row.trial_index for row in rows if row.origin == "baseline"), None)
    return list(means.items()), None if baseline is None else means[baseline]


def _observed(connection: sa.Connection, name: str, indexes: sa.Select[Any], *, stepped: bool) -> list[Observation]:
    c = observations.c
    query = sa.select(c.trial_index, c.metric, c.mean, c.sem, c.step).where(
        c.experiment == name, c.trial_index.in_(indexes), c.step.is_not(None) if stepped else c.step.is_(None)
    )
    rows = connection.execute(query.order_by(c.trial_index, c.position))
    return [Observation(*row) for row in rows]


def _curves(connection: sa.Connection, name: str, since: float | None) -> list[Observation]:
    _experiment_rows.require(connection, name)
    return _observed(connection, name, sa.select(trials.c.trial_index).where(_chosen(name, since)), stepped=True)


def _has_steps(name: str) -> sa.Exists:
    return sa.exists().where(observations.c.experiment == name, observations.c.step.is_not(None))
