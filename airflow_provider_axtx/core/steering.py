"""What users want of an experiment: each change as it is recorded, and what follows from all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Self

from airflow_provider_axtx.core.status import is_terminal_trial_status


class Action(StrEnum):
    """What a change asks for. Each member equals the string that the store holds."""

    RUN = "run"
    PAUSE = "pause"
    DRAIN = "drain"
    STOP = "stop"
    LIMITS = "limits"
    NOTE = "note"
    TAGS = "tags"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    QUEUE_TRIAL = "queue_trial"
    RETRY_TRIAL = "retry_trial"
    STOP_TRIAL = "stop_trial"
    WITHDRAW = "withdraw"
    CHANGE_DEFINITION = "change_definition"
    ANALYZE = "analyze"
    DELETE = "delete"

    __repr__ = str.__repr__  # Error messages show the plain string.


#: The actions that set what is wanted of the whole experiment; each is the name of the state.
STATES: tuple[Action, ...] = (Action.RUN, Action.PAUSE, Action.DRAIN, Action.STOP)
#: The actions that a task carries out at one later moment. Until then they are open.
TASK_ACTIONS: tuple[Action, ...] = (
    *(Action.QUEUE_TRIAL, Action.RETRY_TRIAL, Action.STOP_TRIAL, Action.CHANGE_DEFINITION, Action.ANALYZE),
    Action.DELETE,
)
#: The actions for which a task that waits has to be woken.
WAKING_ACTIONS: tuple[Action, ...] = (
    *(*STATES, Action.LIMITS),
    *(action for action in TASK_ACTIONS if action != Action.DELETE),
)
#: The limits of ``AxOptimizeOperator`` that can be changed while an experiment runs.
EDITABLE_LIMITS = ("max_trials", "max_seconds", "deadline", "max_resource_hours", "max_cost")
#: Start of the reason of a trial that a user has stopped.
STOPPED_BY_USER = "stopped by a user"


@dataclass(frozen=True)
class NewChange:
    """A change that is to be recorded.

    :param action: what is asked for.
    :param request_id: chosen by the caller; the same id again records nothing more.
    :param requested_by: name of the user.
    :param via: where the user asked: ``page``, ``rest`` or ``cli``.
    :param reason: why; may be empty.
    :param trial_index: the trial that is to be stopped or run again.
    :param arguments: JSON object: ``limits`` by name, ``parameters`` of a queued trial, ``text`` of a note, ``tags``,
        the ``position`` of the change that is withdrawn, or the ``changes`` of a definition.
    """

    action: Action
    request_id: str
    requested_by: str
    via: str
    reason: str = ""
    trial_index: int | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A change as recorded. It never changes, apart from ``settled_at`` and ``outcome``, which are written once.

    When a change of the definition is carried out, also these are written once: ``trial_index``, the first trial that
    has the new definition, and among the arguments the definition ``before``, the ``version`` of the experiment, and
    the ``differences`` in words.

    :param position: number of the change within the experiment, from 0 without gaps.
    :param requested_at: when it was recorded, in seconds since the epoch.
    :param settled_at: when a task has carried it out, or it was withdrawn; None for an action that no task carries out.
    :param outcome: what became of it.
    :param trial_status: status of the trial ``trial_index`` when this was read.
    """

    experiment: str
    position: int
    request_id: str
    action: str
    requested_by: str
    via: str
    requested_at: float
    reason: str = ""
    trial_index: int | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    settled_at: float | None = None
    outcome: str | None = None
    trial_status: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether a task has still to carry it out."""
        if self.action not in TASK_ACTIONS or self.settled_at is not None:
            return False
        return self.action != Action.STOP_TRIAL or not is_terminal_trial_status(self.trial_status or "")

    @property
    def shown_arguments(self) -> dict[str, Any]:
        """The arguments without whole definitions, for displays."""
        return {name: value for name, value in self.arguments.items() if name not in ("before", "given", "version")}

    @property
    def changes_definition(self) -> bool:
        """Whether it has changed the definition."""
        return self.action == Action.CHANGE_DEFINITION and "before" in self.arguments

    @property
    def asked(self) -> str:
        """Who asked for it and why, in words."""
        return f"asked by {self.requested_by}" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True)
class Steering:
    """What is wanted of an experiment now.

    :param state: ``run``, ``pause``, ``drain`` or ``stop``.
    :param state_change: the change that set the state; None while no user has set one.
    :param limits: the limits that users have set, by name; they replace those of the DAG.
    :param archived: whether it is left out of lists.
    :param tags: words for finding it.
    :param open_requests: the changes that a task has still to carry out, the oldest first.
    :param position: of the last change for which a waiting task is woken, -1 without one.
    """

    state: Action = Action.RUN
    state_change: Change | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    archived: bool = False
    tags: tuple[str, ...] = ()
    open_requests: tuple[Change, ...] = ()
    position: int = -1

    @classmethod
    def of(cls, changes: Iterable[Change]) -> Self:
        """Return what follows from the changes of one experiment, given in their order."""
        values: dict[str, Any] = {"limits": {}, "open_requests": ()}
        for change in changes:
            if change.action in STATES:
                values |= {"state": Action(change.action), "state_change": change}
            elif change.action == Action.LIMITS:
                limits = {**values["limits"], **change.arguments.get("limits", {})}
                values["limits"] = {name: value for name, value in limits.items() if value is not None}
            elif change.action == Action.TAGS:
                values["tags"] = tuple(change.arguments.get("tags", ()))
            elif change.action in (Action.ARCHIVE, Action.UNARCHIVE):
                values["archived"] = change.action == Action.ARCHIVE
            if change.is_open:
                values["open_requests"] += (change,)
            if change.action in WAKING_ACTIONS:
                values["position"] = change.position
        return cls(**values)

    @property
    def may_start(self) -> bool:
        """Whether apps may be started."""
        return self.state == Action.RUN

    @property
    def end_reason(self) -> str | None:
        """Why the experiment is to end, in words, or None."""
        if self.state not in (Action.DRAIN, Action.STOP) or self.state_change is None:
            return None
        return f"{self.state}: {self.state_change.asked}"

    def open(self, action: Action, trial_index: int | None = None) -> list[Change]:
        """Return the open changes of this kind, of one trial or of all."""
        return [
            change
            for change in self.open_requests
            if change.action == action and trial_index in (None, change.trial_index)
        ]

    def stop_reason_of(self, trial_index: int) -> str | None:
        """Return why the app of a trial is to be cancelled, in words, or None."""
        if self.state == Action.STOP:
            return self._stopped_with_experiment
        asked = self.open(Action.STOP_TRIAL, trial_index)
        return f"{STOPPED_BY_USER}, {asked[0].asked}" if asked else None

    def refusal_of(self, trial_index: int) -> str | None:
        """Return why the app of a trial will never be started, in words, or None."""
        return self.stop_reason_of(trial_index) or (self._stopped_with_experiment if self.end_reason else None)

    @property
    def _stopped_with_experiment(self) -> str:
        asked = "" if self.state_change is None else self.state_change.asked
        return f"{STOPPED_BY_USER} with the experiment, {asked}"


class Asked(NamedTuple):
    """The last change of one kind, as a waiting trigger looks for it.

    :param trial_index: of a change that is about one trial.
    :param position: of the last such change.
    """

    experiment: str
    action: str
    trial_index: int | None
    position: int
