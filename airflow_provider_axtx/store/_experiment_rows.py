"""The SQL steps on an experiment's own row. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import (
    ExperimentExistsError,
    ExperimentNotFoundError,
    InvalidInputError,
)
from airflow_provider_axtx.core.experiment_name import EXPERIMENT_NAME_FIX, is_experiment_name
from airflow_provider_axtx.core.ownership import Ownership
from airflow_provider_axtx.store.tables import experiments, trials

_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class ExperimentSummary:
    """One line of an overview. Times are seconds since the epoch (UTC).

    :param name: the experiment's name.
    :param created_at: when it was created.
    :param ax_version: the version of Ax that it was created with; may be empty.
    :param trial_counts: Ax ``TrialStatus`` name -> number of trials; statuses without a trial are absent.
    :param last_activity_at: when it was created or, later, when a trial last changed its status.
    :param stop_reason: why the experiment has ended, or None while it may go on.
    :param planned_trials: how many trials it is meant to have, if known.
    """

    name: str
    created_at: float
    ax_version: str
    trial_counts: dict[str, int]
    last_activity_at: float
    stop_reason: str | None
    planned_trials: int | None = None


def checked_name(name: str) -> str:
    """Return the experiment's name.

    :raises InvalidInputError: when it is not allowed.
    """
    if not isinstance(name, str) or not is_experiment_name(name):
        raise InvalidInputError(f"The experiment's name cannot be {name!r}.", fix=EXPERIMENT_NAME_FIX)
    return name


def not_found(name: str) -> ExperimentNotFoundError:
    """Return the error for an experiment that the store does not have."""
    return ExperimentNotFoundError(
        f"The store has no experiment {name!r}.",
        fix="create it first (AxCreateExperimentOperator), or check experiment_name and ax_conn_id.",
    )


@functools.cache
def _by_name(*columns: sa.Column[Any]) -> sa.Select[Any]:
    wanted = sa.select(*columns) if columns else sa.select(experiments)
    return wanted.where(experiments.c.name == sa.bindparam("of_name"))


def require(connection: sa.Connection, name: str, *columns: sa.Column[Any]) -> sa.Row[Any]:
    """Return the experiment's row, or only some columns of it: its generator state grows to megabytes.

    :raises ExperimentNotFoundError: when there is none.
    """
    row = connection.execute(_by_name(*columns), {"of_name": name}).one_or_none()
    if row is None:
        raise not_found(name)
    return row


def definition(connection: sa.Connection, name: str) -> dict[str, Any]:
    """Return the experiment's definition, without its generator state, which grows to megabytes."""
    found: dict[str, Any] | None = connection.scalar(sa.select(experiments.c.spec).where(experiments.c.name == name))
    if found is None:
        raise not_found(name)
    return found


def create(
    connection: sa.Connection,
    name: str,
    uid: str,
    spec: dict[str, Any],
    *,
    if_exists: str,
    ax_version: str,
    created_by: dict[str, Any] | None,
) -> bool:
    """Insert the experiment unless it exists; return whether it is the one with this ``uid``."""
    found = connection.execute(sa.select(experiments).where(experiments.c.name == name)).one_or_none()
    if found is None:
        values = {"name": name, "uid": uid, "spec": spec, "version": 0, "created_at": time.time()}
        connection.execute(sa.insert(experiments).values(**values, ax_version=ax_version, created_by=created_by))
        return True
    if found.uid == uid:
        return True  # our own earlier call, whose commit went through although the connection broke
    if if_exists == "fail":
        raise ExperimentExistsError(
            f"The experiment {name!r} exists already.",
            fix='choose another name, or if_exists="resume" to add trials to it.',
        )
    _refuse_another_spec(name, found.spec, json.loads(json.dumps(spec)))
    return False


def _refuse_another_spec(name: str, stored: dict[str, Any], given: dict[str, Any]) -> None:
    differing = sorted(key for key in stored.keys() | given.keys() if stored.get(key) != given.get(key))
    if not differing:
        return
    lines = [f"{key}: stored {_shown(stored.get(key))}, given {_shown(given.get(key))}" for key in differing]
    raise ExperimentExistsError(
        f"The experiment {name!r} exists with another definition: {'; '.join(lines)}.",
        fix="restore the stored values, or choose another name for the new definition.",
    )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def ownership(connection: sa.Connection, name: str) -> Ownership:
    """Return whose the experiment is."""
    row = connection.execute(sa.select(experiments.c.created_by).where(experiments.c.name == name)).one_or_none()
    if row is None:
        raise not_found(name)
    return Ownership.from_json(row.created_by)


def share(connection: sa.Connection, name: str, shared_with: tuple[str, ...]) -> None:
    """Record with which DAGs the experiment is shared."""
    query = sa.select(experiments.c.created_by).where(experiments.c.name == name).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise not_found(name)
    owner = Ownership.from_json(row.created_by)
    kept = {key: value for key, value in (row.created_by or {}).items() if key not in owner.to_json()}
    changed = {**kept, **Ownership(owner.dag_id, shared_with).to_json()}
    connection.execute(sa.update(experiments).where(experiments.c.name == name).values(created_by=changed or None))


def record_app(connection: sa.Connection, name: str, app: dict[str, Any], replace: bool) -> dict[str, Any]:
    """Record what the trials run, unless something is recorded; return what is recorded."""
    c = experiments.c
    free = c.name == name if replace else sa.and_(c.name == name, c.app.is_(None))
    connection.execute(sa.update(experiments).where(free).values(app=app))
    recorded: dict[str, Any] = require(connection, name).app
    return recorded


def summaries(connection: sa.Connection, names: Collection[str] | None = None) -> list[ExperimentSummary]:
    """Return the summary of every experiment, or of those named, in the order of their names."""
    counted = sa.select(
        trials.c.experiment,
        trials.c.status,
        sa.func.count().label("number"),
        sa.func.max(trials.c.updated_at).label("last"),
    ).group_by(trials.c.experiment, trials.c.status)
    if names is not None:
        counted = counted.where(trials.c.experiment.in_(names))
    by_status = counted.subquery()
    e = experiments.c
    query = sa.select(
        e.name,
        e.created_at,
        e.ax_version,
        e.stop_reason,
        e.planned_trials,
        by_status.c.status,
        by_status.c.number,
        by_status.c.last,
    ).select_from(experiments.outerjoin(by_status, by_status.c.experiment == e.name))
    rows: dict[str, list[Any]] = {}
    for row in connection.execute(query if names is None else query.where(e.name.in_(names))):
        rows.setdefault(row.name, []).append(row)
    return [_summary(rows[found]) for found in sorted(rows)]


def _summary(rows: list[Any]) -> ExperimentSummary:
    first = rows[0]
    counted = [row for row in rows if row.status is not None]
    return ExperimentSummary(
        name=first.name,
        created_at=first.created_at,
        ax_version=first.ax_version,
        trial_counts={row.status: row.number for row in sorted(counted, key=lambda row: str(row.status))},
        last_activity_at=max([first.created_at, *(row.last for row in counted)]),
        stop_reason=first.stop_reason,
        planned_trials=first.planned_trials,
    )


def finish(connection: sa.Connection, name: str, reason: str) -> str:
    """Record why the experiment ended; the first reason stays. Returns the recorded one."""
    connection.execute(
        sa.update(experiments)
        .where(experiments.c.name == name, experiments.c.stop_reason.is_(None))
        .values(stop_reason=reason, stopped_at=time.time())
    )
    return str(require(connection, name).stop_reason)


def plan(connection: sa.Connection, name: str, planned_trials: int) -> None:
    """Record how many trials the experiment is meant to have."""
    require(connection, name)
    c = experiments.c
    changed = sa.or_(c.planned_trials.is_(None), c.planned_trials != planned_trials)
    connection.execute(sa.update(experiments).where(c.name == name, changed).values(planned_trials=planned_trials))


def is_leased_by_another(connection: sa.Connection, name: str, owner: str) -> bool:
    """Return whether somebody else holds a lease that has not expired."""
    row = require(connection, name)
    return row.lease_owner not in (None, owner) and row.lease_expires_at > time.time()


def take_lease(connection: sa.Connection, name: str, owner: str, seconds: float) -> bool:
    """Take the lease when it is free, expired or ours; return whether it is ours now.

    :raises ExperimentNotFoundError: when there is no such experiment.
    """
    now, c = time.time(), experiments.c
    free = sa.or_(c.lease_owner.is_(None), c.lease_owner == owner, c.lease_expires_at <= now)
    taken = connection.execute(
        sa.update(experiments).where(c.name == name, free).values(lease_owner=owner, lease_expires_at=now + seconds)
    )
    if taken.rowcount == 0:
        require(connection, name)
    return taken.rowcount == 1


def release_lease(connection: sa.Connection, name: str, owner: str) -> None:
    """Give the lease back if it is still ours."""
    connection.execute(
        sa.update(experiments)
        .where(experiments.c.name == name, experiments.c.lease_owner == owner)
        .values(lease_owner=None, lease_expires_at=None)
    )
