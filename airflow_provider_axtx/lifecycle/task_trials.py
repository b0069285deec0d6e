"""The trials of one loop as they are recorded: which are live, which wait for submission, how far they have come."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.records import AttemptRecord, Observation, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.core.usage import rate_of, usage_of
from airflow_provider_axtx.lifecycle.attempts import KILLED
from airflow_provider_axtx.lifecycle.submit import was_cleared
from airflow_provider_axtx.spec.limits import Progress

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the reason of a trial that was cancelled because its time was up.
TIMEOUT = "timeout"


@dataclass(frozen=True)
class TaskTrials:
    """The trials of one task, and their attempts, as they are recorded now."""

    trials: list[TrialRecord]
    attempts: dict[int, list[AttemptRecord]]

    @property
    def open_attempts(self) -> list[AttemptRecord]:
        """Attempts whose end is not recorded; also of trials that have ended, until their app is gone."""
        return [
            attempt
            for trial in self.trials
            for attempt in self.attempts.get(trial.index, ())
            if attempt.finished_at is None
        ]

    @property
    def live(self) -> list[AttemptRecord]:
        """Open attempts that have an app."""
        return [attempt for attempt in self.open_attempts if attempt.app_handle is not None]

    def last_attempt(self, trial: TrialRecord) -> AttemptRecord | None:
        """Return the trial's last attempt."""
        attempts = self.attempts.get(trial.index)
        return attempts[-1] if attempts else None

    def unsubmitted(self, task: TaskIdentity | None = None) -> list[TrialRecord]:
        """Return trials without an app that are to be submitted: never yet, half-way through it, or again.

        :param task: the task that goes on. When a user has cleared it, these are also the trials that were ABANDONED
            because an earlier try of it was ended.
        """
        found = []
        for trial in self.trials:
            last = self.last_attempt(trial)
            without_app = last is None or last.finished_at is not None or last.app_handle is None
            if without_app and (not is_terminal_trial_status(trial.status) or _runs_again(trial, last, task)):
                found.append(trial)
        return found

    @property
    def last_seconds(self) -> float | None:
        """Seconds from submission to recorded end of the attempt that ended last; None before the first."""
        spans = [
            (attempt.finished_at, attempt.finished_at - attempt.submitted_at)
            for attempts in self.attempts.values()
            for attempt in attempts
            if attempt.finished_at is not None and attempt.submitted_at is not None
        ]
        return max(spans)[1] if spans else None

    def progress(self, started_at: float) -> Progress:
        """Return how far the trials have come."""
        now, every = time.time(), [attempt for attempts in self.attempts.values() for attempt in attempts]
        used, rate = usage_of(every, now), rate_of(every, now)
        ended = [trial for trial in self.trials if is_terminal_trial_status(trial.status)]
        failed = sum(_has_failed(trial) for trial in ended)
        return Progress(started_at, len(ended), failed, used.hours, rate.hours, used.cost, rate.cost or 0.0)

    def table(self, observations: Sequence[Observation]) -> str:
        """Return a line for each trial: status, attempts, seconds since submission, metrics, parameters."""
        metrics: dict[int, dict[str, float]] = {}
        for seen in observations:
            metrics.setdefault(seen.trial_index, {})[seen.metric] = seen.mean
        lines = [f"{'trial':>5}  {'status':<13}  {'attempts':>8}  {'seconds':>8}  metrics; parameters"]
        for trial in self.trials:
            attempts = self.attempts.get(trial.index, [])
            seconds = sum(
                (attempt.finished_at or 0) - (attempt.submitted_at or attempt.finished_at or 0) for attempt in attempts
            )
            values = ", ".join(f"{name} {mean:.6g}" for name, mean in metrics.get(trial.index, {}).items())
            lines.append(
                f"{trial.index:>5}  {trial.status:<13}  {len(attempts):>8}  {seconds:>8.1f}  "
                f"{values or trial.reason or '-'}; {trial.parameters}"
            )
        return "\n".join(lines)


def read_task_trials(store: ExperimentStore, experiment: str, task_key: str) -> TaskTrials:
    """Return the trials that were granted to a task, and their attempts."""
    trials = store.granted(experiment, task_key)
    indexes = {trial.index for trial in trials}
    attempts: dict[int, list[AttemptRecord]] = {}
    for attempt in store.attempts(experiment) if trials else ():
        if attempt.trial_index in indexes:
            attempts.setdefault(attempt.trial_index, []).append(attempt)
    return TaskTrials(trials, attempts)


def _has_failed(trial: TrialRecord) -> bool:
    timed_out = trial.status == "ABANDONED" and (trial.reason or "").startswith(TIMEOUT)
    return trial.status == "FAILED" or timed_out


def _runs_again(trial: TrialRecord, last: AttemptRecord | None, task: TaskIdentity | None) -> bool:
    was_ended = (trial.reason or "").startswith(KILLED) and trial.status == "ABANDONED"
    return was_ended and last is not None and task is not None and was_cleared(last.identity, task)
