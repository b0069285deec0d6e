"""What ``AxOptimizeOperator`` checks of its arguments when the DAG is parsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.analysis import AnalysisPlan
from airflow_provider_axtx.core.inputs import as_object, is_templated
from airflow_provider_axtx.operators.base import as_if_exists, as_on_change, check_experiment_at_parse
from airflow_provider_axtx.spec.limits import check_at_parse

if TYPE_CHECKING:
    from airflow_provider_axtx.operators.optimize import AxOptimizeOperator


def check_optimize_at_parse(task: AxOptimizeOperator, limits: Sequence[str]) -> None:
    """Check what is a literal.

    :param task: the operator, with its arguments as attributes.
    :param limits: the names of its limits.
    :raises InvalidInputError: names the argument and the value.
    """
    check_experiment_at_parse(task.experiment, task.component, task.component_args)
    check_at_parse(**{name: getattr(task, name) for name in limits})
    checks: dict[str, Callable[[object], object]] = {"if_exists": as_if_exists, "on_change": as_on_change}
    for name, check in {**checks, "analyze": AnalysisPlan.load}.items():
        if not is_templated(getattr(task, name)):
            check(getattr(task, name))
    for name in ("component_args", "scheduler_args"):
        if not is_templated(getattr(task, name)):
            as_object(name, getattr(task, name))
