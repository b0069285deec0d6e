"""Completed trials and their final results: what trials are ranked by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_axtx.core.records import Observation, TrialRecord
from airflow_provider_axtx.core.status import TrialStatus


@dataclass(frozen=True)
class CompletedTrial:
    """A trial whose status is COMPLETED.

    :param index: its index within the experiment.
    :param results: metric -> (mean, SEM or None) of its final values.
    :param arm_name: trials with the same arm name have the same parameterization.
    :param is_baseline: whether its parameterization is that of the baseline trial.
    """

    index: int
    results: Mapping[str, tuple[float, float | None]]
    arm_name: str = ""
    is_baseline: bool = False

    @property
    def means(self) -> dict[str, float]:
        """The mean of each metric."""
        return {metric: mean for metric, (mean, _) in self.results.items()}


def completed_trials(trials: Iterable[TrialRecord], observations: Iterable[Observation]) -> list[CompletedTrial]:
    """Return the COMPLETED ones of the trials, in their order.

    The final value of a metric is the one without a step, or else that of the last step.

    :param observations: of these trials, in any order.
    """
    final: dict[int, dict[str, Observation]] = {}
    for one in observations:
        if not math.isfinite(one.mean):
            continue  # Rows of older versions may hold NaN.
        of_trial = final.setdefault(one.trial_index, {})
        if one.metric not in of_trial or _position(of_trial[one.metric]) <= _position(one):
            of_trial[one.metric] = one
    known = list(trials)
    baseline = next((trial.arm_name for trial in known if trial.is_baseline), None)
    return [
        CompletedTrial(
            trial.index,
            {metric: (one.mean, one.sem) for metric, one in final.get(trial.index, {}).items()},
            trial.arm_name,
            trial.arm_name == baseline,
        )
        for trial in known
        if trial.status == TrialStatus.COMPLETED
    ]


def _position(observation: Observation) -> float:
    return math.inf if observation.step is None else observation.step
