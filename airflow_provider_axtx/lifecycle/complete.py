"""What the end of an app means for its trial: its final status, its metrics, and its progressive results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import tenacity

from airflow_provider_axtx.core.app_observation import STOPPED_EARLY, AppObservation, trial_status_of
from airflow_provider_axtx.core.errors import (
    AxtxError,
    InvalidResultError,
    ResultsPendingError,
    TrialStateError,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.inputs import shorten
from airflow_provider_axtx.core.output_line import without_line
from airflow_provider_axtx.core.promotion import budget_argument
from airflow_provider_axtx.core.records import AttemptRecord, Observation, TrialEnd, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.core.xcom import TrialOutcome
from airflow_provider_axtx.lifecycle.reading import (
    RESULT_PATIENCE_SECONDS,
    Reading,
    ResultRules,
    given_results,
    new_steps,
    read_results,
)
from airflow_provider_axtx.spec.halving import promoting

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0

#: What ``AxCompleteTrialOperator(results=...)`` takes: None reads the tracker.
Results = Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]] | None


@dataclass(frozen=True)
class Conclusion:
    """How an attempt has ended.

    :param attempt: as it is recorded now.
    :param trial: as it is recorded now.
    :param metrics: ``{name: {mean, sem}}`` of a trial that has results.
    """

    attempt: AttemptRecord
    trial: TrialRecord
    metrics: dict[str, dict[str, float | None]]

    @property
    def outcome(self) -> TrialOutcome:
        """What travels on in XCom."""
        return outcome_of(self.attempt, self.trial)

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON, with ``metrics``."""
        return {**self.outcome.to_json(), "metrics": self.metrics}


def finalize(store: ExperimentStore, attempt: AttemptRecord, observed: AppObservation) -> TrialOutcome:
    """Record the end of an app whose results another task reads.

    A trial whose app has not succeeded is settled in the same transaction: it needs no results.

    :param observed: a terminal observation; when an end is recorded already, the recorded one stays.
    :return: what travels on to ``AxCompleteTrialOperator``.
    :raises TrackerUnavailableError: when the steps of an early-stopped trial cannot be read.
    """
    return _finalize(store, attempt, observed).outcome


def _finalize(
    store: ExperimentStore, attempt: AttemptRecord, observed: AppObservation, rules: ResultRules | None = None
) -> Conclusion:
    if trial_status_of(attempt.app_state or observed.app_state, attempt.cancel_reason) != "COMPLETED":
        # Those of one that has succeeded are recorded with its results.
        _record_last_steps(store, attempt, rules)
    attempt, trial = store.end_attempt(attempt, observed)
    crash_point("finalize.after_end_attempt")
    return Conclusion(attempt, trial, {})


def conclude(
    store: ExperimentStore, attempt: AttemptRecord, observed: AppObservation, read: Reading | None = None
) -> dict[str, Any]:
    """Record the end of an app and the results that it reported, as ``settle``.

    :return: the outcome as JSON, with ``metrics`` ({name: {mean, sem}}) and the final ``trial_status``.
    """
    return settle(store, attempt, observed, read=read).to_json()


def settle(
    store: ExperimentStore,
    attempt: AttemptRecord,
    observed: AppObservation,
    *,
    rules: ResultRules | None = None,
    read: Reading | None = None,
) -> Conclusion:
    """Record the end of an app and the results that it reported, in one transaction.

    :param observed: a terminal observation; when an end is recorded already, the recorded one stays.
    :param rules: what the experiment says of results; None reads it.
    :param read: the results; None reads those that the app has reported.
    :raises ResultsPendingError: when the app has only just ended and no results are visible yet; nothing is recorded.
    :raises TrackerUnavailableError: when the tracker cannot be read; nothing is recorded.
    :raises SchedulerUnavailableError: when the output cannot be read that holds its metrics; nothing is recorded.
    """
    rules = rules or ResultRules.of(store, attempt.experiment)
    state = attempt.app_state or observed.app_state
    if trial_status_of(state, attempt.cancel_reason) != "COMPLETED":
        ended = _finalize(store, attempt, observed, rules)
        return replace(ended, metrics=_last_values(store, ended.outcome))
    ended_at = attempt.finished_at or observed.ended_at or time.time()
    if read is None:
        read = read_results(attempt, rules, ended_at + RESULT_PATIENCE_SECONDS)
    end = _end_of(store, attempt, rules, read)
    crash_point("complete.before_record")
    attempt, trial = store.end_attempt(attempt, observed, end)
    crash_point("complete.after_record")
    return _concluded(attempt, trial, end)


def conclude_patiently(
    store: ExperimentStore, attempt: AttemptRecord, observed: AppObservation, read: Reading | None = None
) -> dict[str, Any]:
    """Do the same, and wait for results that are not visible yet, at most ``RESULT_PATIENCE_SECONDS``."""
    seen = observed if observed.ended_at is not None else replace(observed, ended_at=time.time())
    answer: dict[str, Any] = _while_results_are_pending(conclude, store, attempt, seen, read)
    return answer


def complete_trial(store: ExperimentStore, outcome: TrialOutcome, results: Results | Reading = None) -> dict[str, Any]:
    """Record the results of a trial whose app's end is recorded already.

    Results that cannot be given to Ax (missing, not a number, NaN, infinite, garbage) make the trial FAILED with the
    reason; they are kept as evidence. Such a trial becomes COMPLETED when this is called again, after a user's Clear,
    and its results can be used then.

    :param outcome: what the waiting task returned. It only says which attempt: everything else comes from the store.
    :param results: None reads the tracker; else ``{metric: mean}`` or ``{metric/mean: ..., metric/sem: ...}``, or a
        callable that returns it for the outcome's JSON object, or what was read of them.
    :return: the outcome as JSON with ``metrics`` ({name: {mean, sem}}), final ``trial_status`` and ``message``.
    :raises TrackerUnavailableError: when the tracker cannot be read just now.
    :raises TrialStateError: when the app has not ended, or the trial has other results already.
    """
    attempt = store.attempt(outcome.experiment, outcome.trial_index, outcome.attempt)
    trial = store.trial(outcome.experiment, outcome.trial_index)
    if attempt.app_state is None and is_terminal_trial_status(trial.status):
        # Its app was cancelled and is not gone yet: the trial is settled all the same.
        return {**outcome_of(attempt, trial).to_json(), "metrics": {}}
    if attempt.app_state is None:
        raise TrialStateError(
            f"The app of {attempt} has not ended.", fix="wait for it with TorchXTrialSensor, then complete the trial."
        )
    if trial_status_of(attempt.app_state, attempt.cancel_reason) != "COMPLETED":
        outcome = outcome_of(attempt, trial)
        return {**outcome.to_json(), "metrics": _last_values(store, outcome)}
    outcome = outcome_of(attempt, replace(trial, status="COMPLETED") if trial.status == "FAILED" else trial)
    rules = ResultRules.of(store, attempt.experiment)
    if results is None:
        until = (attempt.finished_at or time.time()) + RESULT_PATIENCE_SECONDS
        read = _while_results_are_pending(read_results, attempt, rules, until)
    else:
        read = results if isinstance(results, Reading) else given_results(results, outcome.to_json())
    end = _end_of(store, attempt, rules, read)
    crash_point("complete.before_record")
    if trial.status not in ("ABANDONED", "EARLY_STOPPED"):
        # A FAILED trial of an app that has succeeded has failed for its results, which may be there now.
        repairs = trial.status == "FAILED" and end.status == "COMPLETED"
        trial = store.complete(
            outcome.experiment,
            outcome.trial_index,
            status=end.status,
            observations=end.observations,
            reason=end.reason,
            evidence=end.evidence,
            overwrite=repairs,
        )
    crash_point("complete.after_record")
    return _concluded(attempt, trial, end).to_json()


_while_results_are_pending = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(ResultsPendingError), wait=tenacity.wait_fixed(_PAUSE_SECONDS), reraise=True
)


def _end_of(store: ExperimentStore, attempt: AttemptRecord, rules: ResultRules, read: Reading) -> TrialEnd:
    """Return how the trial of an app that has succeeded ends, given what was read of its results."""
    steps, spec = new_steps(store, attempt, rules, read), rules.spec
    try:
        read.check(spec.required_metrics)
        for left_out in spec.unusable_results(read.values):
            log.warning("Trial %s: %s", attempt.trial_index, left_out)
        metrics = spec.check_results(read.values)
    except InvalidResultError as error:
        if attempt.cancel_reason is not None:
            # It was cancelled and exited as if it had succeeded, but without its results: it had not.
            return TrialEnd("ABANDONED", tuple(steps), reason=attempt.cancel_reason)
        evidence = {"reported": shorten(dict(read.values), 2000)} if read.values else None
        return TrialEnd("FAILED", tuple(steps), reason=str(error), evidence=evidence)
    budget, rule = attempt.budget, promoting(spec)
    pauses = budget is not None and rule is not None and budget < rule.budgets[-1]
    values = [
        Observation(attempt.trial_index, name, mean, sem, budget if pauses else None)
        for name, (mean, sem) in sorted(metrics.items())
    ]
    if not pauses:
        return TrialEnd("COMPLETED", (*steps, *values))
    own = {(one.metric, one.step) for one in values}
    reason = f"paused at {budget_argument(spec)}={budget:g}"
    return TrialEnd("EARLY_STOPPED", (*(s for s in steps if (s.metric, s.step) not in own), *values), reason=reason)


def _record_last_steps(store: ExperimentStore, attempt: AttemptRecord, rules: ResultRules | None) -> None:
    """Record the rest of the curve of a trial that has no results. It must not keep the end from being recorded.

    :raises TrackerUnavailableError: when it cannot be read, and the trial was stopped early: its last step counts.
    """
    try:
        record_progress(store, attempt, rules, has_ended=True)
    except AxtxError as error:
        if error.retryable and _is_stopped_early(attempt):
            raise
        log.warning("The curve of trial %s is not complete: %s", attempt.trial_index, error)


def record_progress(
    store: ExperimentStore, attempt: AttemptRecord, rules: ResultRules | None = None, *, has_ended: bool = False
) -> bool:
    """Record the progressive results that an app has written since the last call.

    Entries that are not finite numbers are left out.

    :param rules: what the experiment says of results; None reads it.
    :param has_ended: whether the app has ended, so that this is the last call.
    :return: whether there were any.
    :raises TrackerUnavailableError: when the tracker cannot be read just now.
    :raises SchedulerUnavailableError: when the output cannot be read just now.
    """
    rules = rules or ResultRules.of(store, attempt.experiment)
    new = new_steps(store, attempt, rules, has_ended=has_ended)
    if new:
        store.record_progress(attempt.experiment, attempt.trial_index, new)
    return bool(new)


def fail_unreadable(
    store: ExperimentStore, attempt: AttemptRecord, observed: AppObservation, error: Exception
) -> Conclusion:
    """Record the end of an app whose results cannot be read, whatever the reason: its trial is FAILED."""
    reason = f"The results under {attempt.tracker_base} cannot be read: {type(error).__name__}: {error}"
    end = TrialEnd("FAILED", reason=reason)
    return _concluded(*store.end_attempt(attempt, observed, end), end)


def _is_stopped_early(attempt: AttemptRecord) -> bool:
    return (attempt.cancel_reason or "").startswith(STOPPED_EARLY)


def outcome_of(attempt: AttemptRecord, trial: TrialRecord) -> TrialOutcome:
    """Return what the records say of an attempt that has ended; an open trial is still to be completed."""
    state = attempt.app_state or "CANCELLED"
    ended = is_terminal_trial_status(trial.status)
    status = trial.status if ended else trial_status_of(state, attempt.cancel_reason)
    # It travels in XCom, lineage and stats, where the right to read the app's output is not asked for.
    message = without_line((trial.reason if ended else None) or attempt.message or "")
    return TrialOutcome(
        experiment=attempt.experiment,
        trial_index=attempt.trial_index,
        arm_name=trial.arm_name,
        parameters=trial.parameters,
        attempt=attempt.number,
        app_handle=attempt.app_handle or "",
        tracker_base=attempt.tracker_base,
        trial_status=status,
        app_state=state,
        message=message,
    )


def _concluded(attempt: AttemptRecord, trial: TrialRecord, end: TrialEnd) -> Conclusion:
    values = [o for o in end.observations if o.step is None] if trial.status == "COMPLETED" else []
    return Conclusion(attempt, trial, {o.metric: {"mean": o.mean, "sem": o.sem} for o in values})


def _last_values(store: ExperimentStore, outcome: TrialOutcome) -> dict[str, Any]:
    """Return the last value of each metric of a trial that was stopped early: its results."""
    if outcome.trial_status != "EARLY_STOPPED":
        return {}
    found = store.observations(outcome.experiment, outcome.trial_index)
    return {o.metric: {"mean": o.mean, "sem": o.sem} for o in found}
