"""Translates Ax's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.optimizer.ax_logging import quiet_import

with quiet_import():
    from ax.exceptions.core import DataRequiredError, UnsupportedError, UserInputError
    from ax.exceptions.generation_strategy import (
        GenerationStrategyMisconfiguredException,
        MaxParallelismReachedException,
    )
    from botorch.exceptions.errors import InfeasibilityError

#: Ax waits for results of trials in flight.
PENDING = (DataRequiredError, MaxParallelismReachedException)
#: What a user has to change. Any other error out of Ax passes as it is, and Airflow tries the task again: a ValueError
#: or a RuntimeError comes from numerical code as well (``numpy.linalg.LinAlgError`` is a ValueError), where another try
#: may succeed.
_USER_ERRORS = (UserInputError, UnsupportedError, GenerationStrategyMisconfiguredException, InfeasibilityError)


@contextlib.contextmanager
def readable_errors(experiment: str) -> Iterator[None]:
    """Translate Ax's errors about unusable input; "finished", "wait for results" and other errors pass through."""
    try:
        yield
    except _USER_ERRORS as error:
        raise InvalidInputError(
            f"Ax cannot work with experiment {experiment!r}: {type(error).__name__}: {error}",
            fix="check bounds, parameter_constraints and outcome_constraints against each other.",
        ) from error
