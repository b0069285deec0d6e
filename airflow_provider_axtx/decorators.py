"""Task decorators: ``@task.ax_optimize`` tunes a Python function, and with ``@task.ax_trial`` a call of it is a trial.

What a DAG file needs for them is imported from here: ``Range``, ``Choice``, ``Report``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from airflow.sdk.bases.decorator import TaskDecorator, task_decorator_factory

from airflow_provider_axtx.core.search_space import Choice, Range, Report
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


def ax_optimize_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function into a task that tunes it; see ``AxOptimizeFunctionOperator``.

    :param python_callable: the function.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=AxOptimizeFunctionOperator, **kwargs
    )


def ax_trial_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator | Any:
    """Turn a function into a task that runs it for one trial; see ``AxTrialFunctionOperator``.

    :param python_callable: the function; without it, what decorates one.
    """
    if python_callable is None:
        return functools.partial(ax_trial_task, **kwargs)
    return task_decorator_factory(
        python_callable=takes_trial(python_callable), decorated_operator_class=AxTrialFunctionOperator, **kwargs
    )
