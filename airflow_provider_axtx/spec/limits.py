"""What ends an experiment: the limits of ``AxOptimizeOperator``, and the state that they are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from airflow_provider_axtx.core.inputs import MAX_COUNT, MAX_SECONDS, is_given, is_templated, seconds_in
from airflow_provider_axtx.core.numbers import Number, Whole
from airflow_provider_axtx.spec.model import Frozen
from airflow_provider_axtx.spec.problems import Problem, raise_for

#: Ended trials before a failure rate means anything, unless ``min_trials_for_rate`` says otherwise.
DEFAULT_MIN_TRIALS_FOR_RATE = 5


def _seconds(value: object) -> float:
    seconds = seconds_in(value)
    if seconds is None:
        fix = f"write a number of seconds above 0 and up to {MAX_SECONDS:g} (31 years), or a timedelta."
        raise PydanticCustomError("duration", "is not a duration above 0", {"fix": fix})
    return seconds


def _point_in_time(value: object) -> float:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            value = None
    if not isinstance(value, datetime) or value.tzinfo is None:
        fix = "write a datetime or ISO text with its time zone, for example 2026-01-31T18:00:00+00:00."
        raise PydanticCustomError("point_in_time", "is not a point in time with its time zone", {"fix": fix})
    return value.timestamp()


_Count = Annotated[Whole, Field(ge=1, le=MAX_COUNT)]


@dataclass(frozen=True)
class Progress:
    """The state of a loop's trials, to be compared with its limits.

    :param started_at: when the loop first started, in seconds since the epoch.
    :param ended: number of trials that have ended.
    :param failed: number of those that failed or were timed out.
    :param hours: core-hours and GPU-hours of the apps that were submitted, by ``cpu`` and ``gpu``.
    :param rate: cores and GPUs of the apps that run now.
    :param cost: money that the apps have cost so far; None without prices.
    :param cost_rate: money that the apps that run now cost in an hour.
    """

    started_at: float
    ended: int = 0
    failed: int = 0
    hours: Mapping[str, float] | None = None
    rate: Mapping[str, float] | None = None
    cost: float | None = None
    cost_rate: float = 0.0


class _KnownLimits(Frozen):
    """The limits that are known so far: when the DAG is parsed, a template's value is not."""

    max_trials: _Count | None = None
    parallelism: _Count = 1
    max_failed_trials: _Count | None = None
    max_failure_rate: Annotated[Number, Field(gt=0, lt=1)] | None = None
    min_trials_for_rate: _Count | None = None
    deadline: Annotated[float, BeforeValidator(_point_in_time)] | None = None
    max_seconds: Annotated[float, BeforeValidator(_seconds)] | None = None
    max_resource_hours: Annotated[Number, Field(gt=0)] | None = None
    resource: Literal["cpu", "gpu"] = "cpu"
    max_cost: Annotated[Number, Field(gt=0)] | None = None
    on_trial_failure: Literal["continue", "fail"] = "continue"
    on_stop: Literal["drain", "cancel"] = "drain"

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read limits from operator arguments, among them what a template or a form has turned into strings.

        :param given: by name; None, ``""`` and ``"None"`` (a template's None) mean that the limit is not given.
        :raises InvalidInputError: one error that names every unusable limit, its value and the fix, and the limits that
            contradict each other.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            from airflow_provider_axtx.spec.validation import problems_of

            raise_for("A limit", problems_of(error, cls))
            raise

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, given: dict[str, Any]) -> dict[str, Any]:
        empty = [name for name, value in given.items() if not is_given(value)]
        kept = {name: value for name, value in given.items() if name not in empty}
        # Given as "no limit", which is more than not given yet.
        return kept | {name: None for name in empty if cls.model_fields[name].default is None}

    def problems(self) -> Iterator[Problem]:
        """Yield the limits that make another one meaningless."""
        for name in ("parallelism", "max_failed_trials", "min_trials_for_rate"):
            value, most = getattr(self, name), self.max_trials
            if value is not None and most is not None and value > most:
                fix = f"lower it to at most {most}, or raise max_trials."
                yield Problem(name, value, f"is more than max_trials={most} and has no effect", fix)
        if self.min_trials_for_rate and "max_failure_rate" in self.model_fields_set and self.max_failure_rate is None:
            fix = "set max_failure_rate too, for example to 0.5."
            yield Problem(
                "min_trials_for_rate", self.min_trials_for_rate, "has no effect without max_failure_rate", fix
            )
        for name in ("max_failed_trials", "max_failure_rate"):
            value = getattr(self, name)
            if self.on_trial_failure == "fail" and value is not None:
                text = "can never be reached: on_trial_failure='fail' ends at the first failure"
                yield Problem(name, value, text, "remove it, or set on_trial_failure='continue'.")


class Limits(_KnownLimits):
    """What ends an experiment; None means no limit.

    :param max_trials: trials of the experiment, whichever task generated or attached them.
    :param parallelism: trials in flight at once.
    :param max_failed_trials: ends when this many trials have failed or timed out.
    :param max_failure_rate: ends when a greater share of the ended trials than this has failed or timed out.
    :param min_trials_for_rate: trials that must have ended before the rate counts; None is 5.
    :param deadline: a point in time, in seconds since the epoch.
    :param max_seconds: since the first start of the task; a retry or a restart does not begin anew.
    :param max_resource_hours: core-hours or GPU-hours (``resource``) that the apps ask for, while they run.
    :param max_cost: money that the apps cost, at the prices of the connection.
    :param on_trial_failure: ``fail`` ends at the first trial that failed or timed out.
    :param on_stop: what a limit does to the apps that still run: ``drain`` lets them end, ``cancel`` cancels them.
    """

    max_trials: _Count

    def reached(self, progress: Progress, now: float) -> str | None:
        """Return which limit has been reached, in words, or None. Generating trials applies ``max_trials``."""
        p = progress
        ends = self.ends_at(p.started_at)
        if ends is not None and now >= ends:
            return f"{'deadline' if ends == self.deadline else 'max_seconds'}: the time ran out at {_iso(ends)}"
        spent = (p.hours or {}).get(self.resource, 0.0)
        if self.max_resource_hours is not None and spent >= self.max_resource_hours:
            unit = f"{self.resource.upper()}-hours"
            return f"max_resource_hours: {spent:.4g} of {self.max_resource_hours:g} {unit} were used"
        if self.max_cost is not None and p.cost is not None and p.cost >= self.max_cost:
            return f"max_cost: {p.cost:.4g} of {self.max_cost:g} were spent"
        if self.on_trial_failure == "fail" and p.failed:
            return f"on_trial_failure: {p.failed} of {p.ended} trials have failed"
        if self.max_failed_trials is not None and p.failed >= self.max_failed_trials:
            return f"max_failed_trials: {p.failed} trials have failed"
        least = self.min_trials_for_rate or DEFAULT_MIN_TRIALS_FOR_RATE
        if self.max_failure_rate is not None and p.ended >= least and p.failed > self.max_failure_rate * p.ended:
            return f"max_failure_rate: {p.failed} of {p.ended} trials have failed, more than {self.max_failure_rate:g}"
        return None

    def ends_at(self, started_at: float) -> float | None:
        """Return when the time runs out, in seconds since the epoch, or None."""
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
        if self.max_cost is not None and progress.cost_rate > 0:
            times.append(now + 3600 * max(0.0, self.max_cost - (progress.cost or 0.0)) / progress.cost_rate)
        return min(times, default=None)


def check_at_parse(**given: Any) -> None:
    """Check the limits that are known when the DAG is parsed.

    :raises InvalidInputError: as ``Limits.load``.
    """
    _KnownLimits.load(**{name: value for name, value in given.items() if not is_templated(value)})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def read_limits(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return some limits as numbers, by name; None stays None.

    :raises InvalidInputError: as ``Limits.load``.
    """
    known = _KnownLimits.load(**{name: value for name, value in given.items() if value is not None})
    return {name: None if value is None else getattr(known, name) for name, value in given.items()}
