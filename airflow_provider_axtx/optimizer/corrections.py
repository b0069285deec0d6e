"""Corrects two transforms of Ax 1.3.1, for every client in a process that uses this package.

- ``OrderedChoiceToIntegerRange`` replaces a stepped parameter by the position of its value and leaves the parameter
  constraints as they are, so that Sobol draws from ``position <= bound`` instead of ``value <= bound``.
- The random rounding of whole numbers under a parameter constraint goes through a set of names. Its order, and so the
  proposals, depend on ``PYTHONHASHSEED``.

``tests/optimizer/test_proposals.py`` fails when Ax changes the first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_axtx.optimizer.ax_logging import quiet_import

with quiet_import():
    from ax.adapter.transforms import int_to_float
    from ax.adapter.transforms.choice_encode import OrderedChoiceToIntegerRange
    from ax.core.parameter_constraint import ParameterConstraint
    from ax.core.search_space import SearchSpace

_Transform = Callable[[OrderedChoiceToIntegerRange, SearchSpace], SearchSpace]
_Round = Callable[[dict[str, Any], Iterable[str]], dict[str, Any]]


def correct_ax() -> None:
    """Put the corrections in place, once for each process."""
    if not hasattr(OrderedChoiceToIntegerRange.transform_search_space, "__wrapped__"):
        OrderedChoiceToIntegerRange.transform_search_space = _with_constraints_on_values(
            OrderedChoiceToIntegerRange.transform_search_space
        )
    if not hasattr(int_to_float.randomized_round_parameters, "__wrapped__"):
        int_to_float.randomized_round_parameters = _in_order_of_names(int_to_float.randomized_round_parameters)


def _with_constraints_on_values(original: _Transform) -> _Transform:
    @functools.wraps(original)
    def transform_search_space(self: OrderedChoiceToIntegerRange, search_space: SearchSpace) -> SearchSpace:
        constraints = [_on_positions(c, self.encoded_parameters) for c in search_space.parameter_constraints]
        transformed = original(self, search_space)
        transformed.set_parameter_constraints(constraints)
        return transformed

    return transform_search_space


def _on_positions(constraint: ParameterConstraint, encoded: Mapping[str, Mapping[float, int]]) -> ParameterConstraint:
    """Return a constraint on values as a constraint on the positions of evenly spaced values."""
    if not encoded.keys() & constraint.constraint_dict.keys() or constraint.is_equality:
        return constraint
    bound, terms = constraint.bound, []
    for name, weight in constraint.constraint_dict.items():
        if name in encoded:
            values = sorted(encoded[name], key=lambda value: encoded[name][value])
            first, last = float(values[0]), float(values[-1])
            bound -= weight * first
            weight *= (last - first) / (len(values) - 1)
        terms.append(f"{weight!r} * {name}")
    return ParameterConstraint(inequality=f"{' + '.join(terms)} <= {bound!r}")


def _in_order_of_names(original: _Round) -> _Round:
    @functools.wraps(original)
    def randomized_round_parameters(parameters: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
        return original(parameters, sorted(names))

    return randomized_round_parameters
