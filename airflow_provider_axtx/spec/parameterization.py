"""Parameterizations that people write: checked against the search space, because Ax accepts values out of bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from airflow_provider_axtx.core.records import Parameters, ParameterValue
from airflow_provider_axtx.spec.expressions import parse_linear, parse_parameter_constraint
from airflow_provider_axtx.spec.parameters import (
    ChoiceParameter,
    DerivedParameter,
    ParameterSpec,
    RangeParameter,
    coerce,
)
from airflow_provider_axtx.spec.problems import Problem, closest

#: Relative size of the rounding that a bound, a step or a constraint allows.
_TOLERANCE = 1e-8


def read_parameterization(
    parameters: Sequence[ParameterSpec], constraints: Sequence[str], given: Mapping[str, object], path: str
) -> tuple[Parameters, list[Problem]]:
    """Return a parameterization with every value in its parameter's type, derived ones computed, and what is wrong.

    :param parameters: the search space.
    :param constraints: its parameter constraints.
    :param given: value by name, as a person, a template or a table gives it.
    :param path: where it was given, for the problems.
    """
    problems: list[Problem] = []
    values: Parameters = {}
    free = [p for p in parameters if not isinstance(p, DerivedParameter)]
    given = {**{p.name: p.frozen_value for p in free if p.frozen_value is not None}, **given}
    for name in sorted(set(given) - {p.name for p in parameters}):
        fix = closest(name, [p.name for p in parameters])
        problems.append(Problem(f"{path}.{name}", given[name], "is not a parameter", fix))
    for parameter in free:
        if parameter.name in given:
            value = _value(parameter, given[parameter.name], f"{path}.{parameter.name}")
            if isinstance(value, Problem):
                problems.append(value)
            else:
                values[parameter.name] = value
    problems += _presence_problems(free, values, given, path)
    if problems:
        return values, problems
    values |= {
        p.name: _derived(p, values) for p in parameters if isinstance(p, DerivedParameter) and _has_sources(p, values)
    }
    problems += _derived_problems(parameters, values, given, path)
    problems += _constraint_problems(constraints, values, path)
    return {p.name: values[p.name] for p in parameters if p.name in values}, problems


def carried_over(
    parameters: Sequence[ParameterSpec], earlier: Mapping[str, ParameterValue], given: Mapping[str, object]
) -> Parameters:
    """Return what of an earlier parameterization can go with other values that are given.

    Left out are derived values, and parameters that do not exist together with the given values or any more.
    """
    free = [p for p in parameters if not isinstance(p, DerivedParameter)]
    read = {p.name: coerce(given.get(p.name, earlier.get(p.name)), p.parameter_type) for p in free}
    active = _active(free, {name: value for name, value in read.items() if value is not None})
    return {name: value for name, value in earlier.items() if name in active and name not in given}


def _value(parameter: ParameterSpec, given: object, path: str) -> ParameterValue | Problem:
    """Return a value in its parameter's type, or what is wrong with it. Rounding errors are corrected."""
    value = coerce(given, parameter.parameter_type)
    if value is None:
        return Problem(path, given, f"is not of type {parameter.parameter_type}", "write a value of that type.")
    if isinstance(parameter, ChoiceParameter):
        if value in parameter.values:
            return value
        nearest = _nearest(value, parameter.values)
        if nearest is None:
            known = ", ".join(map(repr, parameter.values))
            return Problem(path, given, "is not one of the parameter's values", f"one of {known}.")
        return nearest
    assert isinstance(parameter, RangeParameter)
    assert not isinstance(value, str)
    lower, upper = parameter.bounds
    if not lower <= value <= upper:
        bound = lower if value < lower else upper
        if abs(value - bound) > _slack(bound, upper - lower):
            return Problem(path, given, "is out of bounds", f"write a value from {lower:g} to {upper:g}.")
        value = type(value)(bound)
    if parameter.step_size is not None:
        stepped = parameter.grid[round((value - lower) / parameter.step_size)]
        if abs(value - stepped) > 1e-6 * parameter.step_size:
            fix = f"write {lower:g} plus a multiple of {parameter.step_size:g}."
            return Problem(path, given, "is between two steps of step_size", fix)
        return stepped
    return value


def _nearest(value: ParameterValue, values: Sequence[ParameterValue]) -> ParameterValue | None:
    """Return the float among the values from which a value differs by no more than a rounding error, or None."""
    if not isinstance(value, float):
        return None
    return next((v for v in values if isinstance(v, float) and abs(value - v) <= 1e-12 * max(abs(v), 1e-3)), None)


def _presence_problems(
    free: Sequence[ParameterSpec], values: Parameters, given: Mapping[str, object], path: str
) -> Iterator[Problem]:
    """Yield which parameters are missing, and which do not exist together with the values of others."""
    active = _active(free, values)
    for parameter in free:
        if parameter.name in active and parameter.name not in given:
            yield Problem(f"{path}.{parameter.name}", None, "is missing", "give a value for every parameter.")
        elif parameter.name not in active and parameter.name in given:
            fix = "leave it out, or change the parameter that it depends on."
            yield Problem(f"{path}.{parameter.name}", given[parameter.name], "does not exist with these values", fix)


def _active(free: Sequence[ParameterSpec], values: Parameters) -> set[str]:
    """Return the parameters that exist with these values; all of them in a space without dependent parameters."""
    dependents: dict[str, dict[object, tuple[str, ...]]] = {
        p.name: p.dependent_parameters for p in free if isinstance(p, ChoiceParameter) and p.dependent_parameters
    }
    below = {name for by_value in dependents.values() for names in by_value.values() for name in names}
    active: set[str] = set()
    new = {p.name for p in free} - below
    while new:
        active |= new
        chosen = (dependents[name].get(values.get(name), ()) for name in new if name in dependents)
        new = {name for names in chosen for name in names} - active
    return active


def _has_sources(parameter: DerivedParameter, values: Parameters) -> bool:
    """Return whether a derived value can be computed: not if only some values are given, as those to be fixed."""
    return parse_linear(parameter.expression_str).weights.keys() <= values.keys()


def _derived(parameter: DerivedParameter, values: Parameters) -> ParameterValue:
    linear = parse_linear(parameter.expression_str)
    if parameter.parameter_type in ("str", "bool"):
        (source,) = linear.weights
        return values[source]
    total = linear.constant + sum(weight * float(values[name]) for name, weight in linear.weights.items())
    # Ax cuts off the fraction.
    return int(total) if parameter.parameter_type == "int" else total


def _derived_problems(
    parameters: Sequence[ParameterSpec], values: Parameters, given: Mapping[str, object], path: str
) -> Iterator[Problem]:
    for p in parameters:
        if isinstance(p, DerivedParameter) and p.name in given:
            if p.name not in values:
                fix = f"give the parameters of {p.expression_str!r} instead."
                yield Problem(f"{path}.{p.name}", given[p.name], "is derived from others, which are not given", fix)
                continue
            value, computed = coerce(given[p.name], p.parameter_type), values[p.name]
            same = value == computed or (
                isinstance(value, float) and isinstance(computed, float) and abs(value - computed) <= _slack(computed)
            )
            if not same:
                fix = f"leave it out; {p.expression_str} is {computed!r}."
                yield Problem(f"{path}.{p.name}", given[p.name], "is not what it is derived from", fix)


def _constraint_problems(constraints: Sequence[str], values: Parameters, path: str) -> Iterator[Problem]:
    for text in constraints:
        constraint = parse_parameter_constraint(text)
        if not set(constraint.weights) <= set(values):
            continue
        total = sum(weight * float(values[name]) for name, weight in constraint.weights.items())
        excess = total - constraint.bound if constraint.operator == "<=" else constraint.bound - total
        if excess > _slack(constraint.bound):
            used = {name: values[name] for name in constraint.weights}
            yield Problem(path, used, f"violates the parameter constraint {text!r}", "change one of these values.")


def _slack(number: float, width: float = 1.0) -> float:
    """Return the size of a rounding error at a number; of a narrow range it is a part of the width."""
    return _TOLERANCE * min(max(1.0, abs(number)), max(width, abs(number)))
