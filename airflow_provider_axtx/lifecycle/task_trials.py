"""The trials of one loop as they are recorded: which are live, which wait for submission, how far they have come."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_axtx.core.loop_facts import AttemptSpan, EndedTrial, LoopFacts
from airflow_provider_axtx.core.records import AttemptRecord, Observation, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.core.usage import Usage, rate_of, total, usage_of
from airflow_provider_axtx.lifecycle.attempts import KILLED
from airflow_provider_axtx.lifecycle.submit import was_cleared
from airflow_provider_axtx.spec.limits import Progress

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Start of the reason of a trial that was cancelled because its time was up.
TIMEOUT = "timeout"


class _Settled(NamedTuple):
    """What is left to know of a trial that has ended, apps and all."""

    failed: bool
    usage: Usage


@dataclass
class TaskTrials:
    """The trials of one task, and their attempts, as they are recorded.

    Only those are kept as records of which something may still be to do. A loop of many thousand trials would otherwise
    read and go through all of them at each step.

    :param task: the task that goes on: when a user has cleared it, trials that were ABANDONED because an earlier try of
        it was ended run again. So do those that had no app yet.
    """

    task: TaskIdentity | None = None
    #: Index of the trial in each slot.
    slots: list[int] = field(default_factory=list)
    attempts: dict[int, list[AttemptRecord]] = field(default_factory=dict)
    #: Number of the experiment's trials by status, those of other tasks included.
    counts: dict[str, int] = field(default_factory=dict)
    #: When the attempt that ended last has ended, and how long it took since its submission.
    last_span: tuple[float, float] | None = None
    #: Who asked for the trials that were given up without any attempt.
    asked_by: dict[int, TaskIdentity] = field(default_factory=dict)
    _open: dict[int, TrialRecord] = field(default_factory=dict)
    _settled: dict[int, _Settled] = field(default_factory=dict)

    @property
    def trials(self) -> list[TrialRecord]:
        """Trials that have not ended, or whose app is not gone, or that run again; in order of their index."""
        return [self._open[index] for index in sorted(self._open)]

    @property
    def indexes(self) -> Collection[int]:
        """The indexes of all trials."""
        return self._open.keys() | self._settled.keys()

    @property
    def open_attempts(self) -> list[AttemptRecord]:
        """Attempts whose end is not recorded; also of trials that have ended, until their app is gone."""
        return [
            attempt
            for index in sorted(self._open)
            for attempt in self.attempts.get(index, ())
            if attempt.finished_at is None
        ]

    @property
    def live(self) -> list[AttemptRecord]:
        """Open attempts that have an app."""
        return [attempt for attempt in self.open_attempts if attempt.app_handle is not None]

    @property
    def last_seconds(self) -> float | None:
        """Seconds from submission to recorded end of the attempt that ended last; None before the first."""
        return None if self.last_span is None else self.last_span[1]

    def owns(self, index: int) -> bool:
        """Return whether a trial is one of the task's."""
        return index in self._open or index in self._settled

    def trial(self, index: int) -> TrialRecord | None:
        """Return one of ``trials``, or None for a trial of which nothing is left to do."""
        return self._open.get(index)

    def last_attempt(self, trial: TrialRecord) -> AttemptRecord | None:
        """Return the last attempt of a trial in ``trials``."""
        attempts = self.attempts.get(trial.index)
        return attempts[-1] if attempts else None

    def unsubmitted(self, *, again: bool = True) -> list[TrialRecord]:
        """Return trials without an app that are to be submitted: never yet, half-way through it, or again.

        :param again: include those that run again because a user has cleared the task.
        """
        found = []
        for trial in self.trials:
            last = self.last_attempt(trial)
            without_app = last is None or last.finished_at is not None or last.app_handle is None
            is_wanted = not is_terminal_trial_status(trial.status) or (again and self._runs_again(trial, last))
            if without_app and is_wanted:
                found.append(trial)
        return found

    def progress(self, started_at: float) -> Progress:
        """Return how far the trials have come."""
        now, attempts = time.time(), [attempt for of_trial in self.attempts.values() for attempt in of_trial]
        settled = self._settled.values()
        used, rate = total([usage_of(attempts, now), *(one.usage for one in settled)]), rate_of(attempts, now)
        ended = [trial for trial in self._open.values() if is_terminal_trial_status(trial.status)]
        failed = sum(_has_failed(trial) for trial in ended) + sum(one.failed for one in settled)
        number = len(ended) + len(settled)
        return Progress(started_at, number, failed, used.hours, rate.hours, used.cost, rate.cost or 0.0)

    def table(self, observations: Sequence[Observation]) -> str:
        """Return a line for each of ``trials``: status, attempts, seconds since submission, metrics, parameters."""
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

    # What is known

    def read(self, facts: LoopFacts) -> None:
        """Take in what was read."""
        self.slots.extend(facts.granted)
        spans: dict[int, list[AttemptSpan]] = {}
        ended = {trial.index: trial for trial in facts.ended}
        for span in facts.spans:
            if span.trial_index in ended:
                spans.setdefault(span.trial_index, []).append(span)
        for index, trial in ended.items():
            self._settle(trial, spans.get(index, ()))
        own = {*facts.granted, *self._open, *self._settled}
        self.asked_by |= facts.asked_by
        for index, record in sorted(facts.trials.items()):
            if index in own:
                self._take(record, facts.attempts.get(index, []))
        self.counts = dict(facts.counts)

    def note_granted(self, trials: Iterable[TrialRecord]) -> None:
        """Take in trials that were granted in the next slots."""
        for trial in trials:
            self.slots.append(trial.index)
            self._take(trial, [])
            self._count(trial.status, 1)

    def note_attempt(self, attempt: AttemptRecord, trial: TrialRecord | None = None) -> None:
        """Take in an attempt of one of ``trials`` as it is recorded now, and the trial if it has changed."""
        others = [one for one in self.attempts.get(attempt.trial_index, ()) if one.number != attempt.number]
        attempts = sorted([*others, attempt], key=lambda one: one.number)
        before = self._open.get(attempt.trial_index)
        if before is None:
            return
        self._take(trial or before, attempts)
        if trial is not None:
            self._count(before.status, -1)
            self._count(trial.status, 1)

    def _count(self, status: str, more: int) -> None:
        self.counts[status] = self.counts.get(status, 0) + more
        if not self.counts[status]:
            del self.counts[status]

    def _take(self, trial: TrialRecord, attempts: list[AttemptRecord]) -> None:
        self._settled.pop(trial.index, None)
        for attempt in attempts:
            self._note_span(attempt)
        is_over = is_terminal_trial_status(trial.status) and all(one.finished_at is not None for one in attempts)
        if is_over and not self._runs_again(trial, attempts[-1] if attempts else None):
            self._open.pop(trial.index, None)
            self.attempts.pop(trial.index, None)
            self._settle(EndedTrial(trial.index, trial.status, trial.reason), attempts)
        else:
            self._open[trial.index] = trial
            self.attempts[trial.index] = attempts

    def _runs_again(self, trial: TrialRecord, last: AttemptRecord | None) -> bool:
        """Return whether a trial was given up with an earlier try of the task, which a user has cleared since."""
        was_ended = (trial.reason or "").startswith(KILLED) and trial.status == "ABANDONED"
        # Trials that were proposed ahead have no attempt that tells which try they belonged to. They were once lost,
        # although they count for max_trials.
        before = self.asked_by.get(trial.index) if last is None else last.identity
        return was_ended and before is not None and self.task is not None and was_cleared(before, self.task)

    def _settle(self, trial: EndedTrial, attempts: Sequence[AttemptRecord | AttemptSpan]) -> None:
        self._settled[trial.index] = _Settled(_has_failed(trial), usage_of(attempts, time.time()))
        for attempt in attempts:
            self._note_span(attempt)

    def _note_span(self, attempt: AttemptRecord | AttemptSpan) -> None:
        if attempt.finished_at is None or attempt.submitted_at is None:
            return
        span = attempt.finished_at, attempt.finished_at - attempt.submitted_at
        self.last_span = span if self.last_span is None else max(self.last_span, span)


def read_task_trials(store: ExperimentStore, experiment: str, task_key: str) -> TaskTrials:
    """Return the trials that were granted to a task, and their attempts; all of them are among ``trials``."""
    trials = store.granted(experiment, task_key)
    indexes = [trial.index for trial in trials]
    attempts: dict[int, list[AttemptRecord]] = {index: [] for index in indexes}
    for attempt in store.attempts(experiment) if trials else ():
        if attempt.trial_index in attempts:
            attempts[attempt.trial_index].append(attempt)
    return TaskTrials(slots=indexes, attempts=attempts, _open=dict(zip(indexes, trials, strict=True)))


def catch_up(store: ExperimentStore, experiment: str, task_key: str, own: TaskTrials) -> LoopFacts:
    """Bring the trials of a task up to date; return what was read with them."""
    facts = store.loop_facts(
        experiment,
        task_key,
        known_slots=len(own.slots),
        asked=[trial.index for trial in own.trials],
        asked_reason=KILLED,
    )
    own.read(facts)
    return facts


def _has_failed(trial: TrialRecord | EndedTrial) -> bool:
    timed_out = trial.status == "ABANDONED" and (trial.reason or "").startswith(TIMEOUT)
    return trial.status == "FAILED" or timed_out
