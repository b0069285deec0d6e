"""The SQL steps on the changes that users ask for. Each runs inside one transaction."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import InvalidInputError, StoreConflictError, TrialStateError
from airflow_provider_axtx.core.records import Proposal, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import TrialStatus, is_terminal_trial_status
from airflow_provider_axtx.core.steering import EDITABLE_LIMITS, WAKING_ACTIONS, Action, Asked, Change, NewChange
from airflow_provider_axtx.store import _experiment_rows, _removal_rows, _trial_rows
from airflow_provider_axtx.store.tables import KEY_LENGTH, REQUEST_ID_LENGTH, changes, experiments, loops, trials

#: Starts of the recorded reasons for which a loop has ended, and which a change takes back.
_TAKEN_BACK = {
    Action.RUN: (f"{Action.DRAIN}:", f"{Action.STOP}:"),
    Action.LIMITS: tuple(f"{name}:" for name in EDITABLE_LIMITS),
    Action.CHANGE_DEFINITION: ("SearchSpaceExhausted:", "OptimizationShouldStop:", "global_stopping:"),
}


def select(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return the query for changes that meet all conditions, in order of experiment and position."""
    c, t = changes.c, trials.c
    of_trial = changes.outerjoin(trials, sa.and_(t.experiment == c.experiment, t.trial_index == c.trial_index))
    query = sa.select(changes, t.status.label("trial_status")).select_from(of_trial).where(*conditions)
    return query.order_by(c.experiment, c.position)


def record(row: sa.Row[Any]) -> Change:
    """Return the row as plain data."""
    return Change(
        experiment=row.experiment,
        position=row.position,
        request_id=row.request_id,
        action=row.action,
        requested_by=row.requested_by,
        via=row.via,
        requested_at=row.requested_at,
        reason=row.reason,
        trial_index=row.trial_index,
        arguments=row.arguments,
        settled_at=row.settled_at,
        outcome=row.outcome,
        trial_status=row.trial_status,
    )


_OF_EXPERIMENTS = select(changes.c.experiment.in_(sa.bindparam("names", expanding=True)))


def of_experiments(connection: sa.Connection, names: Collection[str]) -> dict[str, list[Change]]:
    """Return the changes of each of these experiments in their order."""
    found: dict[str, list[Change]] = {name: [] for name in names}
    for row in connection.execute(_OF_EXPERIMENTS, {"names": list(names)}):
        found[row.experiment].append(record(row))
    return found


def last_asked(connection: sa.Connection, names: Collection[str]) -> list[Asked]:
    """Return the last change of each kind that wakes a waiting task."""
    c = changes.c
    query = (
        sa.select(c.experiment, c.action, c.trial_index, sa.func.max(c.position))
        .where(c.experiment.in_(list(names)), c.action.in_([str(action) for action in WAKING_ACTIONS]))
        .group_by(c.experiment, c.action, c.trial_index)
    )
    return [Asked(*row) for row in connection.execute(query)]


def newest_waking(connection: sa.Connection, name: str) -> int:
    """Return the position of the last change that wakes a waiting task, -1 without one.

    Users who ask for something else wait until the transaction ends.
    """
    connection.execute(sa.select(experiments.c.name).where(experiments.c.name == name).with_for_update())
    c = changes.c
    waking = (c.experiment == name, c.action.in_([str(action) for action in WAKING_ACTIONS]))
    newest = connection.scalar(sa.select(sa.func.max(c.position)).where(*waking))
    return -1 if newest is None else int(newest)


def is_archived(name: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return whether an experiment is archived, as an expression."""
    c = changes.c
    is_of = (c.experiment == name, c.action.in_([str(Action.ARCHIVE), str(Action.UNARCHIVE)]))
    last = sa.select(c.action).where(*is_of).order_by(c.position.desc()).limit(1).scalar_subquery()
    return sa.func.coalesce(last, "") == str(Action.ARCHIVE)


def add(connection: sa.Connection, name: str, new: NewChange) -> Change:
    """Record a change; see ``ExperimentStore.steer``."""
    if not 0 < len(new.request_id) <= REQUEST_ID_LENGTH:
        raise InvalidInputError(
            f"The request id cannot be {new.request_id!r}.", fix=f"choose one of 1 to {REQUEST_ID_LENGTH} characters."
        )
    # Users who ask at once take turns: each change gets a position of its own.
    owner = connection.execute(sa.select(experiments).where(experiments.c.name == name).with_for_update()).one_or_none()
    if owner is None:
        raise _experiment_rows.not_found(name)
    c = changes.c
    if (known := connection.execute(select(c.experiment == name, c.request_id == new.request_id)).first()) is not None:
        return _repeated(record(known), new)
    newest = connection.scalar(sa.select(sa.func.max(c.position)).where(c.experiment == name))
    position, now = 0 if newest is None else newest + 1, time.time()
    _check_trial(connection, name, new)
    if new.action == Action.DELETE and (reason := _removal_rows.open_because(connection, owner, lock=False)):
        raise TrialStateError(
            f"The experiment {name!r} cannot be deleted: {reason}.",
            fix="stop it, and ask again when its tasks have ended.",
        )
    if new.action == Action.WITHDRAW:
        _withdraw(connection, name, new, now)
    connection.execute(
        sa.insert(changes).values(
            experiment=name,
            position=position,
            request_id=new.request_id,
            action=str(new.action),
            trial_index=new.trial_index,
            arguments=new.arguments,
            reason=new.reason,
            requested_by=new.requested_by[:KEY_LENGTH],
            via=new.via,
            requested_at=now,
        )
    )
    _take_reasons_back(connection, name, new.action)
    return require(connection, name, position)


def require(connection: sa.Connection, name: str, position: int) -> Change:
    """Return a change.

    :raises InvalidInputError: when there is none at this position.
    """
    row = connection.execute(select(changes.c.experiment == name, changes.c.position == position)).one_or_none()
    if row is None:
        raise InvalidInputError(
            f"The experiment {name!r} has no change {position}.", fix="read the list of its changes again."
        )
    return record(row)


def _repeated(known: Change, new: NewChange) -> Change:
    # Of a change of a definition more is recorded when it is carried out.
    arguments = {key: value for key, value in known.arguments.items() if key in new.arguments}
    trial_index = None if new.action == Action.CHANGE_DEFINITION else known.trial_index
    if (known.action, trial_index, arguments) != (str(new.action), new.trial_index, new.arguments):
        raise InvalidInputError(
            f"The request id {new.request_id!r} was used for another change of {known.experiment!r} ({known.action}).",
            fix="choose another request id for each change.",
        )
    return known


def _check_trial(connection: sa.Connection, name: str, new: NewChange) -> None:
    """Refuse a change that does not fit the status of its trial."""
    if new.trial_index is None:
        return
    status = _trial_rows.require(connection, name, new.trial_index, lock=True).status
    if new.action == Action.RETRY_TRIAL and status != TrialStatus.FAILED:
        raise TrialStateError(
            f"Trial {new.trial_index} of {name!r} is {status}, and only a FAILED one can be run again.",
            fix="queue a trial with its parameters instead.",
        )
    if new.action == Action.STOP_TRIAL and is_terminal_trial_status(status):
        raise TrialStateError(
            f"Trial {new.trial_index} of {name!r} is {status} already and cannot be stopped.", fix="leave it."
        )


def _withdraw(connection: sa.Connection, name: str, new: NewChange, now: float) -> None:
    """Settle the change that is withdrawn, unless a task was faster.

    :raises TrialStateError: when it is not open any more.
    """
    asked = require(connection, name, int(new.arguments["position"]))
    if not asked.is_open or not settle(connection, asked, f"withdrawn by {new.requested_by}", now):
        raise TrialStateError(
            f"Change {asked.position} of {name!r} is not open: {asked.outcome or 'no task has to carry it out'}.",
            fix="look at what has become of it.",
        )


def settle(connection: sa.Connection, change: Change, outcome: str, now: float) -> bool:
    """Record what became of a change, once; return whether this call did."""
    c = changes.c
    is_open = (c.experiment == change.experiment, c.position == change.position, c.settled_at.is_(None))
    settled = connection.execute(sa.update(changes).where(*is_open).values(settled_at=now, outcome=outcome))
    return settled.rowcount == 1


def _take_reasons_back(connection: sa.Connection, name: str, action: Action) -> None:
    """Let loops decide anew that have ended for a reason which the change removes."""
    if action not in _TAKEN_BACK:
        return
    for table, key in ((loops, loops.c.experiment), (experiments, experiments.c.name)):
        reason = table.c.stop_reason
        known = sa.or_(*(reason.startswith(start) for start in _TAKEN_BACK[action]))
        resumed = {"stop_reason": None} | ({"stopped_at": None} if table is experiments else {})
        connection.execute(sa.update(table).where(key == name, known).values(**resumed))


def add_queued_trial(
    connection: sa.Connection,
    change: Change,
    proposal: Proposal,
    task: str,
    slot: int,
    expected_version: int,
    requested_by: TaskIdentity | None,
) -> TrialRecord:
    """Record the trial that a user has asked for, and that it is carried out; see ``ExperimentStore``."""
    if known := _trial_rows.granted(connection, change.experiment, task, first=slot):
        return known[0]  # our own earlier call, whose commit went through although the connection broke
    (added,) = _trial_rows.add(connection, change.experiment, proposal, task, slot, expected_version, requested_by)
    if not settle(connection, change, f"trial {added.index}", time.time()):
        # Rolls back: another task has recorded the trial, or the user has withdrawn it.
        raise StoreConflictError(
            f"Change {change.position} of {change.experiment!r} was settled by another process.",
            fix="read the open changes again.",
        )
    return added


def reopen_trial(connection: sa.Connection, change: Change) -> TrialRecord:
    """Make a FAILED trial a CANDIDATE again, and record that this is carried out; see ``ExperimentStore``."""
    index = change.trial_index
    if index is None:
        raise InvalidInputError(f"Change {change.position} names no trial.", fix="pass a change of retry_trial.")
    trial = _trial_rows.require(connection, change.experiment, index, lock=True)
    runs_again = trial.status == TrialStatus.FAILED
    outcome = f"trial {index} runs again" if runs_again else f"trial {index} is {trial.status} already"
    if settle(connection, change, outcome, time.time()) and runs_again:
        _trial_rows.reopen(connection, trial, f"run again, {change.asked}")
    return _trial_rows.record(_trial_rows.require(connection, change.experiment, index))
