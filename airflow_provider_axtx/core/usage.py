"""What the apps of attempts have used: hours of what they asked for, and money at the recorded prices."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_axtx.core.loop_facts import AttemptSpan
from airflow_provider_axtx.core.records import AttemptRecord, TrialRecord
from airflow_provider_axtx.core.status import TrialStatus


@dataclass(frozen=True)
class Usage:
    """Hours and money.

    :param cpu: core-hours.
    :param gpu: GPU-hours.
    :param cost: money, in the currency of the prices; None when no price is recorded.
    """

    cpu: float = 0.0
    gpu: float = 0.0
    cost: float | None = None

    @property
    def hours(self) -> dict[str, float]:
        """The hours by ``cpu`` and ``gpu``."""
        return {"cpu": self.cpu, "gpu": self.gpu}

    def to_json(self) -> dict[str, float | None]:
        """Return a JSON object with hours and money."""
        return {**self.hours, "cost": self.cost}


@dataclass(frozen=True)
class Saved:
    """What was not used because trials did not run at full length, as an estimate.

    The full length is the median run time of the trials that are COMPLETED and had one attempt.

    :param early_stopping: by trials that were stopped early.
    :param continuing: by attempts that went on from a checkpoint: what they were shorter than a full length.
    """

    early_stopping: Usage = Usage()
    continuing: Usage = Usage()

    def to_json(self) -> dict[str, dict[str, float | None]]:
        """Return a JSON object with both."""
        return {"early_stopping": self.early_stopping.to_json(), "continuing": self.continuing.to_json()}


def total(usages: Iterable[Usage]) -> Usage:
    """Return the sum of what was used."""
    every = list(usages)
    costs = [one.cost for one in every if one.cost is not None]
    return Usage(sum(one.cpu for one in every), sum(one.gpu for one in every), sum(costs) if costs else None)


def usage_of(attempts: Iterable[AttemptRecord | AttemptSpan], now: float) -> Usage:
    """Return what attempts have used until now, from the start of each app to its end."""
    return total(_of_seconds(attempt, run_seconds(attempt, now)) for attempt in attempts)


def rate_of(attempts: Iterable[AttemptRecord], now: float) -> Usage:
    """Return what the apps that run now use in an hour."""
    live = (attempt for attempt in attempts if attempt.finished_at is None and run_seconds(attempt, now))
    return total(_of_seconds(attempt, 3600.0) for attempt in live)


def saved_by(trials: Iterable[TrialRecord], attempts: Mapping[int, Sequence[AttemptRecord]], now: float) -> Saved:
    """Return what early stopping and continuing have saved; nothing before a trial has run at full length.

    :param attempts: of each trial, by its index.
    """
    known = [(trial.status, attempts[trial.index]) for trial in trials if attempts.get(trial.index)]
    full = [run_seconds(of[0], now) for status, of in known if status == TrialStatus.COMPLETED and len(of) == 1]
    if not full:
        return Saved()
    length = statistics.median(full)

    def shorter(wanted: TrialStatus, least: int) -> Usage:
        last = (of[-1] for status, of in known if status == wanted and len(of) >= least)
        return total(_of_seconds(one, max(0.0, length - run_seconds(one, now))) for one in last)

    return Saved(shorter(TrialStatus.EARLY_STOPPED, 1), shorter(TrialStatus.COMPLETED, 2))


def run_seconds(attempt: AttemptRecord | AttemptSpan, now: float) -> float:
    """Return for how long the app of an attempt has run: without its time in a queue, where the scheduler tells."""
    began = attempt.started_at
    if began is None and attempt.finished_at is not None:
        began = attempt.submitted_at  # it ended before any poll saw it run
    if began is None:
        return 0.0
    return max(0.0, (attempt.ended_at or attempt.finished_at or now) - began)


def _of_seconds(attempt: AttemptRecord | AttemptSpan, seconds: float) -> Usage:
    hours = Usage(attempt.cpus * seconds / 3600, attempt.gpus * seconds / 3600)
    if not attempt.prices:
        return hours
    cost = hours.cpu * attempt.prices.get("cpu_hour", 0.0) + hours.gpu * attempt.prices.get("gpu_hour", 0.0)
    return Usage(hours.cpu, hours.gpu, cost)
