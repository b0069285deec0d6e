"""Python functions as trials: the operators behind ``@task.ax_optimize`` and ``@task.ax_trial``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from airflow.sdk.bases.decorator import DecoratedOperator

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.function_source import packed, reference_of, source_of
from airflow_provider_axtx.core.search_space import read_function
from airflow_provider_axtx.core.shipped import FUNCTION
from airflow_provider_axtx.operators.optimize import AxOptimizeOperator
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator

#: Of an experiment without a name. Mapped instances run different apps, which one experiment would refuse.
_DEFAULT_NAME = (
    "{{ dag.dag_id }}-{{ task.task_id }}-{{ run_id }}"
    "{% if ti.map_index not in (None, -1) %}-{{ ti.map_index }}{% endif %}"
)


class AxOptimizeFunctionOperator(DecoratedOperator, AxOptimizeOperator):
    """The operator behind ``@task.ax_optimize``: tunes a function, each call of which is an app of its own.

    The other parameters are those of ``AxOptimizeOperator``.

    :param python_callable: the function. Parameters with ``Range``, ``Choice`` or ``Literal`` in their annotations are
        tuned; one with the annotation ``Report`` gets what reports progress; the others have the values of the call in
        the DAG, or their defaults.
    :param objective: what to maximize, in terms of the metrics that the function returns: ``"accuracy"``, ``"-loss"``.
    :param name: name of the experiment; by default each DAG run has an experiment of its own, and so has each mapped
        instance of the task.
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
        constants = _constants(signature.bind_partial(*(op_args or ()), **(op_kwargs or {})))
        super().__init__(
            python_callable=_callable_without_arguments(python_callable, signature),
            **tuned(
                python_callable,
                objective=objective,
                name=name or _DEFAULT_NAME,
                constants=constants,
                experiment=experiment,
                component_args=component_args,
                by_reference=by_reference,
            ),
            **kwargs,
        )


class AxTrialFunctionOperator(DecoratedOperator, TorchXRunTrialOperator):
    """The operator behind ``@task.ax_trial``: one call of a function is one trial, in an app of its own.

    The other parameters are those of ``TorchXRunTrialOperator``; ``complete`` is True unless it is given.

    :param python_callable: the function, as ``takes_trial`` returns it. It gets the trial's parameters by name, one
        with the annotation ``Report`` what reports progress, and the others the values of the call in the DAG.
    :param objective: the metric that a returned number is, as in the experiment: ``"accuracy"``, ``"-loss"``. A
        function that returns a dict of metrics needs none.
    :param component_args: resources of a call, see ``AxOptimizeFunctionOperator``.
    :param by_reference: see ``AxOptimizeFunctionOperator``.
    """

    template_fields: Sequence[str] = (*TorchXRunTrialOperator.template_fields, *DecoratedOperator.template_fields)
    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **TorchXRunTrialOperator.template_fields_renderers,
    }
    custom_operator_name: str = "@task.ax_trial"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        objective: str | None = None,
        component_args: Mapping[str, Any] | None = None,
        by_reference: bool = False,
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        signature = inspect.signature(python_callable)
        constants = _constants(signature.bind(*(op_args or ()), **(op_kwargs or {})))
        function = inspect.unwrap(python_callable)
        super().__init__(
            python_callable=_callable_without_arguments(python_callable, signature),
            trial=constants.pop("trial"),
            **{"complete": True, **kwargs},
            **_app_of(function, objective, constants, component_args or {}, by_reference),
        )


def takes_trial(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function as the DAG calls it: with a trial, and with the values of what the trial does not have.

    :raises InvalidInputError: it has a parameter ``trial`` itself.
    """
    own = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_POSITIONAL]
    if any(one.name == "trial" for one in own):
        raise InvalidInputError(
            f"The function {function.__name__} has a parameter named trial.",
            fix="rename it; the function gets the parameters of the trial by their names.",
        )

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    trial = inspect.Parameter("trial", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    optional = [one.replace(kind=one.KEYWORD_ONLY, default=None) for one in own if one.kind is not one.VAR_KEYWORD]
    call.__signature__ = inspect.Signature([trial, *optional])  # type: ignore[attr-defined]
    return call


def loop_of_function(decorated: Any, experiment: Any, component_args: Any) -> dict[str, Any]:
    """Return what a loop does with a function that has ``@task.ax_trial``.

    :param decorated: what the decorator returned.
    :param experiment: the definition; without parameters it has those of the annotations, and without an objective
        that of the decorator.
    :param component_args: over those of the decorator.
    :return: the arguments ``experiment``, ``component`` and ``component_args``.
    :raises InvalidInputError: it has another decorator, or the decorator has arguments that the loop would not know.
    """
    given = dict(decorated.kwargs)
    known = {name: given.pop(name, None) for name in ("objective", "component_args", "by_reference", "op_kwargs")}
    given.pop("task_id")
    is_trial = decorated.operator_class is AxTrialFunctionOperator
    if given or not is_trial:
        why = f"has {', '.join(given)}" if is_trial else "is not @task.ax_trial"
        raise InvalidInputError(
            f"The loop cannot run {decorated.function.__name__}: its decorator {why}.",
            fix="pass a function with @task.ax_trial as component, and what concerns all trials to ax_trial_loop. Any "
            "other task goes into body.",
        )
    function, constants = inspect.unwrap(decorated.function), known["op_kwargs"] or {}
    resources = {**(known["component_args"] or {}), **(component_args or {})}
    app = _app_of(function, known["objective"], constants, resources, bool(known["by_reference"]))
    if not isinstance(experiment, Mapping):
        return {**app, "experiment": experiment}
    found = {} if "parameters" in experiment else {"parameters": read_function(function, constants).parameters}
    wanted = {} if known["objective"] is None else {"objective": known["objective"]}
    return {**app, "experiment": {**wanted, **found, **experiment}}


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

    ```python
    from typing import Annotated

    from airflow.sdk import DAG
    from airflow_provider_axtx.decorators import Range, tuned
    from airflow_provider_axtx.task_groups import ax_trial_loop

    def train(lr: Annotated[float, Range(1e-5, 1e-1, log=True)]) -> float:
        return (lr - 0.01) ** 2

    with DAG("tune_in_rounds"):
        ax_trial_loop("tune", **tuned(train, objective="-loss", name="rounds"), rounds=3, trials_per_round=2)
    ```

    :param function: the function, see ``AxOptimizeFunctionOperator``.
    :param objective: what to maximize, in terms of the metrics that the function returns.
    :param name: name of the experiment.
    :param constants: arguments that are not tuned.
    :param experiment: further fields of the experiment.
    :param component_args: resources of a call.
    :param by_reference: the app imports the function from its module.
    :raises InvalidInputError: the function cannot be tuned, or cannot run in another process.
    """
    parameters = read_function(function, constants or {}).parameters
    return {
        "experiment": {"name": name, **(experiment or {}), "parameters": parameters, "objective": objective},
        **_app_of(function, objective, constants or {}, component_args or {}, by_reference),
    }


def _app_of(
    function: Callable[..., Any],
    objective: str | None,
    constants: Mapping[str, Any],
    component_args: Mapping[str, Any],
    by_reference: bool,
) -> dict[str, Any]:
    """Return the app that calls a function, as the arguments ``component`` and ``component_args``."""
    taken = sorted({"function", "constants", "report", "metric"} & set(component_args))
    if taken:
        raise InvalidInputError(
            f"component_args of a function must not hold {', '.join(taken)}.", fix="pass resources only."
        )
    metric = (objective or "").strip().lstrip("-").strip()
    return {
        "component": FUNCTION,
        "component_args": {
            **component_args,
            "function": packed(reference_of(function) if by_reference else source_of(function)),
            "constants": dict(constants),
            "report": read_function(function, constants, complete=False).report,
            "metric": metric if metric.isidentifier() else None,
        },
    }


def _constants(call: inspect.BoundArguments) -> dict[str, Any]:
    """Return the arguments of a call by name; the app passes each of them by its name.

    :raises InvalidInputError: an argument has no name.
    """
    constants: dict[str, Any] = {}
    for name, value in call.arguments.items():
        kind = call.signature.parameters[name].kind
        if kind == inspect.Parameter.VAR_KEYWORD:
            constants |= value
        elif kind == inspect.Parameter.VAR_POSITIONAL:
            raise InvalidInputError(
                f"*{name} gets {value!r}, which have no names.", fix="give the function a parameter for each of them."
            )
        else:
            constants[name] = value
    return constants


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
