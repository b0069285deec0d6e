"""An attempt from its submission to its end: adopted, polled, cancelled, ended for good."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.core.xcom import SubmittedTrial
from airflow_provider_axtx.lifecycle.complete import conclude_patiently, outcome_of
from airflow_provider_axtx.lifecycle.last_line import with_last_line

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the recorded reason when Airflow ended the task behind an attempt. A retry or a Clear then begins a new
#: attempt; after any other cancellation (a timeout, a reaper) the trial is ABANDONED and stays so.
KILLED = "task killed"
#: Seconds that a cancelled app gets to disappear: TorchX's local scheduler and Slurm give it 10 s and 5 s after TERM.
CANCEL_SECONDS = 60.0

#: Seconds for which a write-ahead row without a handle belongs to the process that wrote it. A zombie task may still be
#: inside the scheduler's submit call while Airflow already runs the retry, and a list may lag behind a submission.
CLAIM_SECONDS = 60.0


def adopt(store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord) -> AttemptRecord:
    """Give a write-ahead row its handle if its app was submitted although the handle was not recorded.

    :raises SchedulerUnavailableError: when the scheduler cannot say.
    """
    if attempt.app_handle is not None:
        return attempt
    handle = launcher.find(attempt.submission_key)
    return attempt if handle is None else store.record_handle(attempt, handle)


def find_app(launcher: TorchXLauncher, attempt: AttemptRecord, *, seconds: float = CLAIM_SECONDS) -> str | None:
    """Return the handle under which an attempt's app was submitted.

    The writer of the row may still be inside its submission, so that an app that is not found is looked for until the
    claim of the writer is over.

    :param seconds: limit of the wait.
    :raises SchedulerUnavailableError: when the scheduler cannot say.
    """
    until = min(attempt.requested_at + CLAIM_SECONDS, time.time() + seconds)
    while True:
        handle = launcher.find(attempt.submission_key)
        left = until - time.time()
        if handle is not None or launcher.refuses_duplicates or left <= 0:
            return handle
        # No scheduler has an event to offer for "another process's submission arrived".
        time.sleep(min(1.0, left))


def poll_attempt(
    store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, policy: LostAppPolicy
) -> AppObservation:
    """Poll the app of an attempt once; cancel it again if that was decided and it has not ended yet.

    :return: a terminal observation, or one that says "poll again".
    :raises SchedulerUnavailableError: when the scheduler did not answer; that is never a final state.
    """
    if (recorded := recorded_end(attempt)) is not None:
        return recorded
    attempt = adopt(store, launcher, attempt)
    if attempt.app_handle is None:
        seen = AppObservation("UNKNOWN", f"no app was submitted under {attempt.submission_key}")
    else:
        seen = launcher.observe([attempt.app_handle])[attempt.app_handle]
    if seen.app_state == "RUNNING" and attempt.started_at is None:
        store.note_started([(attempt, seen.started_at or time.time())])
    observed = evaluate(store, attempt, seen, policy)
    if attempt.app_handle is not None and attempt.cancel_requested_at is not None and not observed.is_terminal:
        # The process that decided it may have been killed before it told the scheduler.
        launcher.cancel(attempt.app_handle)
    return observed


def recorded_end(attempt: AttemptRecord) -> AppObservation | None:
    """Return the end that is recorded of an attempt, or None while it is open."""
    if attempt.finished_at is None or attempt.app_state is None:
        return None
    return AppObservation(attempt.app_state, attempt.message or "", attempt.is_infrastructure_failure)


def evaluate(
    store: ExperimentStore, attempt: AttemptRecord, seen: AppObservation, policy: LostAppPolicy
) -> AppObservation:
    """Return what an observation means for an attempt, and record what has to be counted.

    The caller records when the app began to run: one that polls many apps does it for all of them at once.
    """
    unseen = attempt.unseen_polls
    if unseen or seen.app_state == "UNKNOWN":
        unseen = store.note_unseen(attempt, seen=seen.app_state != "UNKNOWN")
    since = attempt.submitted_at or attempt.requested_at
    return policy.evaluate(seen, age=time.time() - since, unseen_polls=unseen, cancel_reason=attempt.cancel_reason)


def cancel_attempt(
    store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, reason: str
) -> AttemptRecord:
    """Cancel the app of an attempt. The intent is recorded first, so that another process can carry it out.

    :param reason: recorded, and shown as the trial's reason; the first one recorded stays.
    :raises SchedulerUnavailableError: when the scheduler did not take the request; calling again is safe.
    """
    attempt = store.request_cancel(attempt, reason)
    crash_point("cancel.after_request")
    attempt = adopt(store, launcher, attempt)
    if attempt.app_handle is not None and attempt.finished_at is None:
        launcher.cancel(attempt.app_handle)
        crash_point("cancel.after_cancel")
    return attempt


def await_end(
    store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, *, seconds: float = CANCEL_SECONDS
) -> tuple[AttemptRecord, AppObservation]:
    """Wait until a cancelled app is gone.

    :param seconds: limit of the wait.
    :return: the attempt, and how its app ended: SUCCEEDED if it had before the cancellation reached it, else CANCELLED.
    :raises SchedulerUnavailableError: when it still runs then.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        if (recorded := recorded_end(attempt)) is not None:
            return attempt, recorded
        if attempt.app_handle is None:
            handle = find_app(launcher, attempt, seconds=deadline - time.monotonic())
            if handle is None:
                return attempt, AppObservation("CANCELLED", attempt.cancel_reason or "")
            attempt = store.record_handle(attempt, handle)
            launcher.cancel(handle)
            continue
        seen = launcher.observe([attempt.app_handle])[attempt.app_handle]
        if seen.is_terminal or seen.app_state == "UNKNOWN":
            return attempt, LostAppPolicy().evaluate(
                seen, age=0.0, unseen_polls=0, cancel_reason=attempt.cancel_reason or "cancelled"
            )
        if time.monotonic() > deadline:
            raise SchedulerUnavailableError(
                f"{attempt.app_handle} still runs {seconds:.0f} s after it was cancelled.",
                fix="look at the scheduler; the attempt stays open and the next reaper cancels its app again.",
            )
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def end_attempt(
    store: ExperimentStore,
    launcher: TorchXLauncher,
    attempt: AttemptRecord,
    reason: str,
    *,
    seconds: float = CANCEL_SECONDS,
) -> dict[str, Any]:
    """End an attempt for good, and settle its trial.

    An app that has ended by itself is recorded as what it is; one that has succeeded completes its trial. Any other
    app is cancelled, and its trial is ABANDONED, also when the app is not gone after ``seconds``: the attempt then
    stays open until its end is seen.

    :param reason: recorded as the reason of the cancellation and of the trial.
    :param seconds: how long the end of a cancelled app is awaited.
    :return: the outcome as JSON, with ``metrics``.
    :raises SchedulerUnavailableError: when the scheduler did not answer; calling again is safe.
    """
    observed = poll_attempt(store, launcher, attempt, LostAppPolicy())
    if not observed.is_terminal:
        attempt = cancel_attempt(store, launcher, attempt, reason)
        try:
            attempt, observed = await_end(store, launcher, attempt, seconds=seconds)
        except SchedulerUnavailableError as error:
            log.warning("%s", error)
            return abandon(store, attempt, reason)
    return conclude_patiently(store, attempt, with_last_line(lambda _: launcher, attempt, observed))


def abandon(store: ExperimentStore, attempt: AttemptRecord, reason: str) -> dict[str, Any]:
    """Settle the trial of an attempt whose app was cancelled and is not gone yet."""
    trial = store.trial(attempt.experiment, attempt.trial_index)
    if not is_terminal_trial_status(trial.status):
        trial = store.complete(attempt.experiment, attempt.trial_index, status="ABANDONED", reason=reason)
    return {**outcome_of(attempt, trial).to_json(), "metrics": {}}


def find_attempt(store: ExperimentStore, trial: SubmittedTrial) -> AttemptRecord:
    """Return the last recorded attempt of what travelled in XCom: another one if the submit task was cleared meanwhile.

    :raises TrialNotFoundError: when the store does not have it (another store's trial, or an edited one).
    """
    last = store.latest_attempt(trial.experiment, trial.trial_index)
    if last is None or last.number < trial.attempt:
        return store.attempt(trial.experiment, trial.trial_index, trial.attempt)
    return last
