"""The SQL of the read-only views. Each function runs inside one transaction of ``ExperimentViews``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.records import Observation, final_means
from airflow_provider_axtx.core.status import TERMINAL_TRIAL_STATUSES
from airflow_provider_axtx.store import _experiment_rows
from airflow_provider_axtx.store._experiment_rows import ExperimentSummary
from airflow_provider_axtx.store.tables import experiments, observations, runs, trials


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment in a list.

    :param summary: what is known of it without its definition.
    :param uid: random id that the experiment was given at its creation.
    :param definition: the ``ExperimentSpec`` as JSON text. It is not parsed here, so that one experiment with a
        definition that cannot be read does not keep the others from being shown.
    """

    summary: ExperimentSummary
    uid: str
    definition: str


#: Without the generator state, which grows to megabytes and which no display shows.
_HEAD = sa.select(experiments.c.name, experiments.c.uid, sa.type_coerce(experiments.c.spec, sa.Text()).label("spec"))


def dag_ids(connection: sa.Connection) -> set[str]:
    """Return every DAG that has run a trial. Jumps from one id to the next in the index, however many attempts."""
    c = runs.c
    found = sa.select(sa.func.min(c.dag_id).label("dag_id")).cte("found", recursive=True)
    following = sa.select(sa.func.min(c.dag_id)).where(c.dag_id > found.c.dag_id).scalar_subquery()
    found = found.union_all(sa.select(following).where(found.c.dag_id.is_not(None)))
    # An attempt that Airflow did not start has an empty dag_id.
    return {dag_id for dag_id in connection.scalars(sa.select(found.c.dag_id)) if dag_id}


def owners(connection: sa.Connection, name: str) -> set[str]:
    """Return the DAGs that an experiment belongs to.

    :raises ExperimentNotFoundError: when there is no such experiment.
    """
    if connection.scalar(sa.select(experiments.c.name).where(experiments.c.name == name)) is None:
        raise _experiment_rows.not_found(name)
    query = sa.select(runs.c.dag_id).where(runs.c.experiment == name, runs.c.dag_id != "").distinct()
    return set(connection.scalars(query))


def conditions(search: str, hidden_dags: Collection[str], with_unowned: bool) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on the experiments of a list; see ``ExperimentViews.page``."""
    e = experiments.c
    found: list[sa.ColumnElement[bool]] = []
    if search:
        # SQLite lowers ASCII letters only: other capitals are found as they are written.
        lowered = sa.func.lower(e.name).contains(search.lower(), autoescape=True)
        found.append(sa.or_(lowered, e.name.contains(search, autoescape=True)))
    if hidden_dags:
        found.append(e.name.not_in(sa.select(runs.c.experiment).where(runs.c.dag_id.in_(sorted(hidden_dags)))))
    if not with_unowned:
        found.append(sa.exists().where(runs.c.experiment == e.name, runs.c.dag_id != ""))
    return found


def page(
    connection: sa.Connection, where: Sequence[sa.ColumnElement[bool]], limit: int | None, offset: int
) -> tuple[list[ExperimentLine], int]:
    """Return the lines of one page, the latest activity first, and the number of lines on all pages."""
    e = experiments.c
    total = connection.scalar(sa.select(sa.func.count()).select_from(experiments).where(*where)) or 0
    last = sa.select(trials.c.experiment, sa.func.max(trials.c.updated_at).label("at"))
    active = last.group_by(trials.c.experiment).subquery()
    names = (
        sa.select(e.name)
        .select_from(experiments.outerjoin(active, active.c.experiment == e.name))
        .where(*where)
        .order_by(sa.func.coalesce(active.c.at, e.created_at).desc(), e.name)
    )
    return lines(connection, list(connection.scalars(names.limit(limit).offset(offset)))), total


def lines(connection: sa.Connection, names: Sequence[str]) -> list[ExperimentLine]:
    """Return the lines of experiments in the order of ``names``; those that do not exist are left out."""
    rows = {row.name: row for row in connection.execute(_HEAD.where(experiments.c.name.in_(names)))}
    summaries = {summary.name: summary for summary in _experiment_rows.summaries(connection, names)}
    return [ExperimentLine(summaries[name], rows[name].uid, rows[name].spec) for name in names if name in rows]


def line(connection: sa.Connection, name: str) -> ExperimentLine:
    """Return the line of one experiment.

    :raises ExperimentNotFoundError: when there is no such experiment.
    """
    found = lines(connection, [name])
    if not found:
        raise _experiment_rows.not_found(name)
    return found[0]


def changed(name: str, since: float | None) -> sa.ColumnElement[bool]:
    """Return the condition on trials: all, or those that are open or have changed."""
    if since is None:
        return trials.c.experiment == name
    is_open = trials.c.status.not_in(sorted(TERMINAL_TRIAL_STATUSES))
    return sa.and_(trials.c.experiment == name, sa.or_(is_open, trials.c.updated_at >= since))


def completed(
    connection: sa.Connection, name: str
) -> tuple[list[tuple[int, dict[str, float]]], dict[str, float] | None]:
    """Return (index, {metric: mean}) of each COMPLETED trial, and the means of the baseline trial or None."""
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


def observed(connection: sa.Connection, name: str, indexes: sa.Select[Any], *, stepped: bool) -> list[Observation]:
    """Return the progressive or the final observations of some trials."""
    c = observations.c
    query = sa.select(c.trial_index, c.metric, c.mean, c.sem, c.step).where(
        c.experiment == name, c.trial_index.in_(indexes), c.step.is_not(None) if stepped else c.step.is_(None)
    )
    return [Observation(*row) for row in connection.execute(query.order_by(c.trial_index, c.position))]


def has_steps(name: str) -> sa.Exists:
    """Return whether an experiment has progressive observations, as an expression."""
    return sa.exists().where(observations.c.experiment == name, observations.c.step.is_not(None))
