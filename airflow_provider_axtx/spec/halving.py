"""Asynchronous successive halving (ASHA): which trials have fallen behind at their rung. Computed without Ax.

The rules are those of the variant that stops trials instead of pausing them (Optuna's ``SuccessiveHalvingPruner``): of
the trials that have reached a rung, the best ``1 / reduction_factor`` go on, and always the best one. They differ in
one point. A trial is judged at the highest rung that it has reached, again whenever something is reported, and not once
when it reaches the rung. So the answer follows from the recorded facts alone, whenever it is asked for: nothing has to
be remembered, and a process that is killed between two steps has decided nothing that is lost.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.core.status import TrialStatus
from airflow_provider_axtx.spec.ranking import Goal, goals

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import ExperimentSnapshot
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.spec.stopping import SuccessiveHalving

#: What such trials have reported is not compared: it may be the fault itself.
_NOT_COMPARED = ("FAILED", "ABANDONED")

#: The value of the objective at each step, in order of the steps.
Curve = Mapping[float, float]


def fallen_behind(
    spec: ExperimentSpec, rule: SuccessiveHalving, snapshot: ExperimentSnapshot, in_flight: Collection[int]
) -> dict[int, str]:
    """Return the trials in flight that are to be stopped, by index, each with the reason.

    :param rule: the experiment's rule, or the part of it that is successive halving.
    :param snapshot: what is recorded.
    :param in_flight: indexes of the trials that may be stopped.
    """
    if rule.promotion is not None:
        return {}  # their apps end by themselves at each rung
    goal = _compared(spec, rule)
    curves = _compared_curves(goal, snapshot)
    found = {}
    for index in sorted(set(in_flight) & curves.keys()):
        rung = rule.rung_of(max(curves[index]))
        if rung is not None and (reason := _reason(goal, rule, rung, index, curves)):
            found[index] = reason
    return found


def promoting(spec: ExperimentSpec) -> SuccessiveHalving | None:
    """Return the rule by which the trials of an experiment are promoted; None where they are not."""
    # Only successive halving has such a field.
    rule = spec.early_stopping
    return None if getattr(rule, "promotion", None) is None else cast("SuccessiveHalving", rule)


def argument_types(spec: ExperimentSpec) -> dict[str, str]:
    """Return the names and types of the arguments that an app gets: ``float``, ``int``, ``str``, ``bool``."""
    rule = promoting(spec)
    types = {parameter.name: str(parameter.parameter_type) for parameter in spec.parameters}
    return types if rule is None else {**types, **rule.argument_type}


def promotions(
    spec: ExperimentSpec,
    rule: SuccessiveHalving,
    snapshot: ExperimentSnapshot,
    *,
    own: Collection[int] | None = None,
    is_last: bool = False,
) -> list[tuple[int, float]]:
    """Return the paused trials that are to go on, each with its next budget, the largest budgets first.

    Of the trials that have come to the end of a budget, the best ``1 / reduction_factor`` get the next one. A trial is
    paused when it is EARLY_STOPPED: with this rule, nothing else stops one early.

    The baseline is asked for the whole budget at once. One that has paused, as earlier versions let it, goes on first.

    :param own: indexes of the trials that can go on: those of one task, compared with all; None is all. A task that
        resumed an experiment once completed nothing, since the best trial was the one of an earlier task.
    :param is_last: nothing else can be started: of the trials that have come farthest, the best one goes on.
    """
    goal = _compared(spec, rule)
    curves, budgets = _compared_curves(goal, snapshot), rule.budgets
    stopped = [
        trial
        for trial in snapshot.trials
        if trial.status == TrialStatus.EARLY_STOPPED and (own is None or trial.index in own)
    ]
    found = [(trial.index, budgets[-1]) for trial in stopped if trial.is_baseline]
    if found and is_last:
        return found
    paused = {trial.index for trial in stopped if not trial.is_baseline}
    for budget, following in reversed(list(pairwise(budgets))):
        values = {index: curve[budget] for index, curve in curves.items() if budget in curve}
        ranked = sorted(values, key=lambda index: (-goal.gain(values[index]), index))
        waiting = {index for index in paused if index in values and max(curves[index]) < following}
        best = [index for index in ranked[: len(values) // rule.reduction_factor] if index in waiting]
        if is_last and waiting and not best:
            best = [next(index for index in ranked if index in waiting)]
        if best and is_last:
            return [(best[0], following)]
        found += [(index, following) for index in best]
    return found


def _reason(goal: Goal, rule: SuccessiveHalving, rung: float, index: int, curves: Mapping[int, Curve]) -> str | None:
    """Return why a trial is stopped at a rung, or None when it goes on."""
    values = {number: value for number, curve in curves.items() if (value := _value_at(curve, rung)) is not None}
    going_on = max(1, len(values) // rule.reduction_factor)
    cutoff = sorted(map(goal.gain, values.values()), reverse=True)[going_on - 1]
    if goal.gain(values[index]) >= cutoff:
        return None
    return (
        f"{goal.label} {values[index]:.6g} at step {rung:g} is not among the best {going_on} of {len(values)} "
        "trials that have reached this step"
    )


def _compared(spec: ExperimentSpec, rule: SuccessiveHalving) -> Goal:
    """Return what is compared: the metric that the rule names, or the first objective."""
    wanted = goals(spec)
    for name in rule.metric_signatures or ():
        weight = next(goal.weights[name] * (-1 if goal.minimize else 1) for goal in wanted if name in goal.weights)
        return Goal(name, weight < 0, {name: 1.0})
    return wanted[0]


def _compared_curves(goal: Goal, snapshot: ExperimentSnapshot) -> dict[int, Curve]:
    compared = {trial.index for trial in snapshot.trials if trial.status not in _NOT_COMPARED}
    return _curves(goal, (o for o in snapshot.observations if o.trial_index in compared))


def _curves(goal: Goal, observations: Iterable[Observation]) -> dict[int, Curve]:
    """Return the curve of each trial that has one; a step at which a metric of the objective is missing is left out."""
    means: dict[int, dict[float, dict[str, float]]] = {}
    for one in observations:
        if one.step is not None and math.isfinite(one.mean):
            means.setdefault(one.trial_index, {}).setdefault(one.step, {})[one.metric] = one.mean
    curves = {
        index: {step: value for step, at in sorted(steps.items()) if (value := goal.value(at)) is not None}
        for index, steps in means.items()
    }
    return {index: curve for index, curve in curves.items() if curve}


def _value_at(curve: Curve, rung: float) -> float | None:
    """Return the first value that was reported at the rung or after it; None before the rung is reached."""
    return next((value for step, value in curve.items() if step >= rung), None)
