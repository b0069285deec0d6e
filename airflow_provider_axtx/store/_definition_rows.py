"""The SQL steps on changes of a definition. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import StoreConflictError
from airflow_provider_axtx.core.records import EarlierDefinition
from airflow_provider_axtx.core.steering import Action, Change, NewChange
from airflow_provider_axtx.store import _change_rows, _experiment_rows
from airflow_provider_axtx.store.tables import changes, experiments, trials


def apply(
    connection: sa.Connection,
    asked: Change | NewChange,
    name: str,
    definition: dict[str, Any],
    differences: Sequence[str],
    expected_version: int,
) -> Change:
    """Put a definition in place of the recorded one, and record that the change is carried out."""
    before = _experiment_rows.require(connection, name).spec
    # The UPDATE both compares and locks the row: of two tasks one waits, then sees the new version.
    swapped = connection.execute(
        sa.update(experiments)
        .where(experiments.c.name == name, experiments.c.version == expected_version)
        .values(version=expected_version + 1, spec=definition)
    )
    if isinstance(asked, Change):
        known = _change_rows.require(connection, name, asked.position)
    else:
        known = _change_rows.add(connection, name, asked)
    if swapped.rowcount == 0:
        if known.settled_at is not None:
            return known  # our own earlier call, whose commit went through although the connection broke
        raise StoreConflictError(
            f"The experiment {name!r} has changed meanwhile (expected version {expected_version}).",
            fix="read it again, and compare the definitions anew.",
        )
    newest = connection.scalar(sa.select(sa.func.max(trials.c.trial_index)).where(trials.c.experiment == name))
    first = 0 if newest is None else newest + 1
    if not _change_rows.settle(connection, known, f"from trial {first} on", time.time()):
        # Rolls back: the user has withdrawn it.
        raise StoreConflictError(
            f"Change {known.position} of {name!r} was settled by another process.", fix="read the open changes again."
        )
    carried_out = {"before": before, "version": expected_version + 1, "differences": list(differences)}
    connection.execute(
        sa.update(changes)
        .where(changes.c.experiment == name, changes.c.position == known.position)
        .values(trial_index=first, arguments={**known.arguments, **carried_out})
    )
    return _change_rows.require(connection, name, known.position)


def history(connection: sa.Connection, name: str) -> tuple[EarlierDefinition, ...]:
    """Return the definitions that the experiment had before, the first one first."""
    c = changes.c
    carried_out = (c.experiment == name, c.action == str(Action.CHANGE_DEFINITION), c.trial_index.is_not(None))
    rows = connection.execute(sa.select(c.arguments, c.trial_index).where(*carried_out)).all()
    found = sorted(rows, key=lambda row: int(row.arguments["version"]))
    return tuple(EarlierDefinition(row.arguments["before"], row.trial_index) for row in found)
