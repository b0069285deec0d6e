"""When to stop a trial early, and when to stop the whole experiment: the arguments of Ax's stopping strategies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from airflow_provider_axtx.core.inputs import MAX_COUNT
from airflow_provider_axtx.core.numbers import Number, Whole
from airflow_provider_axtx.spec.model import Frozen
from airflow_provider_axtx.spec.problems import Problem, closest

_Count = Annotated[Whole, Field(ge=0, le=MAX_COUNT)]
_Positive = Annotated[Whole, Field(ge=1, le=MAX_COUNT)]


def _one_metric(names: tuple[str, ...] | None) -> Iterator[Problem]:
    if names is not None and len(names) != 1:
        fix = 'name one; combine two strategies with type "and" or "or" to look at two metrics.'
        yield Problem("metric_signatures", list(names), "is not one metric", fix)


class _CurveStopping(Frozen):
    """The fields that both strategies of Ax on one metric's curve share; the names are Ax's.

    :param metric_signatures: the name of the one metric to compare; it must be part of the objective. None means the
        objective, and the first one of several objectives.
    :param min_progression: no trial is stopped before this step.
    :param max_progression: no trial is stopped after this step.
    :param min_curves: the number of trials that must have completed with progressive results before a trial is stopped.
    :param normalize_progressions: steps are scaled to 0 ... 1 by the smallest and the largest reported step.
    """

    metric_signatures: tuple[str, ...] | None = None
    min_progression: Annotated[Number, Field(ge=0)] = 10.0
    max_progression: Number | None = None
    min_curves: _Count = 5
    normalize_progressions: bool = False

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this part."""
        yield from _one_metric(self.metric_signatures)
        lower, upper = self.min_progression, self.max_progression
        if upper is not None and lower >= upper:
            yield Problem(
                "max_progression", upper, f"is not above min_progression {lower:g}", "raise it, or leave it out."
            )


class PercentileStopping(_CurveStopping):
    """Ax's ``PercentileEarlyStoppingStrategy``: stops a trial that is among the worst at its step.

    :param percentile_threshold: a trial in the worst that many percent of the curves is stopped.
    :param n_best_trials_to_complete: the number of best curves that are never stopped.
    :param patience: the number of steps for which the trial must have been among the worst.
    :param check_safe: never stop when the strategy would have stopped the best trial so far.
    """

    type: Literal["percentile"] = "percentile"
    percentile_threshold: Number = 50.0
    n_best_trials_to_complete: _Positive | None = None
    patience: Number = 0.0
    check_safe: bool = False

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this part."""
        yield from super().problems()
        if not 0 < self.percentile_threshold < 100:
            yield Problem(
                "percentile_threshold", self.percentile_threshold, "is not a percentage", "write one between 0 and 100."
            )
        if not 0 <= self.patience <= self.min_progression:
            yield Problem("patience", self.patience, "is not in 0 ... min_progression", "lower it to min_progression.")


class ThresholdStopping(_CurveStopping):
    """Ax's ``ThresholdEarlyStoppingStrategy``: stops a trial that has not reached a value by ``min_progression``.

    :param metric_threshold: the value that a trial must reach.
    """

    type: Literal["threshold"] = "threshold"
    metric_threshold: Number


class Promotion(Frozen):
    """Trials pause at each rung instead of being stopped.

    :param argument: the argument by which the app is told how far to go.
    """

    argument: Annotated[str, Field(min_length=1)]


class SuccessiveHalving(Frozen):
    """Asynchronous successive halving (ASHA): of the trials that reach a rung, only the best fraction goes on.

    The rungs are at the steps ``min_resource``, ``min_resource * reduction_factor``, and so on.

    :param min_resource: the step of the lowest rung: no trial is stopped before it.
    :param reduction_factor: of so many trials at a rung one goes on; also the ratio of the steps of two rungs.
    :param max_resource: no rung is at this step or above it; None sets no end.
    :param metric_signatures: the name of the one metric to compare; it must be part of the objective. None means the
        objective, and the first one of several objectives.
    :param promotion: each attempt of a trial ends at a rung, and one of the best goes on as another attempt with a
        larger budget; None stops trials while they run.
    """

    type: Literal["successive_halving"] = "successive_halving"
    min_resource: Annotated[Number, Field(gt=0)] = 1.0
    reduction_factor: Annotated[Whole, Field(ge=2, le=MAX_COUNT)] = 4
    max_resource: Number | None = None
    metric_signatures: tuple[str, ...] | None = None
    promotion: Promotion | None = None

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong, with paths relative to this part."""
        yield from _one_metric(self.metric_signatures)
        lower, upper = self.min_resource, self.max_resource
        if self.promotion is not None and upper is None:
            yield Problem("max_resource", upper, "is missing", "set it to the budget of a whole trial.")
        if upper is not None and lower >= upper:
            yield Problem("max_resource", upper, f"is not above min_resource {lower:g}", "raise it, or leave it out.")

    def rung_of(self, step: float) -> float | None:
        """Return the step of the highest rung that a trial has reached, or None before the lowest.

        :param step: the last step that it has reported.
        """
        rung, found = self.min_resource, None
        while rung <= step and (self.max_resource is None or rung < self.max_resource):
            rung, found = rung * self.reduction_factor, rung
        return found

    @property
    def budgets(self) -> list[float]:
        """How far the attempts of a trial go that is promoted: the rungs, then the whole trial."""
        found, rung = [], float(self.min_resource)
        while self.max_resource is not None and rung < self.max_resource:
            found.append(rung)
            rung *= self.reduction_factor
        return found if self.max_resource is None else [*found, float(self.max_resource)]

    @property
    def argument_type(self) -> dict[str, str]:
        """The name and type of the argument that tells an app how far to go; empty where trials are not promoted."""
        if self.promotion is None:
            return {}
        return {self.promotion.argument: "int" if all(map(float.is_integer, self.budgets)) else "float"}


class LogicalStopping(Frozen):
    """Two strategies of which both (``and``) or one (``or``) must decide to stop."""

    type: Literal["and", "or"]
    left: EarlyStoppingSpec
    right: EarlyStoppingSpec


EarlyStoppingSpec = Annotated[
    PercentileStopping | ThresholdStopping | SuccessiveHalving | LogicalStopping,
    Field(discriminator="type"),
]
LogicalStopping.model_rebuild()


class GlobalStoppingSpec(Frozen):
    """Ax's ``ImprovementGlobalStoppingStrategy``: ends an experiment that has stopped improving; the names are Ax's.

    :param min_trials: completed trials before the experiment may end.
    :param window_size: how many of the last trials must have brought no improvement.
    :param improvement_bar: the smallest difference that counts as an improvement: a fraction of the interquartile range
        of the objective values, or of the hypervolume for several objectives.
    :param inactive_when_pending_trials: whether the experiment never ends while a trial is in flight. The default is
        false, unlike Ax's, because trials that run in parallel leave no moment without one.
    """

    type: Literal["improvement"] = "improvement"
    min_trials: _Positive
    window_size: _Positive = 5
    improvement_bar: Annotated[Number, Field(ge=0)] = 0.1
    inactive_when_pending_trials: bool = False


#: Strategies by their type.
STRATEGIES: dict[str, type[Frozen]] = {
    "percentile": PercentileStopping,
    "threshold": ThresholdStopping,
    "successive_halving": SuccessiveHalving,
    "and": LogicalStopping,
    "or": LogicalStopping,
}


def metric_problems(spec: EarlyStoppingSpec, objective: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Yield the compared metrics outside the objective: Ax does not know which of their directions is better.

    :param objective: the objective's metrics.
    """
    if isinstance(spec, LogicalStopping):
        for side in ("left", "right"):
            if getattr(getattr(spec, side), "promotion", None) is not None:
                fix = "use successive_halving with promotion alone."
                yield Problem(f"{path}.{side}.promotion", spec.type, "cannot be combined with promotion", fix)
        yield from metric_problems(spec.left, objective, f"{path}.left")
        yield from metric_problems(spec.right, objective, f"{path}.right")
        return
    for name in spec.metric_signatures or ():
        if name not in objective:
            yield Problem(f"{path}.metric_signatures", name, "is not part of the objective", closest(name, objective))
