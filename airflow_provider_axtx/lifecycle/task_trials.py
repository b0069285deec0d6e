"""The trials of one loop as they are recorded: which are live, which wait for submission, how far they have come."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.core.records import Observation, RunFact, TaskIdentity, TrialFact
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.lifecycle.attempts import cancel_run
from airflow_provider_axtx.spec.limits import Progress

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXEngine
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the reason of a trial that was cancelled because its time was up.
TIMEOUT = "timeout"


@dataclass(frozen=True)
class OwnTrials:
    """The trials of this loop, and their runs, as they are recorded now."""

    trials: list[TrialFact]
    runs: dict[int, list[RunFact]]

    @property
    def open_runs(self) -> list[RunFact]:
        """Runs whose end is not recorded; also of trials that have ended, until their app is gone."""
        return [run for trial in self.trials for run in self.runs.get(trial.index, ()) if run.finished_at is None]

    @property
    def live(self) -> list[RunFact]:
        """Open runs that have an app."""
        return [run for run in self.open_runs if run.app_handle is not None]

    def last_run(self, trial: TrialFact) -> RunFact | None:
        """Return the trial's last attempt."""
        runs = self.runs.get(trial.index)
        return runs[-1] if runs else None

    def unsubmitted(self) -> list[TrialFact]:
        """Return open trials without an app: never submitted, half-way through it, or to be submitted again."""
        found = []
        for trial in self.trials:
            last = self.last_run(trial)
            without_app = last is None or last.finished_at is not None or last.app_handle is None
            if without_app and not is_terminal_trial_status(trial.status):
                found.append(trial)
        return found

    @property
    def last_seconds(self) -> float | None:
        """Seconds from its submission to its recorded end of the run that ended last; None before the first."""
        spans = [
            (run.finished_at, run.finished_at - run.submitted_at)
            for runs in self.runs.values()
            for run in runs
            if run.finished_at is not None and run.submitted_at is not None
        ]
        return max(spans)[1] if spans else None

    def progress(self, started_at: float) -> Progress:
        """Return how far the trials have come."""
        now = time.time()
        hours, rate = {"cpu": 0.0, "gpu": 0.0}, {"cpu": 0, "gpu": 0}
        for run in (run for runs in self.runs.values() for run in runs if run.submitted_at is not None):
            seconds = (run.finished_at or now) - (run.submitted_at or now)
            for name, number in (("cpu", run.cpus), ("gpu", run.gpus)):
                hours[name] += number * max(0.0, seconds) / 3600
                rate[name] += number if run.finished_at is None else 0
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
            runs = self.runs.get(trial.index, [])
            seconds = sum((run.finished_at or 0) - (run.submitted_at or run.finished_at or 0) for run in runs)
            values = ", ".join(f"{name} {mean:.6g}" for name, mean in metrics.get(trial.index, {}).items())
            lines.append(
                f"{trial.index:>5}  {trial.status:<13}  {len(runs):>4}  {seconds:>8.1f}  "
                f"{values or trial.reason or '-'}; {trial.parameters}"
            )
        return "\n".join(lines)


def read_own(store: ExperimentStore, experiment: str, task_key: str) -> OwnTrials:
    """Return the trials that were granted to a task, and their runs."""
    trials = store.granted(experiment, task_key)
    indexes = {trial.index for trial in trials}
    runs: dict[int, list[RunFact]] = {}
    for run in store.runs(experiment) if trials else ():
        if run.trial_index in indexes:
            runs.setdefault(run.trial_index, []).append(run)
    return OwnTrials(trials, runs)


def cancel_task_runs(
    store: ExperimentStore,
    engine_for: Callable[[RunFact], TorchXEngine],
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
    for run in store.open_runs(experiment=experiment, dag_id=identity.dag_id, run_id=identity.run_id):
        if (run.identity.task_id, run.identity.map_index) != task or (
            handles is not None and run.app_handle not in handles
        ):
            continue
        try:
            cancel_run(store, engine_for(run), run, reason)
        except AxtxError as error:
            log.error("Trial %s of %r was not cancelled: %s", run.trial_index, experiment, error)
            failed = error
    if failed is not None:
        raise failed


def _has_failed(trial: TrialFact) -> bool:
    timed_out = trial.status == "ABANDONED" and (trial.reason or "").startswith(TIMEOUT)
    return trial.status == "FAILED" or timed_out
