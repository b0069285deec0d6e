"""Stopping trials early: reads what live apps have reported so far, asks Ax, cancels.

Every step is recorded before the next, so the work may be cut anywhere. A decision that was not recorded is made again
with the trial's next progressive result; a recorded one is carried out by whichever process polls the app next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import STOPPED_EARLY
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.lifecycle.attempts import cancel_attempt
from airflow_provider_axtx.lifecycle.complete import record_progress
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def stop_early(
    store: ExperimentStore,
    launcher_for: Callable[[AttemptRecord], TorchXLauncher],
    experiment: str,
    attempts: Sequence[AttemptRecord],
) -> list[int]:
    """Record the new progressive results of live attempts, and cancel the apps of trials that Ax's strategy gives up.

    The trial is EARLY_STOPPED once a poll has seen the end of its app; its last step counts as its final value. Ax is
    imported only when the experiment has a strategy and there is something new.

    :param launcher_for: gives the launcher of an attempt.
    :param attempts: live attempts of the experiment, at most one for each trial.
    :return: indexes of the trials whose apps were cancelled now.
    :raises SchedulerUnavailableError: when an app could not be cancelled; calling again is safe.
    :raises TrackerUnavailableError: when progressive results cannot be read just now.
    """
    if not has_early_stopping(store, experiment):
        return []
    live = [attempt for attempt in attempts if attempt.finished_at is None and attempt.cancel_requested_at is None]
    progressed = [record_progress(store, attempt) for attempt in live]
    crash_point("early.after_progress")
    if not any(progressed):
        return []
    from airflow_provider_axtx.optimizer import engine as optimizer

    reasons = optimizer.early_stop(store.snapshot(experiment))
    stopped = []
    for attempt in live:
        if (reason := reasons.get(attempt.trial_index)) is not None:
            log.info("Trial %s is %s: %s", attempt.trial_index, STOPPED_EARLY, reason)
            attempt = cancel_attempt(store, launcher_for(attempt), attempt, f"{STOPPED_EARLY}: {reason}")
            if attempt.finished_at is None:
                stopped.append(attempt.trial_index)
    crash_point("early.after_cancelled")
    return stopped


def has_early_stopping(store: ExperimentStore, experiment: str) -> bool:
    """Return whether trials of the experiment may be stopped early."""
    return ExperimentSpec.load(store.spec(experiment)).early_stopping is not None
