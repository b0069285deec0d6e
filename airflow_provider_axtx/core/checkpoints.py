"""What becomes of checkpoints: the values that operators take."""

from __future__ import annotations

from typing import Literal

from airflow_provider_axtx.core.inputs import as_choice, given_or

RetryFrom = Literal["checkpoint", "beginning"]
Keep = Literal["all", "best", "none"]

_RETRY_FROM: tuple[RetryFrom, ...] = ("checkpoint", "beginning")
_KEEP: tuple[Keep, ...] = ("all", "best", "none")


def as_retry_from(value: object) -> RetryFrom:
    """Return where an attempt after a trial's first begins; ``checkpoint`` when it is not given.

    :raises InvalidInputError: when it is something else.
    """
    return as_choice("retry_from", given_or("checkpoint", value), _RETRY_FROM)


def as_keep(value: object) -> Keep:
    """Return of which trials the checkpoints are kept; ``all`` when it is not given.

    :raises InvalidInputError: when it is something else.
    """
    return as_choice("keep_checkpoints", given_or("all", value), _KEEP)
