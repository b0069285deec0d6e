"""Which trials to stop early, and whether the experiment has ended, as Ax's strategies decide."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.spec.halving import fallen_behind
from airflow_provider_axtx.spec.stopping import (
    EarlyStoppingSpec,
    GlobalStoppingSpec,
    LogicalStopping,
    PercentileStopping,
    SuccessiveHalving,
    ThresholdStopping,
)

with quiet_import():
    from ax.core.experiment import Experiment
    from ax.early_stopping.strategies import (
        BaseEarlyStoppingStrategy,
        PercentileEarlyStoppingStrategy,
        ThresholdEarlyStoppingStrategy,
    )
    from ax.global_stopping.strategies.improvement import ImprovementGlobalStoppingStrategy

    from airflow_provider_axtx.optimizer.rebuild import RebuiltFacts, rebuild_without_strategy


def early_stop(snapshot: ExperimentSnapshot) -> dict[int, str]:
    """Return the trials in flight that the experiment's rule stops now, by index, each with the reason.

    :return: empty when the experiment has no early stopping, or none of them is stopped yet.
    :raises InvalidInputError: when the snapshot is not usable.
    """
    # Final values have no step: Ax drops them here, with a warning each time.
    progress = tuple(o for o in snapshot.observations if o.step is not None)
    with_progress = snapshot.stoppable & {o.trial_index for o in progress}
    if not with_progress:
        return {}
    facts = replace(snapshot, observations=progress)
    rebuilt = rebuild_without_strategy(facts)
    if rebuilt.spec.early_stopping is None:
        return {}
    return dict(sorted(_stopped(rebuilt.spec.early_stopping, rebuilt, facts, with_progress).items()))


def _stopped(
    rule: EarlyStoppingSpec, rebuilt: RebuiltFacts, facts: ExperimentSnapshot, candidates: set[int]
) -> dict[int, str]:
    if isinstance(rule, LogicalStopping):
        left, right = (_stopped(part, rebuilt, facts, candidates) for part in (rule.left, rule.right))
        chosen = left.keys() & right.keys() if rule.type == "and" else left.keys() | right.keys()
        return {index: ", ".join(part[index] for part in (left, right) if index in part) for index in chosen}
    if isinstance(rule, SuccessiveHalving):
        return fallen_behind(rebuilt.spec, rule, facts, candidates)
    decided = _strategy(rule, rebuilt.experiment).should_stop_trials_early(candidates, rebuilt.experiment)
    return {index: reason or "Ax gave no reason" for index, reason in decided.items()}


def check_early_stopping(rule: EarlyStoppingSpec, experiment: Experiment) -> None:
    """Check that Ax accepts a rule.

    :raises ax.exceptions.core.AxError: when Ax refuses a part of it.
    """
    if isinstance(rule, LogicalStopping):
        for part in (rule.left, rule.right):
            check_early_stopping(part, experiment)
    elif not isinstance(rule, SuccessiveHalving):
        _strategy(rule, experiment)


def _strategy(rule: PercentileStopping | ThresholdStopping, experiment: Experiment) -> BaseEarlyStoppingStrategy:
    """Return Ax's strategy for a rule.

    :raises ax.exceptions.core.AxError: when Ax refuses it.
    """
    arguments = rule.model_dump(exclude={"type"})
    if rule.metric_signatures is not None:
        arguments["metric_signatures"] = [experiment.metrics[name].signature for name in rule.metric_signatures]
    if isinstance(rule, ThresholdStopping):
        return ThresholdEarlyStoppingStrategy(**arguments)
    return PercentileEarlyStoppingStrategy(**arguments)


def global_stop(snapshot: ExperimentSnapshot) -> str | None:
    """Return why the experiment ends, or None while it continues.

    :raises InvalidInputError: when the snapshot is not usable.
    """
    return improvement_stop(rebuild_without_strategy(snapshot))


def improvement_stop(rebuilt: RebuiltFacts) -> str | None:
    """Return why a rebuilt experiment ends, or None while it continues."""
    spec = rebuilt.spec.global_stopping
    if spec is None or not any(trial.status.is_completed for trial in rebuilt.experiment.trials.values()):
        return None
    stop, reason = global_stopping_strategy(spec).should_stop_optimization(rebuilt.experiment)
    return reason if stop else None


def global_stopping_strategy(spec: GlobalStoppingSpec) -> ImprovementGlobalStoppingStrategy:
    """Return Ax's strategy for a definition.

    :raises ValueError: when Ax refuses it.
    """
    return ImprovementGlobalStoppingStrategy(**spec.model_dump(exclude={"type"}))
