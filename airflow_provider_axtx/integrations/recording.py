"""What of an experiment is recorded in another tool, whichever tool that is.

Nothing is remembered between two calls: what is missing in the tool is added, what is there is left. So a call that is
killed at any moment is repaired by the next one, and any number of them give the same runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.errors import RecordingError
from airflow_provider_axtx.core.output_line import without_line
from airflow_provider_axtx.core.records import AttemptRecord, ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.lifecycle.mlflow import project_of
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import standing

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore


#: How long runs that cannot be recorded may take together. An odd value is refused at once, by a server that is there.
PATIENCE_SECONDS = 60.0
_TOO_LARGE = 2.0**63
#: Runs in the message of an error.
_SHOWN = 3


@dataclass(frozen=True)
class Mirrored:
    """What one call has done.

    :param runs: attempts of the experiment that have ended.
    :param written: how many of these were written by this call.
    """

    experiment: str
    runs: int
    written: int


@dataclass(frozen=True)
class RecordedRun:
    """An attempt that has ended, as it is recorded.

    :param state: what it is recorded as: the status of its trial, or that of its app when another attempt followed.
    :param observations: what its trial has measured; empty when another attempt followed.
    """

    trial: TrialRecord
    attempt: AttemptRecord
    state: str
    observations: tuple[Observation, ...]

    @property
    def ended_at(self) -> float:
        """When it ended, in seconds since the epoch."""
        return self.attempt.ended_at or self.attempt.finished_at or self.attempt.requested_at

    @property
    def succeeded(self) -> bool:
        """Whether it is recorded as a success."""
        return self.state in ("COMPLETED", "EARLY_STOPPED", "SUCCEEDED")

    @property
    def facts(self) -> dict[str, str]:
        """What is told of it besides parameters and metrics; without what is not known."""
        facts = {
            "trial_status": self.trial.status,
            "reason": without_line(self.trial.reason or ""),
            "app_handle": self.attempt.app_handle,
            "app_state": self.attempt.app_state,
        }
        return {name: value for name, value in facts.items() if value}

    def points(self, metrics: frozenset[str] | None = None) -> Iterator[tuple[str, float, int]]:
        """Yield metric, value and step; the final value of a metric with a curve stands after its last step.

        The tools keep steps as integers of 64 bits, and refuse larger ones, which are left out.

        :param metrics: only these; None is all.
        """
        last: dict[str, int] = {}
        given = [one for one in self.observations if metrics is None or one.metric in metrics]
        for one in given:
            if one.step is not None and -_TOO_LARGE <= one.step < _TOO_LARGE:
                last[one.metric] = max(last.get(one.metric, 0), int(one.step))
                yield one.metric, one.mean, int(one.step)
        for one in given:
            if one.step is None:
                yield one.metric, one.mean, last.get(one.metric, -1) + 1


@dataclass(frozen=True)
class RecordedExperiment:
    """An experiment, as it is recorded.

    :param project: the DAG that it belongs to.
    :param began_at: when its first attempt was requested, in seconds since the epoch.
    :param runs: its attempts that have ended, without those that wait for their results.
    :param ended: number of its attempts that have ended.
    :param stop_reason: why it has ended, or None.
    """

    name: str
    uid: str
    project: str
    began_at: float
    runs: tuple[RecordedRun, ...]
    ended: int
    objective: str
    best_trials: tuple[int, ...]
    stop_reason: str | None

    @property
    def facts(self) -> dict[str, str]:
        """What is told of it."""
        best = ", ".join(map(str, self.best_trials))
        return {"objective": self.objective, "best_trials": best, "stop_reason": self.stop_reason or ""}


class Recorder(Protocol):
    """Writes experiments to one tool."""

    def begin(self, experiment: RecordedExperiment) -> Mapping[str, str]:
        """Return what each attempt is recorded as already, by its submission key."""

    def write(self, run: RecordedRun) -> None:
        """Record an attempt. The call may be repeated, and killed at any moment, with one effect."""

    def finish(self, experiment: RecordedExperiment) -> None:
        """Record what is told of the experiment itself."""


def record(store: ExperimentStore, experiment: str, recorder: Recorder) -> Mirrored:
    """Bring a tool up to date with what the store knows of an experiment.

    :raises ExperimentNotFoundError: there is no such experiment.
    :raises RecordingError: some runs could not be recorded; the others are.
    """
    snapshot, attempts = store.snapshot(experiment), store.attempts(experiment)
    if not attempts:
        return Mirrored(experiment, 0, 0)
    known_as = _recorded_experiment(store, snapshot, attempts)
    recorded = recorder.begin(known_as)
    due = [run for run in known_as.runs if recorded.get(run.attempt.submission_key) != run.state]
    problems = _write_each(recorder, due)
    recorder.finish(known_as)
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        raise RecordingError(
            f"{len(problems)} of {len(due)} runs of experiment {experiment!r} were not recorded: {shown}.",
            fix="the other runs are recorded. These are tried again with the next task of the experiment.",
        )
    return Mirrored(experiment, known_as.ended, len(due))


def record_all(store: ExperimentStore, experiments: Iterable[str], recorder: Callable[[], Recorder]) -> list[Mirrored]:
    """Bring a tool up to date with several experiments.

    :param recorder: gives a recorder for an experiment.
    :raises ExperimentNotFoundError: there is no such experiment.
    :raises RecordingError: some runs could not be recorded; those of the other experiments are.
    """
    done, errors = [], []
    for experiment in experiments:
        try:
            done.append(record(store, experiment, recorder()))
        except RecordingError as error:
            errors.append(error)
    if errors:
        raise RecordingError(" ".join(error.message for error in errors[:_SHOWN]), fix=errors[0].fix)
    return done


def _write_each(recorder: Recorder, runs: list[RecordedRun]) -> list[str]:
    """Record each run, whatever happens to the others; return why some are not recorded."""
    problems, lost = [], 0.0
    for run in runs:
        began = time.monotonic()
        try:
            recorder.write(run)
        except Exception as error:
            # What a tool refuses of one run must not end the recording of its whole experiment.
            lost += time.monotonic() - began
            problems.append(f"{run.attempt.title}: {type(error).__name__}: {error!s:.300}")
            if lost > PATIENCE_SECONDS:
                raise
    return problems


def _recorded_experiment(
    store: ExperimentStore, snapshot: ExperimentSnapshot, attempts: list[AttemptRecord]
) -> RecordedExperiment:
    spec = ExperimentSpec.from_store(snapshot.spec)
    best = standing(spec, completed_trials(snapshot.trials, snapshot.observations)).best_trials
    return RecordedExperiment(
        name=snapshot.name,
        uid=snapshot.uid,
        project=project_of(store, snapshot.name),
        began_at=min(one.requested_at for one in attempts),
        runs=tuple(_runs(snapshot, attempts)),
        ended=sum(one.finished_at is not None for one in attempts),
        objective=str(spec.objective),
        best_trials=tuple(best),
        stop_reason=store.summary(snapshot.name).stop_reason,
    )


def _runs(snapshot: ExperimentSnapshot, attempts: list[AttemptRecord]) -> Iterator[RecordedRun]:
    trials = {trial.index: trial for trial in snapshot.trials}
    last = {attempt.trial_index: attempt.number for attempt in attempts}
    measured: dict[int, list[Observation]] = {}
    for one in snapshot.observations:
        measured.setdefault(one.trial_index, []).append(one)
    for attempt in attempts:
        trial, is_last = trials[attempt.trial_index], attempt.number == last[attempt.trial_index]
        if attempt.finished_at is not None and (state := _state(trial, attempt, is_last=is_last)) is not None:
            yield RecordedRun(trial, attempt, state, tuple(measured.get(trial.index, ())) if is_last else ())


def _state(trial: TrialRecord, attempt: AttemptRecord, *, is_last: bool) -> str | None:
    """Return what an ended attempt is recorded as; None while its trial still waits for its results."""
    if not is_last:
        return str(attempt.app_state)
    return trial.status if is_terminal_trial_status(trial.status) else None
