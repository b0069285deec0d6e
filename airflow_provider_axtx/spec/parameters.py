"""The parameters of a search space, field by field as Ax's parameter configs have them."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_serializer, model_validator
from pydantic_core import PydanticCustomError

from airflow_provider_axtx.core.numbers import Number, as_number, as_whole
from airflow_provider_axtx.core.records import ParameterValue
from airflow_provider_axtx.spec.expressions import ExpressionError, parse_linear
from airflow_provider_axtx.spec.model import Frozen
from airflow_provider_axtx.spec.problems import Problem

ParameterType = Literal["float", "int", "str", "bool"]

#: Ax refuses a choice parameter with more values.
MAX_CHOICE_VALUES = 1000
#: Ax refuses a narrower range, as numerical trouble.
MIN_RANGE_WIDTH = 1.5e-5
#: Beyond it the width of a range overflows, and Ax proposes NaN.
MAX_BOUND = 1e300
#: Largest whole number up to which a float holds each one.
MAX_WHOLE = 2**53


def coerce(value: object, parameter_type: str) -> ParameterValue | None:
    """Return ``value`` as the parameter type has it, or None when it cannot be one.

    Numbers and booleans written as strings are read, because forms and templates produce them.

    :param parameter_type: ``float``, ``int``, ``str`` or ``bool``.
    """
    match parameter_type:
        case "str":
            # Not str(value), which is "Kernel.RBF" for a member of an enumeration of texts.
            return str.__str__(value) if isinstance(value, str) else None
        case "bool":
            return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
        case "int":
            return as_whole(value)
        case _:
            return as_number(value)


def _can_be_passed(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


class _Parameter(Frozen):
    name: str

    def name_problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the name: it has to be an argument of the component as well."""
        if not self.name.isidentifier() or keyword.iskeyword(self.name):
            yield Problem(
                "name",
                self.name,
                "a parameter name must be a Python identifier, because it is an argument of the component",
                "use letters, digits and underscores, no leading digit, no Python keyword.",
            )


class _TunedParameter(_Parameter):
    """Base of the parameters that are not computed from others.

    :param backfill_value: of a parameter that was added to an experiment: the value that its earlier trials had.
    :param frozen_value: the value that every further trial has; None while the parameter is tuned.
    """

    backfill_value: Any = None
    frozen_value: Any = None

    def _changed_problems(self, parameter_type: str) -> Iterator[Problem]:
        for field in ("backfill_value", "frozen_value"):
            value = getattr(self, field)
            if value is not None and coerce(value, parameter_type) is None:
                fix = "write a value of that type."
                yield Problem(field, value, f"is not of parameter_type {parameter_type!r}", fix)


class RangeParameter(_TunedParameter):
    """A float or int parameter between two bounds (``ax.RangeParameterConfig``).

    :param bounds: lower and upper bound, both possible.
    :param parameter_type: ``float`` or ``int``.
    :param step_size: distance of the possible values; it must divide the range.
    :param scaling: ``linear`` or ``log``; None is linear.
    :param backfill_value: of a parameter that was added to an experiment: the value that its earlier trials had.
    :param frozen_value: the value that every further trial has; None while the parameter is tuned.
    """

    type: Literal["range"] = "range"
    bounds: tuple[Number, Number]
    parameter_type: Literal["float", "int"]
    step_size: Number | None = None
    scaling: Literal["linear", "log"] | None = None

    @field_serializer("backfill_value", "frozen_value")
    def _value_in_own_type(self, value: Any) -> Any:
        return value if value is None else coerce(value, self.parameter_type)

    @field_serializer("bounds")
    def _in_own_type(self, bounds: tuple[float, float]) -> list[float]:
        return [int(bound) for bound in bounds] if self.parameter_type == "int" else list(bounds)

    @property
    def grid(self) -> list[float] | list[int]:
        """The possible values of a parameter with a step size, the bounds included.

        In decimal arithmetic: in that of floats, ``1.0 + 3 * 0.1`` is 1.3000000000000003.
        """
        assert self.step_size is not None
        lower, upper = self.bounds
        steps = round((upper - lower) / self.step_size)
        if self.parameter_type == "int":
            return [int(lower) + i * int(self.step_size) for i in range(steps + 1)]
        first, step = Decimal(repr(float(lower))), Decimal(repr(self.step_size))
        return [*(float(first + i * step) for i in range(steps)), float(upper)]

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this parameter."""
        yield from self.name_problems()
        yield from self._changed_problems(self.parameter_type)
        lower, upper = self.bounds
        bounds = [lower, upper]
        if lower >= upper:
            fix = "write [lower, upper], or a choice parameter with one value for a constant."
            yield Problem("bounds", bounds, "the lower bound must be below the upper", fix)
        elif upper - lower < MIN_RANGE_WIDTH:
            fix = "scale the parameter up in the component and use a wider range here."
            yield Problem("bounds", bounds, f"the range is narrower than {MIN_RANGE_WIDTH}", fix)
        elif max(abs(lower), abs(upper)) > MAX_BOUND:
            fix = f"use bounds between -{MAX_BOUND:g} and {MAX_BOUND:g}, and scale the parameter in the component."
            yield Problem("bounds", bounds, "the range is wider than Ax can compute with", fix)
        if self.parameter_type == "int":
            yield from self._whole_problems(lower, upper)
        if self.scaling == "log" and lower <= 0:
            fix = "raise the lower bound, or use scaling 'linear'."
            yield Problem("bounds", bounds, "a log-scaled parameter needs bounds above 0", fix)
        if self.step_size is not None:
            yield from self._step_problems(self.step_size, upper - lower)
        frozen = as_number(self.frozen_value)
        if frozen is not None and not lower <= frozen <= upper:
            fix = f"write a value from {lower:g} to {upper:g}."
            yield Problem("frozen_value", self.frozen_value, "is out of bounds", fix)

    def _whole_problems(self, lower: float, upper: float) -> Iterator[Problem]:
        if lower != int(lower) or upper != int(upper):
            fix = "round them, or use parameter_type 'float'."
            yield Problem("bounds", [lower, upper], "an int parameter needs whole bounds", fix)
        elif max(abs(lower), abs(upper)) > MAX_WHOLE:
            fix = "scale the parameter in the component and use smaller bounds here."
            text = "Ax computes with floats, which do not tell whole numbers above 2**53 apart"
            yield Problem("bounds", [lower, upper], text, fix)

    def _step_problems(self, step: float, width: float) -> Iterator[Problem]:
        if self.scaling == "log":
            yield Problem("step_size", step, "cannot be combined with log scaling", "remove one of the two.")
        if step <= 0:
            yield Problem("step_size", step, "must be above 0", "write the distance between two values.")
            return
        if self.parameter_type == "int" and not step.is_integer():
            yield Problem("step_size", step, "an int parameter needs a whole step", "round it.")
        steps = width / step
        if abs(steps - round(steps)) > 1e-6:
            yield Problem("step_size", step, f"does not divide the range {width:g}", "choose one that divides it.")
        if steps >= MAX_CHOICE_VALUES:
            yield Problem(
                "step_size", step, f"gives more than {MAX_CHOICE_VALUES} values", "take a larger step, or none."
            )


class ChoiceParameter(_TunedParameter):
    """A parameter with a list of values (``ax.ChoiceParameterConfig``); one value makes it constant.

    :param values: the possible values, all of the parameter type.
    :param parameter_type: ``float``, ``int``, ``str`` or ``bool``.
    :param is_ordered: whether neighbours in the list are alike; None lets Ax decide.
    :param dependent_parameters: for each value, the parameters that exist only with it.
    :param backfill_value: of a parameter that was added to an experiment: the value that its earlier trials had.
    :param frozen_value: the value that every further trial has; None while the parameter is tuned.
    """

    type: Literal["choice"] = "choice"
    values: tuple[Any, ...]
    parameter_type: ParameterType
    is_ordered: bool | None = None
    dependent_parameters: dict[Any, tuple[str, ...]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_one_type(cls, given: Any) -> Any:
        """Give all values the parameter type; one that cannot have it stays, to be named as a problem."""
        if not isinstance(given, dict) or given.get("parameter_type") not in get_args(ParameterType):
            return given

        def typed(value: Any) -> Any:
            known = coerce(value, given["parameter_type"])
            return value if known is None else known

        read = dict(given)
        if isinstance(given.get("values"), (set, frozenset)):
            fix = "write a list: the order of a set differs between processes."
            raise PydanticCustomError("no_order", "is a set, which has no order", {"fix": fix})
        if isinstance(given.get("values"), (list, tuple)):
            read["values"] = [typed(value) for value in given["values"]]
        for field in ("backfill_value", "frozen_value"):
            if given.get(field) is not None:
                read[field] = typed(given[field])
        if isinstance(given.get("dependent_parameters"), dict):
            read["dependent_parameters"] = {typed(v): names for v, names in given["dependent_parameters"].items()}
        return read

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this parameter."""
        yield from self.name_problems()
        yield from self._changed_problems(self.parameter_type)
        if self.frozen_value is not None and self.frozen_value not in self.values:
            yield Problem("frozen_value", self.frozen_value, "is not one of the values", "write a listed value.")
        if not self.values:
            yield Problem("values", [], "is empty", "list at least one value.")
        if len(self.values) > MAX_CHOICE_VALUES:
            yield Problem(
                "values", f"{len(self.values)} values", "Ax refuses more than 1000", "use a range parameter instead."
            )
        for i, value in enumerate(self.values):
            if coerce(value, self.parameter_type) is None:
                yield Problem(
                    f"values[{i}]", value, f"is not of parameter_type {self.parameter_type!r}", "correct the value or "
                    "the parameter_type; a text value needs quotes."
                )  # fmt: skip
            elif isinstance(value, str) and not _can_be_passed(value):
                yield Problem(
                    f"values[{i}]", value, "cannot be passed to a program", "leave out NUL and lone surrogates."
                )
            elif value in self.values[:i]:
                yield Problem(f"values[{i}]", value, "is listed twice", "remove one of them.")
        for value in self.dependent_parameters or {}:
            if value not in self.values:
                yield Problem(
                    "dependent_parameters", value, "is not one of this parameter's values", "use a listed value."
                )


class DerivedParameter(_Parameter):
    """A parameter computed from others (``ax.DerivedParameterConfig``), linear: ``"0.5 * a + b"``."""

    type: Literal["derived"] = "derived"
    expression_str: str
    parameter_type: ParameterType

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this parameter."""
        yield from self.name_problems()
        try:
            linear = parse_linear(self.expression_str)
        except ExpressionError as error:
            yield Problem("expression_str", self.expression_str, error.text, error.fix)
            return
        if not linear.weights:
            yield Problem("expression_str", self.expression_str, "names no parameter", "name what it is computed from.")
        is_copy = list(linear.weights.values()) == [1.0] and not linear.constant
        if self.parameter_type in ("str", "bool") and not is_copy:
            yield Problem(
                "expression_str",
                self.expression_str,
                f"a derived {self.parameter_type} can only repeat another parameter",
                "write that parameter's name alone, or use parameter_type 'float'.",
            )


ParameterSpec = Annotated[RangeParameter | ChoiceParameter | DerivedParameter, Field(discriminator="type")]


def hierarchy_problems(parameters: Sequence[ParameterSpec]) -> Iterator[Problem]:
    """Yield what Ax cannot have in a space with dependent parameters.

    Ax 1.3 proposes some trials, and then fails: its transform Cast knows no derived parameter (NotImplementedError),
    and it finds no candidate that has the frozen value (SearchSpaceExhausted).
    """
    for i, p in enumerate(parameters):
        if isinstance(p, DerivedParameter):
            where, value, fix = "type", p.type, "compute it in the app."
        else:
            where, value, fix = "frozen_value", p.frozen_value, "leave it out; a constant is a choice with one value."
        if value is not None:
            yield Problem(f"parameters[{i}].{where}", value, "is not possible beside dependent_parameters", fix)
