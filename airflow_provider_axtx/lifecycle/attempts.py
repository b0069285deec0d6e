"""How a run ends: observed, cancelled, settled. Every effect is recorded and may be repeated. No Airflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.app_observation import AppObservation, Grace
from airflow_provider_axtx.core.errors import InvalidResultError, SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.inputs import as_object, shorten
from airflow_provider_axtx.core.records import Observation, RunFact
from airflow_provider_axtx.core.status import APP_STATE_TO_TRIAL_STATUS, is_terminal_trial_status
from airflow_provider_axtx.core.xcom import TrialOutcome, TrialRun
from airflow_provider_axtx.spec import reported as reports
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXEngine
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the recorded reason when Airflow killed the task behind a run. A retry then begins a new attempt; after any
#: other cancellation (a timeout, a reaper) the trial is ABANDONED and stays so.
KILLED = "task killed"
#: Start of the recorded reason when Ax stopped a trial early: its cancelled app makes it EARLY_STOPPED, not ABANDONED.
STOPPED_EARLY = "stopped early"
#: Seconds that a cancelled app gets to disappear: TorchX's local scheduler and Slurm give it 10 s and 5 s after TERM.
CANCEL_SECONDS = 60.0

#: Seconds for which a write-ahead row without a handle belongs to the process that wrote it. A zombie task may still be
#: inside the scheduler's submit call while Airflow already runs the retry, and a list may lag behind a submission.
CLAIM_SECONDS = 60.0

#: What ``AxCompleteTrialOperator(results=...)`` takes: None reads the tracker.
Results = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]] | None


def adopt(store: ExperimentStore, engine: TorchXEngine, run: RunFact) -> RunFact:
    """Give a write-ahead row its handle if its app was submitted although the handle was not recorded.

    :raises SchedulerUnavailableError: when the scheduler cannot say.
    """
    if run.app_handle is not None:
        return run
    handle = engine.find(run.submission_key)
    return run if handle is None else store.record_handle(run, handle)


def find_app(engine: TorchXEngine, run: RunFact) -> str | None:
    """Return the handle under which a run's app was submitted, waiting out the claim of who may still submit it.

    :raises SchedulerUnavailableError: when the scheduler cannot say.
    """
    while True:
        handle = engine.find(run.submission_key)
        left = run.requested_at + CLAIM_SECONDS - time.time()
        if handle is not None or engine.refuses_duplicates or left <= 0:
            return handle
        # No scheduler has an event to offer for "somebody else's submission arrived".
        time.sleep(min(1.0, left))


def observe_run(store: ExperimentStore, engine: TorchXEngine, run: RunFact, grace: Grace) -> AppObservation:
    """Look once at the app of a run.

    :return: a terminal observation, or one that says "look again".
    :raises SchedulerUnavailableError: when the scheduler did not answer; that is never a final state.
    """
    if run.finished_at is not None and run.app_state is not None:
        return AppObservation(run.app_state, run.message or "", run.infrastructure)
    run = adopt(store, engine, run)
    if run.app_handle is None:
        seen = AppObservation("UNKNOWN", f"no app was submitted under {run.submission_key}")
    else:
        seen = engine.observe([run.app_handle])[run.app_handle]
    unseen = store.note_unseen(run, seen=seen.app_state != "UNKNOWN")
    since = run.submitted_at or run.requested_at
    return grace.judge(seen, age=time.time() - since, unseen_polls=unseen, cancel_reason=run.cancel_reason)


def cancel_run(store: ExperimentStore, engine: TorchXEngine, run: RunFact, reason: str) -> RunFact:
    """Cancel the app of a run. The intent is recorded first, so that whoever comes next can finish the job.

    :param reason: recorded, and shown as the trial's reason; the first one recorded stays.
    :raises SchedulerUnavailableError: when the scheduler did not take the request; calling again is safe.
    """
    run = store.request_cancel(run, reason)
    crash_point("cancel.after_request")
    run = adopt(store, engine, run)
    if run.app_handle is not None and run.finished_at is None:
        engine.cancel(run.app_handle)
        crash_point("cancel.after_cancel")
    return run


def await_cancelled(
    store: ExperimentStore, engine: TorchXEngine, run: RunFact, *, seconds: float = CANCEL_SECONDS
) -> RunFact:
    """Wait until a cancelled app is gone and record that it is.

    :param seconds: limit of the wait.
    :raises SchedulerUnavailableError: when it still runs then; the run stays open, so that a reaper sees it.
    """
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        if run.finished_at is not None:
            return run
        if run.app_handle is None:
            handle = find_app(engine, run)
            if handle is None:
                return store.finish_run(run, "CANCELLED", run.cancel_reason or "")
            run = store.record_handle(run, handle)
            engine.cancel(handle)
            continue
        seen = engine.observe([run.app_handle])[run.app_handle]
        if seen.is_terminal or seen.app_state == "UNKNOWN":
            return store.finish_run(run, "CANCELLED", run.cancel_reason or seen.message)
        if time.monotonic() > deadline:
            raise SchedulerUnavailableError(
                f"{run.app_handle} still runs {seconds:.0f} s after it was cancelled.",
                fix="look at the scheduler; the run stays open and the next reaper cancels it again.",
            )
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def settle(store: ExperimentStore, run: RunFact, observed: AppObservation) -> TrialOutcome:
    """Record that a run has ended. A trial that failed or was abandoned is settled with it: it needs no results.

    :param observed: a terminal observation; when the run has ended already, what was recorded first stays.
    :return: what travels on to ``AxCompleteTrialOperator``.
    """
    run = store.finish_run(run, observed.app_state, observed.message, infrastructure=observed.infrastructure)
    crash_point("settle.after_finish_run")
    fact = store.trial(run.experiment, run.trial_index)
    app_state, message = run.app_state or observed.app_state, run.message or ""
    status = _trial_status(run, app_state)
    if is_terminal_trial_status(fact.status):
        status, message = fact.status, fact.reason or message
    elif status != "COMPLETED" and not _is_replaced(store, run):
        message = message or f"the app ended as {app_state}"
        store.complete(run.experiment, run.trial_index, status=status, reason=message)
    return TrialOutcome(
        experiment=run.experiment,
        trial_index=run.trial_index,
        arm_name=fact.arm_name,
        parameters=fact.parameters,
        attempt=run.attempt,
        app_handle=run.app_handle or "",
        tracker_base=run.tracker_base,
        trial_status=status,
        app_state=app_state,
        message=message,
    )


def _trial_status(run: RunFact, app_state: str) -> str:
    if app_state == "CANCELLED" and (run.cancel_reason or "").startswith(STOPPED_EARLY):
        return "EARLY_STOPPED"
    return APP_STATE_TO_TRIAL_STATUS[app_state]


def _is_replaced(store: ExperimentStore, run: RunFact) -> bool:
    """Return whether another attempt followed: then the end of this one says nothing about the trial."""
    last = store.latest_run(run.experiment, run.trial_index)
    return last is not None and last.attempt > run.attempt


def find_run(store: ExperimentStore, trial: TrialRun) -> RunFact:
    """Return the last recorded attempt of what travelled in XCom: another one if the submit task was cleared meanwhile.

    :raises TrialNotFoundError: when the store does not have it (another store's trial, or an edited one).
    """
    last = store.latest_run(trial.experiment, trial.trial_index)
    if last is None or last.attempt < trial.attempt:
        return store.run(trial.experiment, trial.trial_index, trial.attempt)
    return last


def complete_trial(store: ExperimentStore, outcome: TrialOutcome, results: Results = None) -> dict[str, Any]:
    """Record the outcome of a trial: its metrics, or why there are none.

    Results that cannot be given to Ax (missing, not a number, NaN, infinite, garbage) make the trial FAILED with the
    reason; they are kept as evidence.

    :param results: None reads the tracker; else ``{metric: mean}`` or ``{metric/mean: ..., metric/sem: ...}``, or a
        callable that returns it for the outcome's JSON object.
    :return: the outcome as JSON with ``metrics`` ({name: {mean, sem}}), final ``trial_status`` and ``message``.
    :raises TrackerUnavailableError: when the tracker cannot be read just now.
    :raises TrialStateError: when the trial has another outcome already.
    """
    answer = {**outcome.to_json(), "metrics": {}}
    if outcome.trial_status != "COMPLETED":
        reason = outcome.message or f"the app ended as {outcome.app_state}"
        store.complete(outcome.experiment, outcome.trial_index, status=outcome.trial_status, reason=reason)
        return (
            answer if outcome.trial_status != "EARLY_STOPPED" else {**answer, "metrics": _last_values(store, outcome)}
        )
    reported: Mapping[str, Any] | None = None
    spec = ExperimentSpec.load(store.spec(outcome.experiment))
    if spec.early_stopping is not None:
        # Of every trial: Ax compares a curve with those of the completed ones.
        record_progress(store, outcome.experiment, outcome.trial_index, outcome.tracker_base)
    try:
        reported = _reported(outcome, results)
        for left_out in spec.unusable_results(reported):
            log.warning("Trial %s: %s", outcome.trial_index, left_out)
        metrics = spec.check_results(reported)
    except InvalidResultError as error:
        reason = str(error)
        evidence = None if reported is None else {"reported": shorten(dict(reported), 2000)}
        store.complete(outcome.experiment, outcome.trial_index, status="FAILED", reason=reason, evidence=evidence)
        return {**answer, "trial_status": "FAILED", "message": reason}
    observations = [Observation(outcome.trial_index, name, mean, sem) for name, (mean, sem) in sorted(metrics.items())]
    crash_point("complete.before_record")
    store.complete(outcome.experiment, outcome.trial_index, status="COMPLETED", observations=observations)
    crash_point("complete.after_record")
    return {**answer, "metrics": {name: {"mean": mean, "sem": sem} for name, (mean, sem) in metrics.items()}}


def record_progress(store: ExperimentStore, experiment: str, trial_index: int, tracker_base: str) -> bool:
    """Record the progressive results that a trial's app has written since the last look.

    Entries that are not finite numbers are left out.

    :return: whether there were any.
    :raises TrackerUnavailableError: when the tracker cannot be read just now.
    """
    from airflow_provider_axtx.launcher.tracker import read_progress

    recorded = store.observations(experiment, trial_index)
    found = read_progress(tracker_base, trial_index, {o.step for o in recorded if o.step is not None})
    new = [
        Observation(trial_index, name, mean, sem, step)
        for step, reported in found.items()
        for name, (mean, sem) in reports.read(reported, required=()).items()
    ]
    if new:
        store.record_progress(experiment, trial_index, new)
    return bool(new)


def _last_values(store: ExperimentStore, outcome: TrialOutcome) -> dict[str, Any]:
    """Return the last value of each metric: observations come in order of their steps."""
    found = store.observations(outcome.experiment, outcome.trial_index)
    return {o.metric: {"mean": o.mean, "sem": o.sem} for o in found}


def _reported(outcome: TrialOutcome, results: Results) -> Mapping[str, Any]:
    from airflow_provider_axtx.launcher.tracker import read_results

    if callable(results):
        return as_object("results", results(asdict(outcome)))
    if results is not None:
        return as_object("results", results)
    found = read_results(outcome.tracker_base, outcome.trial_index)
    if found is None:
        raise InvalidResultError(
            f"The app succeeded but reported nothing for trial {outcome.trial_index} under {outcome.tracker_base}.",
            fix="let the app write FsspecResultTracker(tracker_base)[trial_idx] = {metric: value} before it exits.",
        )
    return found
