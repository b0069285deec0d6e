"""What Ax accepts and its models cannot learn from: they would fail after the trials of the initialization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from airflow_provider_axtx.spec.expressions import ExpressionError, Linear, parse_linear
from airflow_provider_axtx.spec.parameters import ChoiceParameter, DerivedParameter, ParameterSpec, RangeParameter
from airflow_provider_axtx.spec.problems import Problem

#: Ax makes a list of all values of a whole number, which takes 1.4 s for a million; two thousand million filled the
#: memory of a worker, whose task was then killed, after the trials of the initialization.
MAX_WHOLE_VALUES = 10_000_000


def model_problems(parameters: Sequence[ParameterSpec]) -> Iterator[Problem]:
    """Yield the problems of a search space whose trials a model proposes; random search has none of them."""
    by_name = {parameter.name: parameter for parameter in parameters}
    for i, p in enumerate(parameters):
        path = f"parameters[{i}]"
        if isinstance(p, RangeParameter) and p.parameter_type == "int" and p.step_size is None:
            lower, upper = p.bounds
            if upper - lower >= MAX_WHOLE_VALUES:
                yield Problem(
                    f"{path}.bounds",
                    [lower, upper],
                    f"gives more than {MAX_WHOLE_VALUES} whole numbers, of which Ax's models make a list",
                    "use parameter_type 'float' and round it in the component, smaller bounds, or generation.method "
                    "'random_search'.",
                )
        elif isinstance(p, DerivedParameter) and p.parameter_type == "int" and not _is_whole(p, by_name):
            yield Problem(
                f"{path}.expression_str",
                p.expression_str,
                "is not always a whole number, and Ax's models fail at one that is not",
                "use parameter_type 'float' and round it in the component, or generation.method 'random_search'.",
            )


def _is_whole(derived: DerivedParameter, parameters: Mapping[str, ParameterSpec]) -> bool:
    try:
        linear = parse_linear(derived.expression_str)
    except ExpressionError:
        return True  # a problem of its own
    if not linear.weights.keys() <= parameters.keys():
        return True  # as well
    return _all_whole([_offset(linear, parameters), *_steps(linear, parameters)])


def _offset(linear: Linear, parameters: Mapping[str, ParameterSpec]) -> float:
    """Return the value of an expression where each parameter has its first value."""
    firsts = {name: _values(parameters[name])[0] for name in linear.weights}
    return linear.constant + sum(weight * firsts[name] for name, weight in linear.weights.items())


def _steps(linear: Linear, parameters: Mapping[str, ParameterSpec]) -> Iterator[float]:
    """Yield by how much an expression changes when one parameter takes another value."""
    for name, weight in linear.weights.items():
        first, *others = _values(parameters[name])
        yield from (weight * (other - first) for other in others)


def _values(parameter: ParameterSpec) -> list[float]:
    """Return the first value of a parameter, and others such that each further one is whole steps away."""
    if isinstance(parameter, ChoiceParameter):
        return [float(value) if isinstance(value, int | float) else 0.5 for value in parameter.values] or [0.0]
    if isinstance(parameter, RangeParameter):
        lower = parameter.bounds[0]
        step = parameter.step_size or (1.0 if parameter.parameter_type == "int" else 0.123456789)
        return [lower, lower + step]
    return [0.0]  # derived itself: a problem of its own


def _all_whole(numbers: Sequence[float]) -> bool:
    return all(abs(number - round(number)) <= 1e-9 * max(1.0, abs(number)) for number in numbers)
