"""Ranks completed trials: the best trial so far, trial by trial, or the Pareto frontier. Computed without Ax.

This is the only judgement of what is best: the operators, the page, the notifier and the assets use it. It judges what
was observed, as Ax's ``get_best_parameterization(use_model_predictions=False)`` does, but also where Ax 1.3.1 does not
do what it documents; ``tests/optimizer/test_ranking_of_ax.py`` compares the two and lists those cases.

- Only COMPLETED trials count that have every metric of the objective and of the constraints.
- A trial is infeasible when the 95 % interval of a constrained metric lies outside the bound. Without a standard error
  the interval is the mean. The metrics of one constraint are taken as independent.
- Trials of one arm (the same parameterization) are feasible together or not at all.
- ``qps >= 0.95 * baseline`` allows 5 % less than the baseline's value, in percent of its absolute value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.completed import CompletedTrial
from airflow_provider_axtx.spec.expressions import Inequality, Linear

if TYPE_CHECKING:
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

#: Metric name -> observed mean.
Means = Mapping[str, float]
#: Half the width of a 95 % interval, in standard errors, as Ax has it.
_Z = 1.96


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
        """Return the objective's value, which may overflow; None when a metric of it was not observed."""
        if any(name not in means for name in self.weights):
            return None
        value = sum(weight * means[name] for name, weight in self.weights.items())
        return None if math.isnan(value) else value

    def gain(self, value: float) -> float:
        """Return a number that is higher when the value is better."""
        return -value if self.minimize else value


@dataclass(frozen=True)
class Standing:
    """The ranking of an experiment's completed trials.

    :param best: index of the best trial; None before the first feasible one, and with several objectives.
    :param best_so_far: (trial index, best value up to it) for each COMPLETED trial; empty with several objectives.
    :param frontier: indexes of the trials that no other feasible trial dominates; only with several objectives.
    :param infeasible: indexes of the COMPLETED trials that violate an outcome constraint.
    :param feasible: indexes of those that satisfy all constraints and have all metrics.
    """

    best: int | None
    best_so_far: tuple[tuple[int, float | None], ...]
    frontier: tuple[int, ...]
    infeasible: tuple[int, ...]
    feasible: tuple[int, ...] = ()

    @property
    def best_value(self) -> float | None:
        """The objective's value of the best trial, or None."""
        return self.best_so_far[-1][1] if self.best_so_far else None

    @property
    def best_trials(self) -> tuple[int, ...]:
        """The index of the best trial, or those of the frontier; empty while no trial is feasible."""
        return self.frontier if self.best is None else (self.best,)


def goals(spec: ExperimentSpec) -> list[Goal]:
    """Return the objectives. Ax maximizes linear combinations; one with only negative weights is shown as minimized."""
    return [_goal(linear) for linear in spec.objectives]


def _goal(linear: Linear) -> Goal:
    minimize = all(weight < 0 for weight in linear.weights.values())
    weights = {name: -weight if minimize else weight for name, weight in linear.weights.items()}
    terms = [f"{'+' if w > 0 else '-'} {'' if abs(w) == 1 else f'{abs(w):g}*'}{name}" for name, w in weights.items()]
    return Goal(" ".join(terms).removeprefix("+ "), minimize, weights)


def standing(spec: ExperimentSpec, completed: Sequence[CompletedTrial]) -> Standing:
    """Return the ranking of an experiment's completed trials.

    :param completed: the COMPLETED trials, in order of their index.
    """
    wanted = goals(spec)
    verdicts = _verdicts(spec, completed)
    infeasible = tuple(sorted(index for index, verdict in verdicts.items() if verdict is False))
    values: dict[int, list[float]] = {}
    for trial in completed:
        means = trial.means
        known = [value for value in (goal.value(means) for goal in wanted) if value is not None]
        if verdicts[trial.index] and len(known) == len(wanted):
            values[trial.index] = known
    if len(wanted) > 1:
        gains = {i: [goal.gain(v) for goal, v in zip(wanted, vs, strict=True)] for i, vs in values.items()}
        return Standing(None, (), tuple(sorted(undominated(gains))), infeasible, tuple(values))
    order = [trial.index for trial in completed]
    best, so_far = _best_so_far(wanted[0], order, {index: vs[0] for index, vs in values.items()})
    return Standing(best, so_far, (), infeasible, tuple(values))


def _best_so_far(
    goal: Goal, completed: Sequence[int], values: Mapping[int, float]
) -> tuple[int | None, tuple[tuple[int, float | None], ...]]:
    best: int | None = None
    so_far: list[tuple[int, float | None]] = []
    for index in completed:
        if index in values and (best is None or goal.gain(values[index]) > goal.gain(values[best])):
            best = index
        so_far.append((index, None if best is None else values[best]))
    return best, tuple(so_far)


def _verdicts(spec: ExperimentSpec, completed: Sequence[CompletedTrial]) -> dict[int, bool | None]:
    """Return whether each trial is feasible; None when a missing value leaves it open."""
    constraints = [_absolute(constraint, completed) for constraint in spec.constraints]
    alone = {trial.index: _verdict(trial, constraints) for trial in completed}
    by_arm: dict[object, list[bool | None]] = {}
    for trial in completed:
        by_arm.setdefault(_arm(trial), []).append(alone[trial.index])
    return {trial.index: _all(by_arm[_arm(trial)]) for trial in completed}


def _arm(trial: CompletedTrial) -> object:
    return trial.arm_name or trial.index


def _verdict(trial: CompletedTrial, constraints: Iterable[Inequality | None]) -> bool | None:
    return _all([None if constraint is None else _satisfies(trial, constraint) for constraint in constraints])


def _all(verdicts: Sequence[bool | None]) -> bool | None:
    """Return False when one verdict is, else None when one is open, else True."""
    if False in verdicts:
        return False
    return None if None in verdicts else True


def _satisfies(trial: CompletedTrial, constraint: Inequality) -> bool | None:
    """Return whether the 95 % interval of the constraint's left side touches the bound's right side."""
    if any(name not in trial.results for name in constraint.weights):
        return None
    value = sum(weight * trial.results[name][0] for name, weight in constraint.weights.items())
    margin = _Z * math.hypot(*(weight * (trial.results[name][1] or 0.0) for name, weight in constraint.weights.items()))
    return value - margin <= constraint.bound if constraint.operator == "<=" else value + margin >= constraint.bound


def _absolute(constraint: Inequality, completed: Iterable[CompletedTrial]) -> Inequality | None:
    """Return a constraint with its bound as a number, or None while the baseline has no value."""
    if len(constraint.weights) > 1:
        return constraint
    # Divided as in Ax, which makes the bound on a metric itself from that on a multiple of it.
    ((name, weight),) = constraint.weights.items()
    operator = constraint.operator if weight > 0 else {"<=": ">=", ">=": "<="}[constraint.operator]
    bound = constraint.bound / weight
    if constraint.relative:
        values = [trial.results[name][0] for trial in completed if trial.is_baseline and name in trial.results]
        if not values:
            return None
        # A change in percent, rounded, of the absolute value, in Ax's order of operations.
        percent = round((bound - 1) * 100, 10)
        bound = (1 + math.copysign(1.0, values[-1]) * percent / 100.0) * values[-1]
    return Inequality({name: 1.0}, operator, bound)


def undominated(gains: Mapping[int, list[float]]) -> list[int]:
    """Return the points that no other point equals or exceeds everywhere and exceeds somewhere.

    :param gains: for each point one number for each objective, higher is better.
    """
    front: list[tuple[int, list[float]]] = []
    # Best first: a point comes after all points that dominate it, so comparing it with the frontier is enough.
    for index, point in sorted(gains.items(), key=lambda one: one[1], reverse=True):
        if not any(_dominates(other, point) for _, other in front):
            front.append((index, point))
    return [index for index, _ in front]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
