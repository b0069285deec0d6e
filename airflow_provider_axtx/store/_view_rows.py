"""The SQL of the read-only views. Each function runs inside one transaction of ``ExperimentViews``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.completed import CompletedTrial, completed_trials
from airflow_provider_axtx.core.keys import dag_run_key
from airflow_provider_axtx.core.records import Observation, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import TERMINAL_TRIAL_STATUSES, TrialStatus
from airflow_provider_axtx.core.steering import Change, Steering
from airflow_provider_axtx.store import _change_rows, _experiment_rows
from airflow_provider_axtx.store._experiment_rows import ExperimentSummary
from airflow_provider_axtx.store.tables import dag_runs, experiments, observations, runs, trials


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment in a list.

    :param summary: what is known of it without its definition.
    :param uid: random id that the experiment was given at its creation.
    :param definition: the ``ExperimentSpec`` as JSON text. It is not parsed here, so that one experiment with a
        definition that cannot be read does not keep the others from being shown.
    :param changes: what users have asked for, in order.
    """

    summary: ExperimentSummary
    uid: str
    definition: str
    changes: tuple[Change, ...] = ()

    @cached_property
    def steering(self) -> Steering:
        """What is wanted of the experiment now."""
        return Steering.of(self.changes)


#: Without the generator state, which grows to megabytes and which no display shows.
_HEAD = sa.select(experiments.c.name, experiments.c.uid, sa.type_coerce(experiments.c.spec, sa.Text()).label("spec"))


@dataclass(frozen=True)
class Owners:
    """Whose an experiment is.

    :param dag_ids: DAGs of this Airflow that created it or ran its trials.
    :param is_shared: whether also tasks of another Airflow deployment did.
    """

    dag_ids: frozenset[str]
    is_shared: bool


#: The tasks that created the experiments of a store, by the experiments' ``uid``.
Creators = dict[str, TaskIdentity]


def creators(connection: sa.Connection, known: Creators) -> Creators:
    """Return the tasks that created the experiments.

    :param known: what an earlier call returned. It never changes, and SQLite reads all of an experiment's generator
        state, which grows to megabytes, on the way to this column.
    """
    e = experiments.c
    uids = list(connection.scalars(sa.select(e.uid)))
    new = [uid for uid in uids if uid not in known]
    rows = connection.execute(sa.select(e.uid, e.created_by).where(e.uid.in_(_literal(new)))) if new else ()
    added = {row.uid: TaskIdentity.from_json(row.created_by) for row in rows}
    return {uid: known[uid] if uid in known else added[uid] for uid in uids}


def _literal(uids: Sequence[str]) -> sa.BindParameter[Any]:
    """Return a list of uids for ``in_``, as part of the statement: databases limit the number of parameters."""
    return sa.bindparam(None, list(uids), expanding=True, literal_execute=True, unique=True)


def _is_of(installation: str) -> sa.ColumnElement[bool]:
    """Return whether an attempt is of this Airflow; those of earlier versions do not tell, and count as such."""
    return runs.c.installation.in_(("", installation))


def dag_ids(connection: sa.Connection) -> set[str]:
    """Return every DAG that has run a trial."""
    # Jumps from one id to the next in the index, however many attempts there are.
    c = runs.c
    found = sa.select(sa.func.min(c.dag_id).label("dag_id")).cte("found", recursive=True)
    following = sa.select(sa.func.min(c.dag_id)).where(c.dag_id > found.c.dag_id).scalar_subquery()
    found = found.union_all(sa.select(following).where(found.c.dag_id.is_not(None)))
    # An attempt that Airflow did not start has an empty dag_id.
    return {dag_id for dag_id in connection.scalars(sa.select(found.c.dag_id)) if dag_id}


def owners(connection: sa.Connection, name: str, installation: str) -> Owners:
    """Return whose an experiment is.

    :raises ExperimentNotFoundError: when there is no such experiment.
    """
    created_by = connection.execute(sa.select(experiments.c.created_by).where(experiments.c.name == name)).one_or_none()
    if created_by is None:
        raise _experiment_rows.not_found(name)
    creator = TaskIdentity.from_json(created_by.created_by)
    query = sa.select(runs.c.dag_id, runs.c.installation).where(runs.c.experiment == name).distinct()
    found = {tuple(row) for row in connection.execute(query)} | {(creator.dag_id, creator.installation)}
    own = {dag_id for dag_id, of in found if dag_id and of in ("", installation)}
    return Owners(frozenset(own), any(of not in ("", installation) for _, of in found))


@dataclass(frozen=True)
class ListFilter:
    """Which experiments a list shows.

    :param search: part of the name, in any case.
    :param hidden_dags: DAGs whose experiments are left out, also those that do not belong to them alone.
    :param with_unowned: whether to show those that belong to no DAG, or also to another Airflow deployment.
    :param installation: identity of this Airflow deployment.
    :param archived: show the archived ones instead of the others.
    :param dag_id: only those that this DAG has created or run trials of.
    """

    search: str = ""
    hidden_dags: Collection[str] = ()
    with_unowned: bool = True
    installation: str = ""
    archived: bool = False
    dag_id: str = ""


def _conditions(wanted: ListFilter, created_by: Creators) -> list[sa.ColumnElement[bool]]:
    e = experiments.c
    is_archived = _change_rows.is_archived(e.name)
    found: list[sa.ColumnElement[bool]] = [is_archived if wanted.archived else sa.not_(is_archived)]
    if wanted.search:
        # SQLite lowers ASCII letters only: other capitals are found as they are written.
        lowered = sa.func.lower(e.name).contains(wanted.search.lower(), autoescape=True)
        found.append(sa.or_(lowered, e.name.contains(wanted.search, autoescape=True)))
    is_own = _is_of(wanted.installation)
    if wanted.dag_id:
        made = [uid for uid, task in created_by.items() if task.dag_id == wanted.dag_id]
        ran = sa.select(runs.c.experiment).where(runs.c.dag_id == wanted.dag_id, is_own)
        found.append(sa.or_(e.uid.in_(_literal(made)), e.name.in_(ran)))
    own = {uid: task for uid, task in created_by.items() if task.installation in ("", wanted.installation)}
    if wanted.hidden_dags:
        hidden = sorted(wanted.hidden_dags)
        found.append(e.name.not_in(sa.select(runs.c.experiment).where(runs.c.dag_id.in_(hidden), is_own)))
        created = [uid for uid, task in own.items() if task.dag_id in wanted.hidden_dags]
        found.append(e.uid.not_in(_literal(created)))
    if not wanted.with_unowned:
        has_run = sa.exists().where(runs.c.experiment == e.name, runs.c.dag_id != "")
        found.append(sa.or_(e.uid.in_(_literal([uid for uid, task in own.items() if task.dag_id])), has_run))
        found.append(e.uid.not_in(_literal([uid for uid in created_by if uid not in own])))
        found.append(~sa.exists().where(runs.c.experiment == e.name, sa.not_(is_own)))
    return found


def page(
    connection: sa.Connection, wanted: ListFilter, created_by: Creators, limit: int | None, offset: int
) -> tuple[list[ExperimentLine], int]:
    """Return the lines of one page, the latest activity first, and the number of lines on all pages."""
    e = experiments.c
    where = _conditions(wanted, created_by)
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
    changes = _change_rows.of_experiments(connection, names)
    return [
        ExperimentLine(summaries[name], rows[name].uid, rows[name].spec, tuple(changes[name]))
        for name in names
        if name in rows
    ]


def line(connection: sa.Connection, name: str) -> ExperimentLine:
    """Return the line of one experiment.

    :raises ExperimentNotFoundError: when there is no such experiment.
    """
    found = lines(connection, [name])
    if not found:
        raise _experiment_rows.not_found(name)
    return found[0]


def experiments_of(connection: sa.Connection, installation: str, dag_id: str, run_id: str) -> list[str]:
    """Return the names of the experiments that a DAG run of this Airflow has requested or run trials of."""
    key = dag_run_key(dag_id, run_id, installation)
    generation = connection.scalar(sa.select(dag_runs.c.generation).where(dag_runs.c.dag_run == key)) or 0
    # The key without the identity of the deployment is that of earlier versions.
    keys = (dag_run_key(dag_id, run_id), dag_run_key(dag_id, run_id, installation, generation))
    asked = sa.select(trials.c.experiment).where(trials.c.dag_run.in_(keys))
    is_own = _is_of(installation)
    ran = sa.select(runs.c.experiment).where(runs.c.dag_id == dag_id, runs.c.run_id == run_id, is_own)
    return sorted(connection.scalars(sa.union(asked, ran)))


def changed(name: str, since: float | None) -> sa.ColumnElement[bool]:
    """Return the condition on trials: all, or those that are open or have changed, or of which an attempt has.

    An attempt may end after its trial, as that of a trial that is stopped early, and then only its own row changes.
    """
    if since is None:
        return trials.c.experiment == name
    is_open = trials.c.status.not_in(sorted(TERMINAL_TRIAL_STATUSES))
    ends = sa.or_(runs.c.finished_at.is_(None), runs.c.finished_at >= since)
    # By the experiment, and not by the end alone: a store has many more attempts than one experiment.
    outlived = trials.c.trial_index.in_(sa.select(runs.c.trial_index).where(runs.c.experiment == name, ends))
    return sa.and_(trials.c.experiment == name, sa.or_(is_open, trials.c.updated_at >= since, outlived))


def completed(connection: sa.Connection, name: str, since: float | None) -> list[CompletedTrial]:
    """Return the COMPLETED trials, or those that have changed, with their final results, in order of their index."""
    t = trials.c
    is_completed = t.status == TrialStatus.COMPLETED
    if since is not None:
        is_completed = sa.and_(is_completed, t.updated_at >= since)
    # The baseline too while it runs: other trials may have its parameterization.
    chosen = sa.and_(t.experiment == name, sa.or_(is_completed, t.origin == "baseline"))
    # Not their parameters: the list of experiments reads every trial.
    rows = connection.execute(
        sa.select(t.trial_index, t.arm_name, t.status, t.origin).where(chosen).order_by(t.trial_index)
    )
    records = [TrialRecord(row.trial_index, row.arm_name, {}, row.status, origin=row.origin) for row in rows]
    return completed_trials(records, observed(connection, name, sa.select(t.trial_index).where(chosen), stepped=False))


def observed(
    connection: sa.Connection, name: str, indexes: sa.Select[Any] | Collection[int], *, stepped: bool
) -> list[Observation]:
    """Return the progressive or the final observations of some trials."""
    c = observations.c
    query = sa.select(c.trial_index, c.metric, c.mean, c.sem, c.step).where(
        c.experiment == name, c.trial_index.in_(indexes), c.step.is_not(None) if stepped else c.step.is_(None)
    )
    return [Observation(*row) for row in connection.execute(query.order_by(c.trial_index, c.position))]


@dataclass(frozen=True)
class Spent:
    """What an attempt has used.

    :param at: when its app ended, in seconds since the epoch.
    :param cpu_seconds: seconds that it ran, times its cores.
    :param gpu_seconds: seconds that it ran, times its GPUs.
    """

    at: float
    cpu_seconds: float
    gpu_seconds: float


def spent(connection: sa.Connection, name: str) -> list[Spent]:
    """Return what each ended attempt of an experiment has used, in the order of their ends."""
    c = runs.c
    start = sa.func.coalesce(c.started_at, c.submitted_at, c.requested_at)
    end = sa.func.coalesce(c.ended_at, c.finished_at)
    query = sa.select(end.label("end"), start.label("start"), c.cpus, c.gpus).where(c.experiment == name)
    rows = connection.execute(query.where(c.finished_at.is_not(None)).order_by(end))
    return [
        Spent(row.end, max(0.0, row.end - row.start) * row.cpus, max(0.0, row.end - row.start) * row.gpus)
        for row in rows
    ]


def completion_times(connection: sa.Connection, name: str) -> dict[int, float]:
    """Return when each COMPLETED trial was completed, in the order of these times."""
    c = trials.c
    query = sa.select(c.trial_index, c.completed_at).where(c.experiment == name, c.status == TrialStatus.COMPLETED)
    rows = connection.execute(query.where(c.completed_at.is_not(None)).order_by(c.completed_at, c.trial_index))
    return {row.trial_index: row.completed_at for row in rows}


def first_request(connection: sa.Connection, name: str) -> float | None:
    """Return when the first trial of an experiment was created, or None."""
    first = sa.select(trials.c.created_at).where(trials.c.experiment == name).order_by(trials.c.trial_index).limit(1)
    return connection.scalar(first)


def curves(
    connection: sa.Connection, name: str, metric: str, indexes: sa.Select[Any] | Collection[int], most: int
) -> dict[int, list[tuple[float, float]]]:
    """Return the (step, mean) of a metric by trial, in order of steps.

    :param most: about so many points of each trial are returned, evenly spread, with the first and the last.
    """
    c = observations.c
    numbered = (
        sa.select(
            *(c.trial_index, c.step, c.mean),
            sa.func.row_number().over(partition_by=c.trial_index, order_by=c.step).label("number"),
            sa.func.count().over(partition_by=c.trial_index).label("total"),
        )
        .where(c.experiment == name, c.metric == metric, c.step.is_not(None), c.trial_index.in_(indexes))
        .subquery()
    )
    n = numbered.c
    # Counting in steps of ``most`` passes the total once for each point that is kept.
    kept = sa.or_(n.number == 1, n.number == n.total, n.total <= most, (n.number * most) % n.total < most)
    found: dict[int, list[tuple[float, float]]] = {}
    query = sa.select(n.trial_index, n.step, n.mean).where(kept).order_by(n.trial_index, n.step)
    for row in connection.execute(query):
        found.setdefault(row.trial_index, []).append((row.step, row.mean))
    return found


def stepped_metrics(connection: sa.Connection, name: str, indexes: Collection[int]) -> list[str]:
    """Return the metrics of which some trials have progressive observations."""
    c = observations.c
    query = sa.select(c.metric).where(c.experiment == name, c.trial_index.in_(indexes), c.step.is_not(None)).distinct()
    return sorted(connection.scalars(query))


def has_steps(name: str) -> sa.Exists:
    """Return whether an experiment has progressive observations, as an expression."""
    return sa.exists().where(observations.c.experiment == name, observations.c.step.is_not(None))
