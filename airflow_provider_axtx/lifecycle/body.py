"""A trial whose work Airflow tasks do: its attempt belongs to these tasks, and no TorchX scheduler knows it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import InvalidInputError, InvalidResultError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.inputs import is_given
from airflow_provider_axtx.core.numbers import as_number
from airflow_provider_axtx.core.records import AIRFLOW, AttemptRecord, TaskIdentity
from airflow_provider_axtx.core.status import TrialStatus, is_terminal_trial_status
from airflow_provider_axtx.core.xcom import SubmittedTrial, Trial
from airflow_provider_axtx.lifecycle.attempts import KILLED, find_attempt
from airflow_provider_axtx.lifecycle.complete import complete_trial, conclude_patiently, outcome_of
from airflow_provider_axtx.lifecycle.conflicts import retry_conflicts
from airflow_provider_axtx.lifecycle.reading import Reading, given_results
from airflow_provider_axtx.lifecycle.steering import read_steering
from airflow_provider_axtx.lifecycle.submit import REOPENABLE, AppRequest, check_app, was_cleared
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)


@retry_conflicts
def start_trial(
    store: ExperimentStore,
    trial: Trial,
    identity: TaskIdentity,
    *,
    app_handle: str,
    tracker_root: str,
    allow_app_change: bool = False,
    check_start: Callable[[], None] = lambda: None,
) -> SubmittedTrial | None:
    """Record that the tasks of a trial's body are about to run; the trial is RUNNING from now on.

    A retry goes on with the attempt of the try before. A user's Clear begins another attempt.

    :param app_handle: the body's first task, ``airflow://dag_id/task_id``.
    :param tracker_root: folder or fsspec URL in which the attempt gets a folder for its results.
    :param allow_app_change: whether the experiment's other trials may have run a TorchX component.
    :param check_start: called before an attempt begins; raises when nothing may be started.
    :return: None when the trial has ended and does not run again.
    :raises ExperimentExistsError: when the experiment's trials run a TorchX component.
    """
    status = store.trial(trial.experiment, trial.trial_index).status
    last = store.latest_attempt(trial.experiment, trial.trial_index)
    cleared, is_over = last is not None and was_cleared(last.identity, identity), is_terminal_trial_status(status)
    if is_over and last is not None and not (cleared and status in REOPENABLE):
        return None
    if last is not None and last.finished_at is None and not cleared:
        attempt = store.pass_to_try(last, identity)
    else:
        check_start()
        check_app(store, trial.experiment, AppRequest(AIRFLOW, allow_app_change=allow_app_change), AIRFLOW)
        number = 1 if last is None else last.number + 1
        if last is not None and last.finished_at is None:
            store.finish_attempt(last, "CANCELLED", f"{KILLED}: cleared, attempt {number} follows")
        reason = "cleared in Airflow, runs again" if is_over else None
        attempt = store.begin_attempt(
            trial.experiment,
            trial.trial_index,
            expected_attempt=number,
            scheduler=AIRFLOW,
            tracker_root=tracker_root,
            identity=identity,
            reopen_reason=reason,
        )
    crash_point("body.after_begin")
    if attempt.app_handle is None:
        attempt = store.record_handle(attempt, app_handle)
    crash_point("body.after_start")
    return SubmittedTrial(
        **trial.to_json(),
        attempt=attempt.number,
        app_handle=attempt.app_handle or "",
        tracker_base=attempt.tracker_base,
    )


@retry_conflicts
def end_body(store: ExperimentStore, started: SubmittedTrial, ended: AppObservation, results: object) -> dict[str, Any]:
    """Record how the tasks of a trial's body have ended, and the trial's results. The same again changes nothing.

    :param started: what ``start_trial`` returned.
    :param ended: SUCCEEDED, FAILED or CANCELLED, with the reason.
    :param results: metrics as an object, or a number for an experiment with one required metric; None reads the
        tracker.
    :return: the outcome as JSON with ``metrics`` ({name: {mean, sem}}), final ``trial_status`` and ``message``.
    """
    attempt = find_attempt(store, started)
    trial = store.trial(started.experiment, started.trial_index)
    why = read_steering(store, started.experiment).stop_reason_of(started.trial_index)
    if why is not None and ended.app_state != "SUCCEEDED":
        ended = AppObservation("CANCELLED", why)
    read = _reading(store, started, results) if ended.app_state == "SUCCEEDED" else None
    if attempt.finished_at is not None and read is not None and attempt.app_state != "SUCCEEDED":
        attempt = _again(store, attempt, trial.status)
    if attempt.finished_at is None:
        return conclude_patiently(store, attempt, replace(ended, ended_at=time.time()), read)
    if trial.status == TrialStatus.COMPLETED:
        log.info("Trial %s keeps the results that it has.", trial.index)
        found = store.observations(started.experiment, trial.index)
        metrics = {o.metric: {"mean": o.mean, "sem": o.sem} for o in found if o.step is None}
        return {**outcome_of(attempt, trial).to_json(), "metrics": metrics}
    return complete_trial(store, outcome_of(attempt, trial), read)


def _again(store: ExperimentStore, before: AttemptRecord, status: str) -> AttemptRecord:
    """Begin another attempt for a body that has succeeded after its end had been recorded as something else.

    A user has cleared its tasks, or those of the completing task after a reap.
    """
    if status not in REOPENABLE:
        return before
    again = store.begin_attempt(
        before.experiment,
        before.trial_index,
        expected_attempt=before.number + 1,
        scheduler=AIRFLOW,
        tracker_base=before.tracker_base,
        identity=before.identity,
        reopen_reason="its tasks have succeeded after all",
    )
    return store.record_handle(again, before.app_handle or "")


def _reading(store: ExperimentStore, started: SubmittedTrial, results: object) -> Reading | None:
    """Return the results that a body has returned; None when it returned none, and the tracker counts."""
    if not is_given(results):
        return None
    required = ExperimentSpec.from_store(store.spec(started.experiment)).required_metrics
    if len(required) == 1 and (number := as_number(results)) is not None:
        results = {next(iter(required)): number}
    try:
        return given_results(results, started.to_json())
    except InvalidInputError as error:
        return Reading({}, error=InvalidResultError(f"What the body returned: {error.message}", fix=error.fix))
