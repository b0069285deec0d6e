"""Task decorators: ``@task.ax_optimize`` tunes a Python function, and with ``@task.ax_trial`` a call of it is a trial.

What a DAG file needs for them is imported from here: ``Range``, ``Choice``, ``Report``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from airflow.sdk import XComArg
from airflow.sdk.bases.decorator import TaskDecorator, _TaskDecorator, task_decorator_factory

from airflow_provider_axtx.core.search_space import Choice, Range, Report
from airflow_provider_axtx.operators._defaults import add_own_defaults
from airflow_provider_axtx.operators.functions import (
    AxOptimizeFunctionOperator,
    AxTrialFunctionOperator,
    takes_trial,
    tuned,
)

__all__ = [
    "AxOptimizeFunctionOperator",
    "AxTrialFunctionOperator",
    "Choice",
    "Range",
    "Report",
    "ax_optimize_task",
    "ax_trial_task",
    "tuned",
]


class _TunedFunction(_TaskDecorator[..., Any, AxOptimizeFunctionOperator]):
    """A function with ``@task.ax_optimize``: its mapped tasks have the defaults of the operator, such as retries."""

    def expand(self, **mapped: Any) -> XComArg:
        """Return the task, once for each of the values."""
        return self._with_defaults(super().expand(**mapped))

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> XComArg:
        """Return the task, once for each of the objects."""
        return self._with_defaults(super().expand_kwargs(kwargs, strict=strict))

    @staticmethod
    def _with_defaults(made: XComArg) -> XComArg:
        for operator, _ in made.iter_references():
            add_own_defaults(operator)
        return made


def ax_optimize_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator | Any:
    """Turn a function into a task that tunes it; see ``AxOptimizeFunctionOperator``.

    :param python_callable: the function; without it, what decorates one.
    """
    if python_callable is None:
        return functools.partial(ax_optimize_task, **kwargs)
    outputs = {name: kwargs.pop(name) for name in ("multiple_outputs",) if name in kwargs}
    return _TunedFunction(function=python_callable, operator_class=AxOptimizeFunctionOperator, kwargs=kwargs, **outputs)


def ax_trial_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator | Any:
    """Turn a function into a task that runs it for one trial; see ``AxTrialFunctionOperator``.

    :param python_callable: the function; without it, what decorates one.
    """
    if python_callable is None:
        return functools.partial(ax_trial_task, **kwargs)
    return task_decorator_factory(
        python_callable=takes_trial(python_callable), decorated_operator_class=AxTrialFunctionOperator, **kwargs
    )
