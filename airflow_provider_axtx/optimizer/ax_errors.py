"""Translates Ax's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.optimizer.ax_logging import quiet_import

with quiet_import():
    from ax.exceptions.core import DataRequiredError, OptimizationComplete, UnsupportedError, UserInputError
    from ax.exceptions.generation_strategy import MaxParallelismReachedException
    from botorch.exceptions.errors import InfeasibilityError

#: Ax waits for results of trials in flight.
PENDING = (DataRequiredError, MaxParallelismReachedException)
_USER_ERRORS = (UserInputError, UnsupportedError, ValueError, KeyError, InfeasibilityError)


@contextlib.contextmanager
def readable_errors(experiment: str) -> Iterator[None]:
    """Translate Ax's errors about unusable input; "finished" and "wait for results" pass through."""
    try:
        yield
    except (OptimizationComplete, *PENDING):
        raise
    except _USER_ERRORS as error:
        raise InvalidInputError(
            f"Ax cannot work with experiment {experiment!r}: {type(error).__name__}: {error}",
            fix="check bounds, parameter_constraints and outcome_constraints against each other.",
        ) from error
