"""Stopping trials early: reads what live apps have reported so far, judges or asks Ax, cancels.

Every step is recorded before the next, so the work may be cut anywhere. A decision that was not recorded is made again
with the trial's next progressive result; a recorded one is carried out by whichever process polls the app next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.app_observation import STOPPED_EARLY
from airflow_provider_axtx.core.errors import (
    InvalidInputError,
    SchedulerUnavailableError,
    TrackerUnavailableError,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.lifecycle.attempts import cancel_attempt
from airflow_provider_axtx.lifecycle.complete import record_progress
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.halving import fallen_behind
from airflow_provider_axtx.spec.stopping import SuccessiveHalving

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import AttemptRecord, ExperimentSnapshot
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

_UNREADABLE = (TrackerUnavailableError, SchedulerUnavailableError, InvalidInputError)


def stop_early(
    store: ExperimentStore,
    launcher_for: Callable[[AttemptRecord], TorchXLauncher],
    experiment: str,
    attempts: Sequence[AttemptRecord],
) -> list[int]:
    """Record the new progressive results of live attempts, and cancel the apps of trials that the rule gives up.

    The trial is EARLY_STOPPED once a poll has seen the end of its app; its last step counts as its final value. Ax is
    imported only when the experiment's rule needs it and there is something new.

    :param launcher_for: gives the launcher of an attempt.
    :param attempts: live attempts of the experiment, at most one for each trial.
    :return: indexes of the trials whose apps were cancelled now, or will be by the next poll when a scheduler does not
        answer.
    """
    if not has_early_stopping(store, experiment):
        return []
    live = [attempt for attempt in attempts if attempt.finished_at is None and attempt.cancel_requested_at is None]
    progressed = [_record_progress(store, attempt) for attempt in live]
    crash_point("early.after_progress")
    if not any(progressed):
        return []
    reasons = hopeless_trials(store.snapshot(experiment))
    stopped = []
    for attempt in live:
        if (reason := reasons.get(attempt.trial_index)) is not None:
            log.info("Trial %s is %s: %s", attempt.trial_index, STOPPED_EARLY, reason)
            if _cancel(store, launcher_for, attempt, f"{STOPPED_EARLY}: {reason}"):
                stopped.append(attempt.trial_index)
    crash_point("early.after_cancelled")
    return stopped


def hopeless_trials(snapshot: ExperimentSnapshot) -> dict[int, str]:
    """Return the trials in flight that are to be stopped, by index, each with the reason."""
    spec = ExperimentSpec.from_store(snapshot.spec)
    if isinstance(rule := spec.early_stopping, SuccessiveHalving):
        return fallen_behind(spec, rule, snapshot, snapshot.stoppable)
    from airflow_provider_axtx.optimizer import engine as optimizer

    return optimizer.early_stop(snapshot)


def count_steps(attempt: AttemptRecord, curve_source: Mapping[str, Any] | None = None) -> int:
    """Return how many progressive results an app has written; 0 when they cannot be listed just now.

    :param curve_source: where they are read besides the tracker, see ``reading.curve_source``.
    """
    from airflow_provider_axtx.launcher import metric_reader

    try:
        return metric_reader.count_steps(attempt.tracker_base, attempt.trial_index, curve_source)
    except _UNREADABLE as error:
        log.warning("The progress of %s cannot be read: %s", attempt, error)
        return 0


def _record_progress(store: ExperimentStore, attempt: AttemptRecord) -> bool:
    try:
        return record_progress(store, attempt)
    except _UNREADABLE as error:
        # Its trial is not stopped early meanwhile. The others are, and the end of each app is recorded all the same.
        log.warning("The progress of %s cannot be read: %s", attempt, error)
        return False


def _cancel(
    store: ExperimentStore, launcher_for: Callable[[AttemptRecord], TorchXLauncher], attempt: AttemptRecord, reason: str
) -> bool:
    try:
        return cancel_attempt(store, launcher_for(attempt), attempt, reason).finished_at is None
    except SchedulerUnavailableError as error:
        log.warning("%s is cancelled again by the next poll of its app: %s", attempt, error)
        return True


def has_early_stopping(store: ExperimentStore, experiment: str) -> bool:
    """Return whether trials of the experiment may be stopped early."""
    return ExperimentSpec.from_store(store.spec(experiment)).early_stopping is not None
