"""``@task.ax_optimize``: a Python function is tuned, with the search space in its annotations.

What a DAG file needs for it is imported from here: ``Range``, ``Choice``, ``Report``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.function_source import packed, reference_of, source_of
from airflow_provider_axtx.core.search_space import Choice, Range, Report, read_function
from airflow_provider_axtx.core.shipped import FUNCTION
from airflow_provider_axtx.operators.optimize import AxOptimizeOperator

__all__ = ["AxOptimizeFunctionOperator", "Choice", "Range", "Report", "ax_optimize_task", "tuned"]


class AxOptimizeFunctionOperator(DecoratedOperator, AxOptimizeOperator):
    """The operator behind ``@task.ax_optimize``: tunes a function, each call of which is an app of its own.

    The other parameters are those of ``AxOptimizeOperator``.

    :param python_callable: the function. Parameters with ``Range``, ``Choice`` or ``Literal`` in their annotations are
        tuned; one with the annotation ``Report`` gets what reports progress; the others have the values of the call in
        the DAG, or their defaults.
    :param objective: what to maximize, in terms of the metrics that the function returns: ``"accuracy"``, ``"-loss"``.
    :param name: name of the experiment; by default each DAG run has an experiment of its own.
    :param experiment: further fields of the experiment, such as ``outcome_constraints`` or ``early_stopping``.
    :param component_args: resources of a call: ``cpu``, ``gpu``, ``memMB``, ``named_resource``, ``image``, ``env``,
        ``mounts``, ``num_replicas``, ``python``.
    :param by_reference: the app imports the function from its module. Without it the function's source is sent, which
        has to stand alone: it imports inside what it needs.
    """

    template_fields: Sequence[str] = (*AxOptimizeOperator.template_fields, *DecoratedOperator.template_fields)
    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **AxOptimizeOperator.template_fields_renderers,
    }
    custom_operator_name: str = "@task.ax_optimize"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        objective: str,
        name: str | None = None,
        experiment: Mapping[str, Any] | None = None,
        component_args: Mapping[str, Any] | None = None,
        by_reference: bool = False,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        signature = inspect.signature(python_callable)
        constants = dict(signature.bind_partial(*(op_args or ()), **(op_kwargs or {})).arguments)
        super().__init__(
            python_callable=_callable_without_arguments(python_callable, signature),
            **tuned(
                python_callable,
                objective=objective,
                name=name or "{{ dag.dag_id }}-{{ task.task_id }}-{{ run_id }}",
                constants=constants,
                experiment=experiment,
                component_args=component_args,
                by_reference=by_reference,
            ),
            **kwargs,
        )


def tuned(
    function: Callable[..., Any],
    *,
    objective: str,
    name: str,
    constants: Mapping[str, Any] | None = None,
    experiment: Mapping[str, Any] | None = None,
    component_args: Mapping[str, Any] | None = None,
    by_reference: bool = False,
) -> dict[str, Any]:
    """Return a function as the arguments ``experiment``, ``component`` and ``component_args``, for ``ax_trial_loop``.

    :param function: the function, see ``AxOptimizeFunctionOperator``.
    :param objective: what to maximize, in terms of the metrics that the function returns.
    :param name: name of the experiment.
    :param constants: arguments that are not tuned.
    :param experiment: further fields of the experiment.
    :param component_args: resources of a call.
    :param by_reference: the app imports the function from its module.
    :raises InvalidInputError: the function cannot be tuned, or cannot run in another process.
    """
    found = read_function(function, constants or {})
    taken = sorted({"function", "constants", "report", "metric"} & set(component_args or {}))
    if taken:
        raise InvalidInputError(
            f"component_args of a function must not hold {', '.join(taken)}.", fix="pass resources only."
        )
    metric = objective.strip().lstrip("-").strip()
    return {
        "experiment": {
            "name": name,
            **(experiment or {}),
            "parameters": found.parameters,
            "objective": objective,
        },
        "component": FUNCTION,
        "component_args": {
            **(component_args or {}),
            "function": packed(reference_of(function) if by_reference else source_of(function)),
            "constants": dict(constants or {}),
            "report": found.report,
            "metric": metric if metric.isidentifier() else None,
        },
    }


def _callable_without_arguments(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Return the function as one that can be called without arguments, as Airflow checks it when the DAG is parsed."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    optional = [
        one if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) else one.replace(default=None)
        for one in signature.parameters.values()
    ]
    call.__signature__ = signature.replace(parameters=optional)  # type: ignore[attr-defined]
    return call


def ax_optimize_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function into a task that tunes it; see ``AxOptimizeFunctionOperator``.

    :param python_callable: the function.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=AxOptimizeFunctionOperator, **kwargs
    )
