"""The trials of one loop as they are recorded: which are live, which wait for submission, how far they have come."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.core.records import AttemptRecord, Observation, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.lifecycle.attempts import cancel_attempt
from airflow_provider_axtx.spec.limits import Progress

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the reason of a trial that was cancelled because its time was up.
TIMEOUT = "timeout"


@dataclass(frozen=True)
class TaskTrials:
    """The trials of this loop, and their runs, as they are recorded now."""

    trials: list[TrialRecord]
    attempts: dict[int, list[AttemptRecord]]

    @property
    def open_attempts(self) -> list[AttemptRecord]:
        """Runs whose end is not recorded; also of trials that have ended, until their app is gone."""
        return [
            attempt
            for trial in self.trials
            for attempt in self.attempts.get(trial.index, ())
            if attempt.finished_at is None
        ]

    @property
    def live(self) -> list[AttemptRecord]:
        """Open runs that have an app."""
        return [attempt for attempt in self.open_attempts if attempt.app_handle is not None]

    def last_attempt(self, trial: TrialRecord) -> AttemptRecord | None:
        """Return the trial's last attempt."""
        attempts = self.attempts.get(trial.index)
        return attempts[-1] if attempts else None

    def unsubmitted(self) -> list[TrialRecord]:
        """Return open trials without an app: never submitted, half-way through it, or to be submitted again."""
        found = []
        for trial in self.trials:
            last = self.last_attempt(trial)
            without_app = last is None or last.finished_at is not None or last.app_handle is None
            if without_app and not is_terminal_trial_status(trial.status):
                found.append(trial)
        return found

    @property
    def last_seconds(self) -> float | None:
        """Seconds from its submission to its recorded end of the run that ended last; None before the first."""
        spans = [
            (attempt.finished_at, attempt.finished_at - attempt.submitted_at)
            for attempts in self.attempts.values()
            for attempt in attempts
            if attempt.finished_at is not None and attempt.submitted_at is not None
        ]
        return max(spans)[1] if spans else None

    def progress(self, started_at: float) -> Progress:
        """Return how far the trials have come."""
        now = time.time()
        hours, rate = {"cpu": 0.0, "gpu": 0.0}, {"cpu": 0, "gpu": 0}
        for attempt in (
            attempt for attempts in self.attempts.values() for attempt in attempts if attempt.submitted_at is not None
        ):
            seconds = (attempt.finished_at or now) - (attempt.submitted_at or now)
            for name, number in (("cpu", attempt.cpus), ("gpu", attempt.gpus)):
                hours[name] += number * max(0.0, seconds) / 3600
                rate[name] += number if attempt.finished_at is None else 0
        ended = [trial for trial in self.trials if is_terminal_trial_status(trial.status)]
        failed = sum(_has_failed(trial) for trial in ended)
        return Progress(started_at, len(ended), failed, hours, rate)

    def table(self, observations: Sequence[Observation]) -> str:
        """Return a line for each trial: status, attempts, seconds since submission, metrics, parameters."""
        metrics: dict[int, dict[str, float]] = {}
        for seen in observations:
            metrics.setdefault(seen.trial_index, {})[seen.metric] = seen.mean
        lines = [f"{'trial':>5}  {'status':<13}  {'runs':>4}  {'seconds':>8}  metrics; parameters"]
        for trial in self.trials:
            attempts = self.attempts.get(trial.index, [])
            seconds = sum(
                (attempt.finished_at or 0) - (attempt.submitted_at or attempt.finished_at or 0) for attempt in attempts
            )
            values = ", ".join(f"{name} {mean:.6g}" for name, mean in metrics.get(trial.index, {}).items())
            lines.append(
                f"{trial.index:>5}  {trial.status:<13}  {len(attempts):>4}  {seconds:>8.1f}  "
                f"{values or trial.reason or '-'}; {trial.parameters}"
            )
        return "\n".join(lines)


def read_task_trials(store: ExperimentStore, experiment: str, task_key: str) -> TaskTrials:
    """Return the trials that were granted to a task, and their runs."""
    trials = store.granted(experiment, task_key)
    indexes = {trial.index for trial in trials}
    attempts: dict[int, list[AttemptRecord]] = {}
    for attempt in store.attempts(experiment) if trials else ():
        if attempt.trial_index in indexes:
            attempts.setdefault(attempt.trial_index, []).append(attempt)
    return TaskTrials(trials, attempts)


def cancel_task_attempts(
    store: ExperimentStore,
    launcher_for: Callable[[AttemptRecord], TorchXLauncher],
    experiment: str,
    identity: TaskIdentity,
    reason: str,
    *,
    handles: Collection[str] | None = None,
) -> None:
    """Cancel every app of a task whose end is not recorded.

    :param identity: the task; its try does not matter.
    :param reason: recorded with each.
    :param handles: only these apps; None is all of the task's.
    :raises AxtxError: the last one, after all were tried, when some could not be cancelled; calling again is safe.
    """
    task = (identity.task_id, identity.map_index)
    failed: AxtxError | None = None
    for attempt in store.open_attempts(experiment=experiment, dag_id=identity.dag_id, run_id=identity.run_id):
        if (attempt.identity.task_id, attempt.identity.map_index) != task or (
            handles is not None and attempt.app_handle not in handles
        ):
            continue
        try:
            cancel_attempt(store, launcher_for(attempt), attempt, reason)
        except AxtxError as error:
            log.error("Trial %s of %r was not cancelled: %s", attempt.trial_index, experiment, error)
            failed = error
    if failed is not None:
        raise failed


def _has_failed(trial: TrialRecord) -> bool:
    timed_out = trial.status == "ABANDONED" and (trial.reason or "").startswith(TIMEOUT)
    return trial.status == "FAILED" or timed_out
