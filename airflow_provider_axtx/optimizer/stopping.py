"""Asks Ax's stopping strategies which trials to stop early, and whether the experiment has ended."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.spec.stopping import (
    EarlyStoppingSpec,
    GlobalStoppingSpec,
    LogicalStopping,
    ThresholdStopping,
)

with quiet_import():
    from ax.core.experiment import Experiment
    from ax.early_stopping.strategies import (
        AndEarlyStoppingStrategy,
        BaseEarlyStoppingStrategy,
        OrEarlyStoppingStrategy,
        PercentileEarlyStoppingStrategy,
        ThresholdEarlyStoppingStrategy,
    )
    from ax.global_stopping.strategies.improvement import ImprovementGlobalStoppingStrategy

    from airflow_provider_axtx.optimizer.rebuild import RebuiltFacts, rebuild_without_strategy


def early_stop(snapshot: ExperimentSnapshot) -> dict[int, str]:
    """Return the trials in flight that Ax would stop now, by index, each with the reason.

    :return: empty when the experiment has no early stopping, or Ax stops none of them yet.
    :raises InvalidInputError: when the snapshot is not usable.
    """
    in_flight = {trial.index for trial in snapshot.trials if not is_terminal_trial_status(trial.status)}
    # Final values have no step: Ax drops them here, with a warning each time.
    progress = tuple(o for o in snapshot.observations if o.step is not None)
    with_progress = in_flight & {o.trial_index for o in progress}
    if not with_progress:
        return {}
    rebuilt = rebuild_without_strategy(replace(snapshot, observations=progress))
    if rebuilt.spec.early_stopping is None:
        return {}
    strategy = early_stopping_strategy(rebuilt.spec.early_stopping, rebuilt.experiment)
    decided = strategy.should_stop_trials_early(with_progress, rebuilt.experiment)
    return {index: reason or "Ax gave no reason" for index, reason in sorted(decided.items())}


def early_stopping_strategy(spec: EarlyStoppingSpec, experiment: Experiment) -> BaseEarlyStoppingStrategy:
    """Return Ax's strategy for a definition.

    :raises ax.exceptions.core.AxError: when Ax refuses it.
    """
    if isinstance(spec, LogicalStopping):
        logical = AndEarlyStoppingStrategy if spec.type == "and" else OrEarlyStoppingStrategy
        return logical(early_stopping_strategy(spec.left, experiment), early_stopping_strategy(spec.right, experiment))
    arguments = spec.model_dump(exclude={"type"})
    if spec.metric_signatures is not None:
        arguments["metric_signatures"] = [experiment.metrics[name].signature for name in spec.metric_signatures]
    if isinstance(spec, ThresholdStopping):
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
