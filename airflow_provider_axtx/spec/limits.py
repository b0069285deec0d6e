"""What ends an experiment: the limits of ``AxOptimizeOperator``, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import as_choice, as_int, as_seconds, is_templated, shorten
from airflow_provider_axtx.core.xcom import finite

#: Ended trials before a failure rate means anything, unless ``min_trials_for_rate`` says otherwise.
DEFAULT_MIN_TRIALS_FOR_RATE = 5
RESOURCES = ("cpu", "gpu")
ON_STOP = ("drain", "cancel")
ON_TRIAL_FAILURE = ("continue", "fail")


@dataclass(frozen=True)
class Progress:
    """How far the trials of a loop have come.

    :param started_at: when the loop first started, in seconds since the epoch.
    :param ended: number of trials that have ended.
    :param failed: number of those that failed or were timed out.
    :param hours: core-hours and GPU-hours of the apps that were submitted, by ``cpu`` and ``gpu``.
    :param rate: cores and GPUs of the apps that run now.
    """

    started_at: float
    ended: int = 0
    failed: int = 0
    hours: Mapping[str, float] | None = None
    rate: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Limits:
    """What ends an experiment; None is no limit.

    :param max_trials: trials of the experiment, whoever has generated or attached them.
    :param parallelism: trials in flight at once.
    :param max_failed_trials: ends when this many trials have failed or timed out.
    :param max_failure_rate: ends when a greater share of the ended trials than this has failed or timed out.
    :param min_trials_for_rate: trials that must have ended before the rate counts; None is 5.
    :param deadline: a point in time, in seconds since the epoch.
    :param max_seconds: since the first start; neither a retry nor a restart of anything begins anew.
    :param max_resource_hours: core-hours or GPU-hours (``resource``) that the apps ask for, from submission to end.
    :param on_trial_failure: ``fail`` ends at the first trial that failed or timed out.
    :param on_stop: what a limit does to the apps that still run: ``drain`` lets them end, ``cancel`` cancels them.
    """

    max_trials: int
    parallelism: int = 1
    max_failed_trials: int | None = None
    max_failure_rate: float | None = None
    min_trials_for_rate: int | None = None
    deadline: float | None = None
    max_seconds: float | None = None
    max_resource_hours: float | None = None
    resource: str = "cpu"
    on_trial_failure: str = "continue"
    on_stop: str = "drain"

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read limits from operator arguments, among them what a template or a form has turned into strings.

        :raises InvalidInputError: for 0, a negative or another unusable value, and for limits that contradict.
        """
        read = {name: _read(name, value) for name, value in given.items()}
        check_together(read)
        return cls(**{name: value for name, value in read.items() if value is not None})

    def reached(self, progress: Progress, now: float) -> str | None:
        """Return which limit has been reached, in words, or None. ``max_trials`` is the generator's business."""
        p = progress
        ends = self.ends_at(p.started_at)
        if ends is not None and now >= ends:
            return f"{'deadline' if ends == self.deadline else 'max_seconds'}: the time was up at {_text(ends)}"
        spent = (p.hours or {}).get(self.resource, 0.0)
        if self.max_resource_hours is not None and spent >= self.max_resource_hours:
            unit = f"{self.resource.upper()}-hours"
            return f"max_resource_hours: {spent:.4g} of {self.max_resource_hours:g} {unit} are spent"
        if self.on_trial_failure == "fail" and p.failed:
            return f"on_trial_failure: {p.failed} of {p.ended} trials have failed"
        if self.max_failed_trials is not None and p.failed >= self.max_failed_trials:
            return f"max_failed_trials: {p.failed} trials have failed"
        least = self.min_trials_for_rate or DEFAULT_MIN_TRIALS_FOR_RATE
        if self.max_failure_rate is not None and p.ended >= least and p.failed > self.max_failure_rate * p.ended:
            return f"max_failure_rate: {p.failed} of {p.ended} trials have failed, more than {self.max_failure_rate:g}"
        return None

    def ends_at(self, started_at: float) -> float | None:
        """Return when the time is up, in seconds since the epoch, or None."""
        ends = [] if self.deadline is None else [self.deadline]
        ends += [] if self.max_seconds is None else [started_at + self.max_seconds]
        return min(ends, default=None)

    def look_at(self, progress: Progress, now: float) -> float | None:
        """Return when a limit will be reached although no trial ends, or None."""
        ends = self.ends_at(progress.started_at)
        times = [] if ends is None else [ends]
        rate = (progress.rate or {}).get(self.resource, 0)
        if self.max_resource_hours is not None and rate > 0:
            left = self.max_resource_hours - (progress.hours or {}).get(self.resource, 0.0)
            times.append(now + 3600 * max(0.0, left) / rate)
        return min(times, default=None)


def check_at_parse(**given: Any) -> None:
    """Check the limits that are known when the DAG is parsed.

    :raises InvalidInputError: as ``Limits.load``.
    """
    known = {name: value for name, value in given.items() if not is_templated(value)}
    check_together({name: _read(name, value) for name, value in known.items()})


def check_together(read: Mapping[str, Any]) -> None:
    """Refuse limits of which one makes another meaningless."""
    for name in ("parallelism", "max_failed_trials", "min_trials_for_rate"):
        value, most = read.get(name), read.get("max_trials")
        if value is not None and most is not None and value > most:
            raise InvalidInputError(
                f"{name}={value} is more than max_trials={most} and has no effect.",
                fix=f"lower {name} to at most {most}, or raise max_trials.",
            )
    if read.get("min_trials_for_rate") is not None and "max_failure_rate" in read and read["max_failure_rate"] is None:
        raise InvalidInputError(
            f"min_trials_for_rate={read['min_trials_for_rate']} without max_failure_rate has no effect.",
            fix="set max_failure_rate too, for example to 0.5.",
        )
    limited = [name for name in ("max_failed_trials", "max_failure_rate") if read.get(name) is not None]
    if read.get("on_trial_failure") == "fail" and limited:
        raise InvalidInputError(
            f"on_trial_failure='fail' ends at the first failure; {' and '.join(limited)} can never be reached.",
            fix="remove one of them, or set on_trial_failure='continue'.",
        )


def as_rate(field: str, value: object) -> float:
    """Return a share above 0 and below 1.

    :raises InvalidInputError: when it is not one.
    """
    rate = _number(value)
    if rate is None or not 0 < rate < 1:
        raise InvalidInputError(
            f"{field} must be above 0 and below 1, not {shorten(value)}.", fix=f"set {field}, for example to 0.5."
        )
    return rate


def as_hours(field: str, value: object) -> float:
    """Return a number of hours above 0.

    :raises InvalidInputError: when it is not one.
    """
    hours = _number(value)
    if hours is None or hours <= 0:
        raise InvalidInputError(
            f"{field} must be a number of hours above 0, not {shorten(value)}.", fix=f"set {field}, for example to 10."
        )
    return hours


def as_duration(field: str, value: object) -> float:
    """Return a duration (seconds, or a ``timedelta``) in seconds.

    :raises InvalidInputError: when it is not above 0.
    """
    return as_seconds(field, value.total_seconds() if isinstance(value, timedelta) else value)


def as_time(field: str, value: object) -> float:
    """Return a point in time (a ``datetime`` or its ISO text, with its time zone) in seconds since the epoch.

    :raises InvalidInputError: when it is not one, or has no time zone.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            value = shorten(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInputError(
            f"{field} must be a point in time with its time zone, not {value}.",
            fix=f"set {field}, for example to 2026-01-31T18:00:00+00:00.",
        )
    return value.timestamp()


def _count(field: str, value: object) -> int:
    return as_int(field, value, minimum=1)


_READERS: dict[str, Callable[[str, object], Any]] = {
    "max_trials": _count,
    "parallelism": _count,
    "max_failed_trials": _count,
    "max_failure_rate": as_rate,
    "min_trials_for_rate": _count,
    "deadline": as_time,
    "max_seconds": as_duration,
    "max_resource_hours": as_hours,
    "resource": lambda field, value: as_choice(field, value, RESOURCES),
    "on_trial_failure": lambda field, value: as_choice(field, value, ON_TRIAL_FAILURE),
    "on_stop": lambda field, value: as_choice(field, value, ON_STOP),
}
#: Limits that must be given; for the others None, or what a template makes of it, is no limit.
_REQUIRED = ("max_trials", "parallelism", "resource", "on_trial_failure", "on_stop")


def _read(name: str, value: Any) -> Any:
    if name not in _REQUIRED and (value is None or value in ("", "None")):
        return None
    return _READERS[name](name, value)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return finite(value)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
