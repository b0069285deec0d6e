"""The SQL steps on observations. Each runs inside one transaction of ``ExperimentStore``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.numbers import finite
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.store.tables import KEY_LENGTH, observations

#: The columns of an ``Observation`` in the order of its fields.
_OBSERVATION = (
    observations.c.trial_index,
    observations.c.metric,
    observations.c.mean,
    observations.c.sem,
    observations.c.step,
)

# Made once: to put a statement together takes as long as to execute it.
_NAME: sa.BindParameter[str] = sa.bindparam("name")
_OBSERVED = sa.select(*_OBSERVATION).where(observations.c.experiment == _NAME)
_NEW = sa.insert(observations)
_OBSERVED_OF_TRIAL = _OBSERVED.where(observations.c.trial_index == sa.bindparam("index"))


def observed(connection: sa.Connection, name: str, index: int | None = None) -> tuple[Observation, ...]:
    """Return the observations of the experiment, or of one trial, in order of trial index, metric, step."""
    if index is None:
        rows = connection.execute(_OBSERVED, {"name": name}).all()
    else:
        rows = connection.execute(_OBSERVED_OF_TRIAL, {"name": name, "index": index}).all()
    # Sorted here: databases sort text by their own collations, and Ax's candidates depend on the order.
    return _in_order(Observation(*row) for row in rows)


def _in_order(given: Iterable[Observation]) -> tuple[Observation, ...]:
    """Return observations by trial, metric and step, the final value last."""
    return tuple(sorted(given, key=lambda o: (o.trial_index, o.metric, o.step is None, o.step or 0.0)))


def checked(index: int, given: Iterable[Observation]) -> tuple[Observation, ...]:
    """Return a trial's observations in order.

    :raises InvalidInputError: for those that cannot be kept.
    """
    ordered = _in_order(_checked_one(index, observation) for observation in given)
    for one, other in pairwise(ordered):
        if (one.metric, one.step) == (other.metric, other.step):
            raise InvalidInputError(
                f"Trial {index} has metric {one.metric!r} twice for step {one.step}.", fix="report each value once."
            )
    return ordered


def _checked_one(index: int, given: Observation) -> Observation:
    mean, sem, step = finite(given.mean), finite(given.sem), finite(given.step)
    if mean is None or (sem is None) != (given.sem is None) or (step is None) != (given.step is None):
        raise InvalidInputError(
            f"Trial {index}, metric {given.metric!r}: mean {given.mean!r}, sem {given.sem!r} and step {given.step!r} "
            "must be finite numbers.",
            fix="complete the trial as FAILED with the reason, and pass what was reported as evidence.",
        )
    if given.trial_index != index or not given.metric or len(given.metric) > KEY_LENGTH:
        raise InvalidInputError(
            f"Metric {given.metric!r}, observed for trial {given.trial_index}, cannot be kept with trial {index}.",
            fix=f"pass the trial's own observations, with metric names of 1 to {KEY_LENGTH} characters.",
        )
    return Observation(index, given.metric, mean, sem, step)


def replace_all(connection: sa.Connection, row: sa.Row[Any], given: Sequence[Observation]) -> None:
    c = observations.c
    connection.execute(sa.delete(observations).where(c.experiment == row.experiment, c.trial_index == row.trial_index))
    insert(connection, row.experiment, row.trial_index, given, first=0)


def insert(connection: sa.Connection, name: str, index: int, given: Sequence[Observation], *, first: int) -> None:
    """Insert observations at positions from ``first`` on, which is how many the trial has."""
    if given:
        connection.execute(
            _NEW,
            [
                {
                    "experiment": name,
                    "trial_index": index,
                    "position": position,
                    "metric": observation.metric,
                    "mean": observation.mean,
                    "sem": observation.sem,
                    "step": observation.step,
                }
                for position, observation in enumerate(given, first)
            ],
        )
