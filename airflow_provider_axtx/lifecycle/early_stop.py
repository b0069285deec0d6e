"""Stopping trials early: reads what live apps have reported so far, asks Ax, cancels.

Every step is recorded before the next, so the work may be cut anywhere: a cancel intent that an earlier call recorded
is carried out. A decision that was not recorded is made again with the trial's next progressive result.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.lifecycle.attempts import await_cancelled, cancel_attempt
from airflow_provider_axtx.lifecycle.complete import STOPPED_EARLY, finalize, record_progress
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def stop_early(
    store: ExperimentStore, launcher: TorchXLauncher, experiment: str, attempts: Sequence[AttemptRecord]
) -> list[int]:
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
    decided = {attempt.trial_index: attempt.cancel_reason for attempt in attempts if is_stopped_early(attempt)}
    live = [attempt for attempt in attempts if attempt.finished_at is None and attempt.cancel_requested_at is None]
    progressed = [record_progress(store, experiment, attempt.trial_index, attempt.tracker_base) for attempt in live]
    crash_point("early.after_progress")
    if any(progressed):
        from airflow_provider_axtx.optimizer import engine as optimizer

        reasons = optimizer.early_stop(store.snapshot(experiment))
        decided |= {index: f"{STOPPED_EARLY}: {reason}" for index, reason in reasons.items()}
    return [
        attempt.trial_index
        for attempt in attempts
        if (reason := decided.get(attempt.trial_index)) is not None and _stop(store, launcher, attempt, reason)
    ]


def has_early_stopping(store: ExperimentStore, experiment: str) -> bool:
    """Return whether trials of the experiment may be stopped early."""
    return ExperimentSpec.load(store.spec(experiment)).early_stopping is not None


def is_stopped_early(attempt: AttemptRecord) -> bool:
    """Return whether it was decided to stop this run early, whether or not its app is gone."""
    return (attempt.cancel_reason or "").startswith(STOPPED_EARLY)


def _stop(store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, reason: str) -> bool:
    """Cancel the app and settle its trial; return whether that made it EARLY_STOPPED.

    It may have ended by itself, or been cancelled for another reason, in the meantime: what was recorded first stays.
    """
    log.info("Trial %s is %s", attempt.trial_index, reason)
    attempt = await_cancelled(store, launcher, cancel_attempt(store, launcher, attempt, reason))
    crash_point("early.after_cancelled")
    record_progress(store, attempt.experiment, attempt.trial_index, attempt.tracker_base)
    outcome = finalize(store, attempt, AppObservation(attempt.app_state or "CANCELLED", attempt.message or reason))
    return outcome.trial_status == "EARLY_STOPPED"
