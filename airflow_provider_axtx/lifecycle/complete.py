"""What an attempt's end means for its trial: its final status, its metrics, and its progressive results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import InvalidResultError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.inputs import as_object, shorten
from airflow_provider_axtx.core.records import AttemptRecord, Observation
from airflow_provider_axtx.core.status import APP_STATE_TO_TRIAL_STATUS, is_terminal_trial_status
from airflow_provider_axtx.core.xcom import TrialOutcome
from airflow_provider_axtx.spec import reported as reports
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the recorded reason when Ax stopped a trial early: its cancelled app makes it EARLY_STOPPED, not ABANDONED.
STOPPED_EARLY = "stopped early"


#: What ``AxCompleteTrialOperator(results=...)`` takes: None reads the tracker.
Results = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]] | None


def finalize(store: ExperimentStore, attempt: AttemptRecord, observed: AppObservation) -> TrialOutcome:
    """Record that a run has ended. A trial that failed or was abandoned is settled with it: it needs no results.

    :param observed: a terminal observation; when the run has ended already, what was recorded first stays.
    :return: what travels on to ``AxCompleteTrialOperator``.
    """
    attempt = store.finish_attempt(
        attempt, observed.app_state, observed.message, is_infrastructure_failure=observed.is_infrastructure_failure
    )
    crash_point("finalize.after_finish_attempt")
    record = store.trial(attempt.experiment, attempt.trial_index)
    app_state, message = attempt.app_state or observed.app_state, attempt.message or ""
    status = _trial_status(attempt, app_state)
    if is_terminal_trial_status(record.status):
        status, message = record.status, record.reason or message
    elif status != "COMPLETED" and not _is_replaced(store, attempt):
        message = message or f"the app ended as {app_state}"
        store.complete(attempt.experiment, attempt.trial_index, status=status, reason=message)
    return TrialOutcome(
        experiment=attempt.experiment,
        trial_index=attempt.trial_index,
        arm_name=record.arm_name,
        parameters=record.parameters,
        attempt=attempt.number,
        app_handle=attempt.app_handle or "",
        tracker_base=attempt.tracker_base,
        trial_status=status,
        app_state=app_state,
        message=message,
    )


def _trial_status(attempt: AttemptRecord, app_state: str) -> str:
    if app_state == "CANCELLED" and (attempt.cancel_reason or "").startswith(STOPPED_EARLY):
        return "EARLY_STOPPED"
    return APP_STATE_TO_TRIAL_STATUS[app_state]


def _is_replaced(store: ExperimentStore, attempt: AttemptRecord) -> bool:
    """Return whether another attempt followed: then the end of this one says nothing about the trial."""
    last = store.latest_attempt(attempt.experiment, attempt.trial_index)
    return last is not None and last.number > attempt.number


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
