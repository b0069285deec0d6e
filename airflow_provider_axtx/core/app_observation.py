"""What an observer saw of an app, and when "the scheduler does not know it" becomes "it is lost"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_provider_axtx.core.status import APP_STATE_TO_TRIAL_STATUS, is_terminal_app_state

#: Seconds after submission during which an app that the scheduler does not know may still turn up (Slurm's accounting
#: lags by up to 5 s; Kubernetes and cloud schedulers by more).
DEFAULT_GRACE_SECONDS = 60.0
#: Consecutive observations without the app before it is called lost.
DEFAULT_GRACE_POLLS = 3


#: Start of the recorded reason when Ax stopped a trial early: its cancelled app makes it EARLY_STOPPED, not ABANDONED.
STOPPED_EARLY = "stopped early"


@dataclass(frozen=True)
class AppObservation:
    """What one poll has shown of one app.

    :param app_state: TorchX ``AppState`` name; ``UNKNOWN`` when the scheduler does not know the app (any more).
    :param message: exit code, signal, or the scheduler's reason; may be empty.
    :param started_at: when the app began to run, in seconds since the epoch, if the scheduler tells.
    :param ended_at: when the app ended, in seconds since the epoch, if the scheduler tells.
    :param is_infrastructure_failure: whether the app was lost, preempted, or its node failed.
    """

    app_state: str
    message: str = ""
    is_infrastructure_failure: bool = False
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the app has ended."""
        return is_terminal_app_state(self.app_state)

    def to_json(self) -> dict[str, Any]:
        """Return the observation as a trigger's event carries it."""
        value: dict[str, Any] = {
            "app_state": self.app_state,
            "message": self.message,
            "infrastructure": self.is_infrastructure_failure,
        }
        times = {"started_at": self.started_at, "ended_at": self.ended_at}
        return value | {name: at for name, at in times.items() if at is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read an observation from a trigger's event; keys that this version does not know are ignored."""
        return cls(
            value["app_state"],
            value.get("message", ""),
            bool(value.get("infrastructure", False)),
            value.get("started_at"),
            value.get("ended_at"),
        )

    @property
    def trial_status(self) -> str:
        """The Ax ``TrialStatus`` name of this app state."""
        return APP_STATE_TO_TRIAL_STATUS[self.app_state]


def trial_status_of(app_state: str, cancel_reason: str | None) -> str:
    """Return the ``TrialStatus`` name of a trial whose app has ended.

    :param app_state: terminal ``AppState`` name.
    :param cancel_reason: the recorded reason when its cancellation was requested.
    """
    if app_state == "CANCELLED" and (cancel_reason or "").startswith(STOPPED_EARLY):
        return "EARLY_STOPPED"
    return APP_STATE_TO_TRIAL_STATUS[app_state]


UNSEEN = AppObservation("UNKNOWN", "the scheduler does not know the app")


@dataclass(frozen=True)
class LostAppPolicy:
    """How long an app may be unknown before it is lost: both limits must have passed.

    :param seconds: since submission.
    :param polls: consecutive observations.
    """

    seconds: float = DEFAULT_GRACE_SECONDS
    polls: int = DEFAULT_GRACE_POLLS

    def evaluate(
        self, seen: AppObservation, *, age: float, unseen_polls: int, cancel_reason: str | None = None
    ) -> AppObservation:
        """Return what the observation means.

        :param seen: the observer's answer.
        :param age: seconds since submission.
        :param unseen_polls: consecutive observations without the app, this one included (0 when it was seen).
        :param cancel_reason: the recorded reason when its cancellation was requested: schedulers answer FAILED or
            nothing at all for an app that we cancelled ourselves, so the recorded intent decides.
        :return: the observation to act on: terminal, or one that says "poll again".
        """
        if seen.app_state == "SUCCEEDED":
            # Also after a cancellation: the app had succeeded before the cancellation reached it.
            return seen
        if cancel_reason is not None and (seen.is_terminal or seen.app_state == "UNKNOWN"):
            return replace(seen, app_state="CANCELLED", message=cancel_reason, is_infrastructure_failure=False)
        if seen.app_state != "UNKNOWN":
            return seen
        if age < self.seconds or unseen_polls < self.polls:
            return AppObservation("PENDING", f"{seen.message} (yet)")
        return AppObservation(
            "FAILED",
            f"lost: {seen.message} after {age:.0f} s and {unseen_polls} polls in a row",
            is_infrastructure_failure=True,
        )
