"""Stopping trials early: reads what live apps have reported so far, asks Ax, cancels. No Airflow.

Every step is recorded before the next, so the work may be cut anywhere: a cancel intent that an earlier call recorded
is carried out. A decision that was not recorded is made again with the trial's next progressive result.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.lifecycle.attempts import STOPPED_EARLY, await_cancelled, cancel_run, record_progress, settle
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import RunFact
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXEngine
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def stop_early(store: ExperimentStore, engine: TorchXEngine, experiment: str, runs: Sequence[RunFact]) -> list[int]:
    """Record the new progressive results of live runs, and stop the trials that Ax's strategy gives up.

    A stopped trial is EARLY_STOPPED when this returns: its app is gone, its data is kept, its last step counts as its
    final value. Ax is imported only when the experiment has a strategy and there is something new.

    :param engine: the engine through which the runs were submitted.
    :param runs: live runs of the experiment, at most one for each trial.
    :return: indexes of the trials that are EARLY_STOPPED now.
    :raises SchedulerUnavailableError: when an app could not be cancelled; calling again is safe.
    :raises TrackerUnavailableError: when progressive results cannot be read just now.
    """
    if not has_early_stopping(store, experiment):
        return []
    decided = {run.trial_index: run.cancel_reason for run in runs if is_stopped_early(run)}
    live = [run for run in runs if run.finished_at is None and run.cancel_requested_at is None]
    progressed = [record_progress(store, experiment, run.trial_index, run.tracker_base) for run in live]
    crash_point("early.after_progress")
    if any(progressed):
        from airflow_provider_axtx.optimizer import engine as ax_engine

        reasons = ax_engine.early_stop(store.facts(experiment))
        decided |= {index: f"{STOPPED_EARLY}: {reason}" for index, reason in reasons.items()}
    return [
        run.trial_index
        for run in runs
        if (reason := decided.get(run.trial_index)) is not None and _stop(store, engine, run, reason)
    ]


def has_early_stopping(store: ExperimentStore, experiment: str) -> bool:
    """Return whether trials of the experiment may be stopped early."""
    return ExperimentSpec.load(store.spec(experiment)).early_stopping is not None


def is_stopped_early(run: RunFact) -> bool:
    """Return whether it was decided to stop this run early, whether or not its app is gone."""
    return (run.cancel_reason or "").startswith(STOPPED_EARLY)


def _stop(store: ExperimentStore, engine: TorchXEngine, run: RunFact, reason: str) -> bool:
    """Cancel the app and settle its trial; return whether that made it EARLY_STOPPED.

    It may have ended by itself, or been cancelled for another reason, in the meantime: what was recorded first stays.
    """
    log.info("Trial %s is %s", run.trial_index, reason)
    run = await_cancelled(store, engine, cancel_run(store, engine, run, reason))
    crash_point("early.after_cancelled")
    record_progress(store, run.experiment, run.trial_index, run.tracker_base)
    outcome = settle(store, run, AppObservation(run.app_state or "CANCELLED", run.message or reason))
    return outcome.trial_status == "EARLY_STOPPED"
