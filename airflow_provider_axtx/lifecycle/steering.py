"""Carries out what users want of an experiment: apps that are to be stopped, trials that are asked for by hand.

What is wanted is recorded in the store by the page, the REST interface and the command line, which do nothing else
about it. Only the task that works on the experiment acts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.errors import ExperimentPausedError, InvalidInputError, TrialStoppedError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.status import TrialStatus, is_terminal_trial_status
from airflow_provider_axtx.core.steering import STOPPED_BY_USER, Action, Change, Steering
from airflow_provider_axtx.lifecycle.attempts import cancel_attempt
from airflow_provider_axtx.spec.attachment import Attachment
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_axtx.core.records import (
        AttemptRecord,
        ExperimentSnapshot,
        Parameters,
        TaskIdentity,
        TrialRecord,
    )
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.spec.limits import Limits
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


def read_steering(store: ExperimentStore, experiment: str) -> Steering:
    """Return what is wanted of an experiment now."""
    steering = store.steering(experiment)
    crash_point("steering.after_read")
    return steering


def limits_in_force(limits: Limits, steering: Steering) -> Limits:
    """Return the limits of the DAG with those that users have set in their place."""
    return limits.model_copy(update=steering.limits) if steering.limits else limits


def stop_app_if_asked(
    store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, steering: Steering
) -> None:
    """Cancel the app of an attempt when a user has stopped its trial or the experiment; a later poll sees its end.

    :raises SchedulerUnavailableError: when the scheduler did not take the request; calling again is safe.
    """
    asked_before = (attempt.cancel_reason or "").startswith(STOPPED_BY_USER)
    why = attempt.cancel_reason if asked_before else steering.stop_reason_of(attempt.trial_index)
    # Again while the app is there: the process that recorded the request may have been killed before it made it.
    if why is not None and (asked_before or attempt.cancel_requested_at is None):
        log.warning("Trial %s: %s. Its app is cancelled.", attempt.trial_index, why)
        cancel_attempt(store, launcher, attempt, why)


def check_may_start(store: ExperimentStore, experiment: str, trial_index: int) -> None:
    """Check that the app of a trial may be started.

    :raises ExperimentPausedError: while the experiment is paused.
    :raises TrialStoppedError: when it was stopped or drained, or the trial was; the trial is ABANDONED then.
    """
    steering, trial = read_steering(store, experiment), store.trial(experiment, trial_index)
    why, is_over = steering.refusal_of(trial_index), is_terminal_trial_status(trial.status)
    if is_over and (trial.reason or "").startswith(STOPPED_BY_USER) and not store.attempts(experiment, trial_index):
        why = trial.reason  # by an earlier try of the task
    if why is not None:
        if not is_over:
            store.complete(experiment, trial_index, status="ABANDONED", reason=why)
        raise TrialStoppedError(
            f"Trial {trial_index} of {experiment!r} is not started: {why}.",
            fix="set the experiment to run again, and queue a trial with these parameters.",
        )
    if not steering.may_start:
        raise paused(experiment, steering)


def paused(experiment: str, steering: Steering) -> ExperimentPausedError:
    """Return the error for an experiment that is paused."""
    change = steering.state_change
    return ExperimentPausedError(
        f"The experiment {experiment!r} is paused, {'' if change is None else change.asked}.",
        fix="resume it on its page or with 'airflow ax resume'.",
    )


def asked_trials(steering: Steering, own: Collection[int]) -> list[Change]:
    """Return the open changes that ask for another trial, the oldest first.

    :param own: indexes of the task's trials: if one of them is to run again, that is another attempt and no new trial.
    """
    return [
        change
        for change in steering.open_requests
        if change.action == Action.QUEUE_TRIAL
        or (change.action == Action.RETRY_TRIAL and change.trial_index not in own)
    ]


def add_asked_trial(
    store: ExperimentStore,
    snapshot: ExperimentSnapshot,
    change: Change,
    *,
    task_key: str,
    slot: int,
    requested_by: TaskIdentity | None,
) -> TrialRecord | None:
    """Record the trial that a change asks for, once; None when there is no such trial to run.

    :param slot: slot of the trial within the task's request.
    :raises StoreConflictError: when another process was first; read the experiment again.
    """
    from airflow_provider_axtx.optimizer import attach

    try:
        proposal = attach.attach(snapshot, [Attachment(_asked_parameters(snapshot, change))])
    except InvalidInputError as error:
        log.warning("What %s asked for cannot be run: %s", change.requested_by, error)
        store.settle_change(change, f"refused: {error.message}")
        return None
    crash_point("steering.before_add")
    added = store.add_queued_trial(
        change, proposal, task_key=task_key, slot=slot, expected_version=snapshot.version, requested_by=requested_by
    )
    crash_point("steering.after_add")
    log.info("Trial %s was %s: %s", added.index, change.asked, added.parameters)
    return added


def _asked_parameters(snapshot: ExperimentSnapshot, change: Change) -> Parameters:
    """Return the parameterization that a change asks for, checked against the search space of today."""
    given, spec = change.arguments.get("parameters", {}), ExperimentSpec.from_store(snapshot.spec)
    if change.action == Action.RETRY_TRIAL:
        trial = next(trial for trial in snapshot.trials if trial.index == change.trial_index)
        if trial.status != TrialStatus.FAILED:
            raise InvalidInputError(f"trial {trial.index} is {trial.status} already", fix="leave it.")
        given = {**spec.backfill_values, **trial.parameters}
    return spec.read_parameters(given)
