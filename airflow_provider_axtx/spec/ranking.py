"""Where an experiment stands: the best trial so far, trial by trial, or the Pareto frontier. Computed without Ax.

Judged by what was observed, as Ax's ``get_best_parameterization(use_model_predictions=False)`` does: only COMPLETED
trials count, and among them only those that meet the outcome constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_axtx.spec.expressions import Linear

if TYPE_CHECKING:
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

#: Metric name -> observed mean.
Means = Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """One objective as a person reads it.

    :param label: the metric's name, or the expression.
    :param minimize: whether lower is better.
    :param weights: weight of each metric in the shown value.
    """

    label: str
    minimize: bool
    weights: dict[str, float]

    def value(self, means: Means) -> float | None:
        """Return the objective's value, or None when a metric of it was not observed."""
        if any(name not in means for name in self.weights):
            return None
        return sum(weight * means[name] for name, weight in self.weights.items())

    def gain(self, value: float) -> float:
        """Return a number that is higher when the value is better."""
        return -value if self.minimize else value


@dataclass(frozen=True)
class Standing:
    """Where the experiment stands after some trials.

    :param best: index of the best trial; None before the first, and with several objectives.
    :param best_so_far: (trial index, best value up to it) for each COMPLETED trial; empty with several objectives.
    :param frontier: trials that no other one beats in every objective; only with several objectives.
    :param infeasible: COMPLETED trials that violate an outcome constraint.
    """

    best: int | None
    best_so_far: tuple[tuple[int, float | None], ...]
    frontier: tuple[int, ...]
    infeasible: tuple[int, ...]


def goals(spec: ExperimentSpec) -> list[Goal]:
    """Return the objectives. Ax maximizes linear combinations; one with only negative weights is shown as minimized."""
    return [_goal(linear) for linear in spec.objectives]


def _goal(linear: Linear) -> Goal:
    minimize = all(weight < 0 for weight in linear.weights.values())
    weights = {name: -weight if minimize else weight for name, weight in linear.weights.items()}
    if list(weights.values()) == [1.0]:
        return Goal(next(iter(weights)), minimize, weights)
    terms = [f"{'+' if w > 0 else '-'} {'' if abs(w) == 1 else f'{abs(w):g}*'}{name}" for name, w in weights.items()]
    return Goal(" ".join(terms).removeprefix("+ "), minimize, weights)


def standing(spec: ExperimentSpec, completed: Sequence[tuple[int, Means]], baseline: Means | None = None) -> Standing:
    """Return where the experiment stands.

    :param completed: the COMPLETED trials and their observed means, in order of their index.
    :param baseline: means of the baseline trial, for constraints relative to it.
    """
    wanted = goals(spec)
    infeasible = {index for index, means in completed if not is_feasible(spec, means, baseline)}
    values: list[tuple[int, list[float]]] = []
    for index, means in completed:
        found = [goal.value(means) for goal in wanted]
        known = [value for value in found if value is not None]
        if index not in infeasible and len(known) == len(wanted):
            values.append((index, known))
    if len(wanted) > 1:
        gains = [(index, [goal.gain(v) for goal, v in zip(wanted, vs, strict=True)]) for index, vs in values]
        return Standing(None, (), tuple(sorted(_frontier(gains))), tuple(sorted(infeasible)))
    best, so_far = _so_far(wanted[0], [index for index, _ in completed], {index: vs[0] for index, vs in values})
    return Standing(best, so_far, (), tuple(sorted(infeasible)))


def _so_far(
    goal: Goal, completed: Sequence[int], values: Mapping[int, float]
) -> tuple[int | None, tuple[tuple[int, float | None], ...]]:
    best: int | None = None
    so_far: list[tuple[int, float | None]] = []
    for index in completed:
        if index in values and (best is None or goal.gain(values[index]) > goal.gain(values[best])):
            best = index
        so_far.append((index, None if best is None else values[best]))
    return best, tuple(so_far)


def is_feasible(spec: ExperimentSpec, means: Means, baseline: Means | None = None) -> bool:
    """Return whether the means meet every outcome constraint; one that cannot be judged counts as met."""
    for constraint in spec.constraints:
        bound = constraint.bound
        if constraint.relative:
            name = next(iter(constraint.weights))
            if baseline is None or name not in baseline:
                continue
            bound *= baseline[name]
        left = Goal("", False, constraint.weights).value(means)
        if left is not None and (left > bound if constraint.operator == "<=" else left < bound):
            return False
    return True


def _frontier(gains: Sequence[tuple[int, list[float]]]) -> list[int]:
    """Return the points that no other is at least as good as everywhere and better somewhere."""
    front: list[tuple[int, list[float]]] = []
    # Best first: whoever beats a point comes before it, so one comparison with the frontier is enough.
    for index, point in sorted(gains, key=lambda one: one[1], reverse=True):
        if not any(_beats(other, point) for _, other in front):
            front.append((index, point))
    return [index for index, _ in front]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
