"""A search space in the annotations of a Python function."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten

_TYPES: dict[type, str] = {float: "float", int: "int", str: "str", bool: "bool"}
_EXAMPLE = "lr: Annotated[float, Range(1e-5, 1e-1, log=True)]"


class Report(Protocol):
    """What a function that is tuned gets under a parameter with this annotation: it reports progress.

    ```python
    from typing import Annotated

    from airflow_provider_axtx.decorators import Range, Report

    def train(lr: Annotated[float, Range(1e-5, 1e-1, log=True)], report: Report) -> float:
        for epoch in range(10):
            report(step=epoch, loss=lr / (epoch + 1))
        return lr / 10
    ```
    """

    def __call__(self, *, step: float, **metrics: float) -> None:
        """Report metrics at a step, such as an epoch."""


@dataclass(frozen=True)
class Range:
    """All numbers between two bounds; the parameter's type, ``float`` or ``int``, is that of its annotation.

    ```python
    from typing import Annotated

    from airflow_provider_axtx.decorators import Range

    def train(lr: Annotated[float, Range(1e-5, 1e-1, log=True)], layers: Annotated[int, Range(1, 8)]) -> float: ...
    ```

    :param low: the least value.
    :param high: the greatest value.
    :param log: whether it is searched on a logarithmic scale.
    :param step: distance between two values; None is no grid.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def to_parameter(self, name: str, kind: type) -> dict[str, Any]:
        """Return the parameter of an experiment."""
        scaling = {"scaling": "log"} if self.log else {}
        step = {} if self.step is None else {"step_size": self.step}
        bounds = [kind(self.low), kind(self.high)] if kind in (int, float) else [self.low, self.high]
        return {
            "type": "range",
            "name": name,
            "parameter_type": _TYPES.get(kind, "float"),
            "bounds": bounds,
            **scaling,
            **step,
        }


@dataclass(frozen=True, init=False)
class Choice:
    """One of some values: ``Annotated[str, Choice("a", "b")]``. ``Literal["a", "b"]`` says the same.

    ```python
    from typing import Annotated

    from airflow_provider_axtx.decorators import Choice

    def train(kernel: Annotated[str, Choice("rbf", "linear")]) -> float: ...
    ```

    :param values: the values, all of one type.
    :param ordered: whether their order means something; None leaves it to the type.
    """

    values: tuple[Any, ...]
    ordered: bool | None

    def __init__(self, *values: Any, ordered: bool | None = None) -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "ordered", ordered)

    def to_parameter(self, name: str) -> dict[str, Any]:
        """Return the parameter of an experiment."""
        kinds = {type(value) for value in self.values}
        kind = float if kinds == {int, float} else next(iter(kinds), str)
        ordered = {} if self.ordered is None else {"is_ordered": self.ordered}
        return {
            "type": "choice",
            "name": name,
            "parameter_type": _TYPES.get(kind, "str"),
            "values": list(self.values),
            **ordered,
        }


@dataclass(frozen=True)
class TunedFunction:
    """What the annotations of a function say.

    :param parameters: the search space.
    :param report: the parameter that gets a ``Report``, or None.
    """

    parameters: list[dict[str, Any]]
    report: str | None


def read_function(
    function: Callable[..., Any], constants: Mapping[str, Any], *, complete: bool = True
) -> TunedFunction:
    """Return the search space in the annotations of a function.

    :param constants: the arguments that the function is called with in the DAG; they are not tuned.
    :param complete: whether the annotations have to be the whole search space; otherwise an experiment has the rest.
    :raises InvalidInputError: a parameter has neither a range nor a value, or nothing is left to tune.
    """
    name = getattr(function, "__name__", str(function))
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise InvalidInputError(
            f"The annotations of {name} cannot be read: {error}.",
            fix="correct them, and import what they name at the top of the DAG file instead of inside a function.",
        ) from error
    parameters: list[dict[str, Any]] = []
    missing, positional, report = [], [], None
    for argument in inspect.signature(function).parameters.values():
        hint = _without_none(hints.get(argument.name))
        if argument.kind == argument.POSITIONAL_ONLY:
            positional.append(argument.name)
        if hint is Report:
            report = argument.name
        elif argument.name in constants or argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        elif (parameter := _parameter(argument.name, hint)) is not None:
            parameters.append(parameter)
        elif argument.default is argument.empty:
            missing.append(argument.name)
    if positional:
        raise InvalidInputError(
            f"{', '.join(positional)} of {name} can only be passed by position; an app passes all values by name.",
            fix="remove the / from the function's parameters.",
        )
    if complete and (missing or not parameters):
        what = f"{', '.join(missing)} of {name} has neither a range nor a value" if missing else f"{name} tunes nothing"
        raise InvalidInputError(
            f"{what}.",
            fix=f"annotate it, such as {_EXAMPLE}, or pass its value in the call.",
        )
    return TunedFunction(parameters, report)


def read_class(config: type) -> list[dict[str, Any]]:
    """Return the search space in the annotations of a class, such as a dataclass or a pydantic model.

    A field without a range is not tuned.

    :raises InvalidInputError: the annotations cannot be read, or there is nothing to tune.
    """
    try:
        hints = typing.get_type_hints(config, include_extras=True)
    except (NameError, TypeError) as error:
        raise InvalidInputError(
            f"The annotations of {config.__name__} cannot be read: {error}.", fix="correct them."
        ) from error
    found = [parameter for name, hint in hints.items() if (parameter := _parameter(name, hint)) is not None]
    if not found:
        raise InvalidInputError(f"{config.__name__} tunes nothing.", fix=f"annotate its fields, such as {_EXAMPLE}.")
    return found


def _without_none(hint: Any) -> Any:
    """Return what an annotation says besides None, which is the default of a parameter for calls outside Airflow."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    others = [one for one in typing.get_args(hint) if one is not types.NoneType]
    return others[0] if len(others) == 1 else hint


def _parameter(name: str, hint: Any) -> dict[str, Any] | None:
    hint = _without_none(hint)
    origin = typing.get_origin(hint)
    if origin is Literal:
        return Choice(*typing.get_args(hint)).to_parameter(name)
    if origin is not Annotated:
        return None
    kind, *extras = typing.get_args(hint)
    kind = _without_none(kind)
    for extra in extras:
        if isinstance(extra, Choice):
            return extra.to_parameter(name)
        if isinstance(extra, Range):
            if kind not in (int, float):
                shown = shorten(kind) if not isinstance(kind, type | types.GenericAlias) else kind.__name__
                raise InvalidInputError(
                    f"{name} has a Range and is annotated as {shown}.", fix="annotate it as float or int."
                )
            return extra.to_parameter(name, kind)
    return None
