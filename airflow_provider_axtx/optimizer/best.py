"""Names the best trial, or the Pareto frontier, as data."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Sequence
from typing import Any

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.errors import TrialNotFoundError
from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.optimizer.combined import ax_definition
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import Standing, goals, standing, undominated

with quiet_import():
    from ax.exceptions.core import OptimizationComplete
    from ax.utils.common.random import with_rng_seed

    from airflow_provider_axtx.optimizer.ax_errors import PENDING, readable_errors
    from airflow_provider_axtx.optimizer.rebuild import Rebuilt, rebuild

_log = logging.getLogger(__name__)

_Metrics = dict[str, dict[str, float | None]]


def best(
    snapshot: ExperimentSnapshot,
    *,
    use_model_predictions: bool = False,
    allowed_factories: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return the best trial, or the Pareto frontier when there are several objectives.

    Only completed trials that satisfy the outcome constraints are considered, as ``spec.ranking`` judges them.

    :param use_model_predictions: rank by the model's predictions instead of the observations; takes as long as a
        generation. The observations decide while there is no model, when the model fits badly, and when it names a
        trial that was observed to violate a constraint.
    :param allowed_factories: see ``rebuild``; only a model needs the definition's strategy.
    :return: ``[{trial_index, arm_name, parameters, metrics: {name: {mean, sem}}}]`` in order of trial index; ``sem``
        is None when it is unknown.
    :raises TrialNotFoundError: when no trial qualifies yet.
    """
    spec = ExperimentSpec.from_store(snapshot.spec)
    completed = {trial.index: trial for trial in completed_trials(snapshot.trials, snapshot.observations)}
    if not completed:
        raise TrialNotFoundError(
            f"Experiment {snapshot.name!r} has no completed trial; it has {len(snapshot.trials)} trials.",
            fix="wait for a trial to complete, or look at the reasons of those that failed.",
        )
    ranked = standing(spec, list(completed.values()))
    predicted = _predicted(snapshot, ranked, allowed_factories) if use_model_predictions else {}
    found = sorted(predicted) or ranked.best_trials
    if not found:
        raise _none_feasible(spec, ranked, len(completed))
    trials = {trial.index: trial for trial in snapshot.trials}
    return [
        {
            "trial_index": index,
            "arm_name": trials[index].arm_name,
            "parameters": dict(trials[index].parameters),
            "metrics": predicted.get(index)
            or {name: {"mean": mean, "sem": sem} for name, (mean, sem) in completed[index].results.items()},
        }
        for index in found
    ]


def _none_feasible(spec: ExperimentSpec, ranked: Standing, completed: int) -> TrialNotFoundError:
    if spec.needs_baseline and len(ranked.infeasible) < completed:
        return TrialNotFoundError(
            f"outcome_constraints {list(spec.outcome_constraints)!r} of experiment {spec.name!r} refer to the "
            "baseline, which has no value.",
            fix="let the baseline trial complete first.",
        )
    return TrialNotFoundError(
        f"No completed trial of experiment {spec.name!r} satisfies all outcome constraints.",
        fix="run more trials, or relax outcome_constraints in a new experiment.",
    )


def _predicted(
    snapshot: ExperimentSnapshot, ranked: Standing, allowed_factories: Sequence[str] | None
) -> dict[int, _Metrics]:
    """Return the predicted metrics of the best trials by the model, by trial index; empty when it cannot decide."""
    if not ranked.feasible:
        return {}
    rebuilt = rebuild(snapshot, allowed_factories=allowed_factories)
    with readable_errors(snapshot.name), with_rng_seed(rebuilt.spec.generation.random_seed):
        with contextlib.suppress(OptimizationComplete, *PENDING):
            # Without a fitted model Ax judges by the observations.
            rebuilt.strategy.fit(rebuilt.experiment)
        found = _best_of_ax(rebuilt)
    if violating := sorted(set(found) - set(ranked.feasible)):
        _log.warning("The model names trials %s, which were observed to violate an outcome constraint.", violating)
    kept = {index: metrics for index, metrics in found.items() if index in ranked.feasible}
    return _undominated(rebuilt.spec, kept) if rebuilt.spec.is_multi_objective else kept


def _best_of_ax(rebuilt: Rebuilt) -> dict[int, _Metrics]:
    if rebuilt.spec.is_multi_objective:
        found = rebuilt.client.get_pareto_frontier(use_model_predictions=True)
    else:
        try:
            found = [rebuilt.client.get_best_parameterization(use_model_predictions=True)]
        except AssertionError:  # Ax has no better error for "there is none".
            found = []
    combined = ax_definition(rebuilt.spec).combined_names
    return {
        index: {
            # Beside a predicted mean Ax returns the variance, although it calls it SEM.
            name: {"mean": float(mean), "sem": None if math.isnan(variance) else math.sqrt(variance)}
            for name, (mean, variance) in metrics.items()
            if name not in combined
        }
        for _, metrics, index, _ in found
    }


def _undominated(spec: ExperimentSpec, predicted: dict[int, _Metrics]) -> dict[int, _Metrics]:
    """Return the frontier among predictions: of ``a + b, c`` Ax makes three objectives."""
    gains: dict[int, list[float]] = {}
    for index, metrics in predicted.items():
        means = {name: value["mean"] for name, value in metrics.items() if value["mean"] is not None}
        values = [(goal, goal.value(means)) for goal in goals(spec)]
        known = [goal.gain(value) for goal, value in values if value is not None]
        if len(known) == len(values):
            gains[index] = known
    return {index: predicted[index] for index in undominated(gains)}
