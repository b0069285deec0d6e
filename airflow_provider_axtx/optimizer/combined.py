"""Metrics that stand for a weighted sum of others, where Ax 1.3.1 would not optimize or constrain the sum.

- Of an outcome constraint on several metrics (``cpu + gpu <= 100``) Ax's generators see the first metric only, without
  its weight, and its transforms refuse ``ScalarizedOutcomeConstraint``.
- Of the objectives ``a + b, c`` Ax makes three.

In both cases Ax is given the sum as one metric, whose values are computed from what was observed, and the definition in
terms of it. ``tests/optimizer/test_combined.py`` fails when Ax changes the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.expressions import Linear, for_ax

_PREFIX = "axtx_"


@dataclass(frozen=True)
class CombinedMetric:
    """A metric that is computed from others.

    :param name: its name in Ax.
    :param weights: the weight of each metric in it.
    """

    name: str
    weights: Mapping[str, float]

    def observed(self, observations: Iterable[Observation]) -> list[Observation]:
        """Return its values, one for each trial and step at which all metrics of it were observed."""
        together: dict[tuple[int, float | None], dict[str, Observation]] = {}
        for one in observations:
            if one.metric in self.weights:
                together.setdefault((one.trial_index, one.step), {})[one.metric] = one
        return [self._sum(found) for found in together.values() if len(found) == len(self.weights)]

    def _sum(self, found: Mapping[str, Observation]) -> Observation:
        first = next(iter(found.values()))
        mean = sum(weight * found[name].mean for name, weight in self.weights.items())
        errors = [(weight, found[name].sem) for name, weight in self.weights.items()]
        known = [weight * sem for weight, sem in errors if sem is not None]
        # One unknown error makes that of the sum unknown; Ax then infers the noise.
        sem = math.hypot(*known) if len(known) == len(errors) else None
        return Observation(first.trial_index, self.name, mean, sem, first.step)


@dataclass(frozen=True)
class AxDefinition:
    """Objective and outcome constraints in the words of Ax, and the combined metrics that they name."""

    objective: str
    outcome_constraints: tuple[str, ...]
    combined: tuple[CombinedMetric, ...]

    @property
    def combined_names(self) -> frozenset[str]:
        """The names of the combined metrics."""
        return frozenset(metric.name for metric in self.combined)


def ax_definition(spec: ExperimentSpec) -> AxDefinition:
    """Return the objective and the outcome constraints of a definition for Ax."""
    combined: list[CombinedMetric] = []
    objective = for_ax(spec.objective)
    # Early stopping compares a metric of the objective, and Ax must know which direction of it is better.
    if spec.is_multi_objective and spec.early_stopping is None and any(len(p.weights) > 1 for p in spec.objectives):
        objective = for_ax(", ".join(_objective(spec, i, part, combined) for i, part in enumerate(spec.objectives)))
    constraints = []
    for i, (text, constraint) in enumerate(zip(spec.outcome_constraints, spec.constraints, strict=True)):
        if len(constraint.weights) > 1:
            combined.append(CombinedMetric(_free_name(spec, f"constraint_{i}"), constraint.weights))
            text = f"{combined[-1].name} {constraint.operator} {constraint.bound!r}"
        constraints.append(for_ax(text))
    return AxDefinition(objective, tuple(constraints), tuple(combined))


def _objective(spec: ExperimentSpec, index: int, part: Linear, combined: list[CombinedMetric]) -> str:
    if len(part.weights) == 1:
        ((name, weight),) = part.weights.items()
        return f"{weight!r} * {name}"
    combined.append(CombinedMetric(_free_name(spec, f"objective_{index}"), part.weights))
    return combined[-1].name


def _free_name(spec: ExperimentSpec, name: str) -> str:
    name = f"{_PREFIX}{name}"
    while name in spec.metric_names:
        name += "_"
    return name
