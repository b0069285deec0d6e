"""Promotion of paused trials: what a DAG file is checked for, and which attempts are counted at a pause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import AttemptRecord


def budget_argument(experiment: object) -> str | None:
    """Return the argument by which the apps of an experiment are told how far to go, or None.

    :param experiment: the definition as an operator was given it, or as it was read.
    """
    found = experiment
    for name in ("early_stopping", "promotion", "argument"):
        found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
    return found if isinstance(found, str) else None


def refuse_promotion(experiment: object) -> None:
    """Refuse an experiment whose trials are promoted: each of them needs one task for all of its attempts.

    :raises InvalidInputError: it has ``promotion``.
    """
    if (argument := budget_argument(experiment)) is not None:
        raise InvalidInputError(
            f"early_stopping.promotion (argument {argument!r}) is not possible in a loop of tasks.",
            fix="use AxOptimizeOperator, or leave promotion out: trials are then stopped while they run.",
        )


def since_last_pause(attempts: Sequence[AttemptRecord]) -> list[AttemptRecord]:
    """Return the attempts of a trial without those that had ended when it paused before."""
    paused = [n for n, one in enumerate(attempts[:-1], 1) if one.budget is not None and one.app_state == "SUCCEEDED"]
    return list(attempts[paused[-1] if paused else 0 :])
