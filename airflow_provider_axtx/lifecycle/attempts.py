"""How a run ends: observed, cancelled, settled. Every effect is recorded and may be repeated."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.core.xcom import SubmittedTrial

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the recorded reason when Airflow killed the task behind a run. A retry then begins a new attempt; after any
#: other cancellation (a timeout, a reaper) the trial is ABANDONED and stays so.
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


def find_app(launcher: TorchXLauncher, attempt: AttemptRecord) -> str | None:
    """Return the handle under which a run's app was submitted, waiting out the claim of who may still submit it.

    :raises SchedulerUnavailableError: when the scheduler cannot say.
    """
    while True:
        handle = launcher.find(attempt.submission_key)
        left = attempt.requested_at + CLAIM_SECONDS - time.time()
        if handle is not None or launcher.refuses_duplicates or left <= 0:
            return handle
        # No scheduler has an event to offer for "somebody else's submission arrived".
        time.sleep(min(1.0, left))


def poll_attempt(
    store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, policy: LostAppPolicy
) -> AppObservation:
    """Look once at the app of a run.

    :return: a terminal observation, or one that says "look again".
    :raises SchedulerUnavailableError: when the scheduler did not answer; that is never a final state.
    """
    if attempt.finished_at is not None and attempt.app_state is not None:
        return AppObservation(attempt.app_state, attempt.message or "", attempt.is_infrastructure_failure)
    attempt = adopt(store, launcher, attempt)
    if attempt.app_handle is None:
        seen = AppObservation("UNKNOWN", f"no app was submitted under {attempt.submission_key}")
    else:
        seen = launcher.observe([attempt.app_handle])[attempt.app_handle]
    unseen = store.note_unseen(attempt, seen=seen.app_state != "UNKNOWN")
    since = attempt.submitted_at or attempt.requested_at
    return policy.evaluate(seen, age=time.time() - since, unseen_polls=unseen, cancel_reason=attempt.cancel_reason)


def cancel_attempt(
    store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, reason: str
) -> AttemptRecord:
    """Cancel the app of a run. The intent is recorded first, so that whoever comes next can finish the job.

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


def await_cancelled(
    store: ExperimentStore, launcher: TorchXLauncher, attempt: AttemptRecord, *, seconds: float = CANCEL_SECONDS
) -> AttemptRecord:
    """Wait until a cancelled app is gone and record that it is.

    :param seconds: limit of the wait.
    :raises SchedulerUnavailableError: when it still runs then; the run stays open, so that a reaper sees it.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        if attempt.finished_at is not None:
            return attempt
        if attempt.app_handle is None:
            handle = find_app(launcher, attempt)
            if handle is None:
                return store.finish_attempt(attempt, "CANCELLED", attempt.cancel_reason or "")
            attempt = store.record_handle(attempt, handle)
            launcher.cancel(handle)
            continue
        seen = launcher.observe([attempt.app_handle])[attempt.app_handle]
        if seen.is_terminal or seen.app_state == "UNKNOWN":
            return store.finish_attempt(attempt, "CANCELLED", attempt.cancel_reason or seen.message)
        if time.monotonic() > deadline:
            raise SchedulerUnavailableError(
                f"{attempt.app_handle} still runs {seconds:.0f} s after it was cancelled.",
                fix="look at the scheduler; the run stays open and the next reaper cancels it again.",
            )
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def find_attempt(store: ExperimentStore, trial: SubmittedTrial) -> AttemptRecord:
    """Return the last recorded attempt of what travelled in XCom: another one if the submit task was cleared meanwhile.

    :raises TrialNotFoundError: when the store does not have it (another store's trial, or an edited one).
    """
    last = store.latest_attempt(trial.experiment, trial.trial_index)
    if last is None or last.number < trial.attempt:
        return store.attempt(trial.experiment, trial.trial_index, trial.attempt)
    return last
