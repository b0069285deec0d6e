"""What ``AxOptimizeOperator`` returns when its experiment has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.errors import TrialNotFoundError
from airflow_provider_axtx.core.usage import saved_by, usage_of
from airflow_provider_axtx.operators._app_request import prune_checkpoints
from airflow_provider_axtx.operators._completing import announce_best, drop_outlets

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import ExperimentSnapshot
    from airflow_provider_axtx.lifecycle.optimize import Loop
    from airflow_provider_axtx.operators._app_request import SettlesTrialsMixin
    from airflow_provider_axtx.operators.base import LineageMixin
    from airflow_provider_axtx.store.experiments import ExperimentStore

_SHOWN_REASONS = 5


def result_of(task: SettlesTrialsMixin, context: Context, loop: Loop, stop_reason: str) -> dict[str, Any]:
    """Return the result of an experiment that has ended.

    :raises AirflowFailException: when no trial has succeeded, or one has failed and ``on_trial_failure`` is ``fail``.
    """
    prune_checkpoints(task, loop.store, loop.experiment, task.keep_checkpoints, is_over=True)
    snapshot, counts = loop.store.snapshot(loop.experiment), loop.store.summary(loop.experiment).trial_counts
    task.log.info("Experiment %r has ended: %s\n%s", loop.experiment, stop_reason, loop.table())
    bad = [f"trial {trial.index}: {trial.reason}" for trial in snapshot.trials if trial.reason]
    rest = len(bad) - _SHOWN_REASONS
    reasons = "; ".join(bad[:_SHOWN_REASONS]) + (f"; and {rest} more" if rest > 0 else "")
    if not counts.get("COMPLETED") and not counts.get("EARLY_STOPPED"):
        raise AirflowFailException(
            f"No trial of experiment {loop.experiment!r} has succeeded ({len(snapshot.trials)} were run). "
            f"It ended because of {stop_reason}. {reasons}"
        )
    if stop_reason.startswith("on_trial_failure"):
        raise AirflowFailException(f"Experiment {loop.experiment!r} ended because of {stop_reason}. {reasons}")
    return {
        "experiment": loop.experiment,
        "best": _best(task, context, loop.store, snapshot),
        "trials": counts,
        "n_trials": len(snapshot.trials),
        "stop_reason": stop_reason,
        **_usage(loop),
    }


def _usage(loop: Loop) -> dict[str, Any]:
    """Return what the trials of this loop have used, and what was not used."""
    own, now = loop.trials_of_task(), time.time()
    used = usage_of((attempt for attempts in own.attempts.values() for attempt in attempts), now)
    saved = saved_by(own.trials, own.attempts, now)
    return {"resource_hours": used.hours, "cost": used.cost, "saved": saved.to_json()}


def _best(
    task: LineageMixin, context: Context, store: ExperimentStore, snapshot: ExperimentSnapshot
) -> dict[str, Any] | list[dict[str, Any]] | None:
    from airflow_provider_axtx.optimizer import engine as optimizer
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    try:
        best = optimizer.best(snapshot)
    except TrialNotFoundError as error:
        task.log.warning("%s", error)
        drop_outlets(task)
        return None
    return announce_best(task, context, store, ExperimentSpec.from_store(snapshot.spec), best)
