"""The cells of the matrix: every scheduler, every way of waiting for a trial's app, every way of ending."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest

from tests.contracts.rigs import RIGS


class Wait(NamedTuple):
    """A way of waiting.

    :param task: ``sensor``, ``run`` (submit and wait in one task), ``fused`` (and complete, too) or ``optimize``.
    :param mode: ``poke`` (in a worker), ``reschedule`` or ``deferrable``.
    """

    task: str
    mode: str

    def __str__(self) -> str:
        return f"{self.task}, {self.mode}"


WAITS = (
    *(Wait("sensor", mode) for mode in ("poke", "reschedule", "deferrable")),
    *(Wait(task, mode) for task in ("run", "fused", "optimize") for mode in ("poke", "deferrable")),
)

SUCCESS, FAILURE, TIMEOUT, EARLY_STOP, USER_STOP = "success", "failure", "timeout", "early stop", "user stop"
TASK_KILL, TRIGGER_KILL = "task kill", "trigger kill"
REAP, CLI_REAP = "reap", "CLI reap"
ENDS = (SUCCESS, FAILURE, TIMEOUT, TASK_KILL, TRIGGER_KILL, REAP, CLI_REAP, EARLY_STOP, USER_STOP)

#: By way of ending: the status of the trial, the state of the app, and the start of the trial's reason.
EXPECTED = {
    SUCCESS: ("COMPLETED", "SUCCEEDED", ""),
    FAILURE: ("FAILED", "FAILED", ""),
    TIMEOUT: ("ABANDONED", "CANCELLED", "timeout: still running"),
    TASK_KILL: ("ABANDONED", "CANCELLED", "task killed: wait was ended"),
    TRIGGER_KILL: ("ABANDONED", "CANCELLED", "task killed: marked or removed"),
    REAP: ("ABANDONED", "CANCELLED", "reaped: its tasks have ended"),
    CLI_REAP: ("ABANDONED", "CANCELLED", "reaped: no active DAG run"),
    EARLY_STOP: ("EARLY_STOPPED", "CANCELLED", "stopped early"),
    USER_STOP: ("ABANDONED", "CANCELLED", "stopped by a user"),
}


#: The quick tests play one diagonal of each scheduler's table, which begins at this end. It has every way of waiting
#: and every way of ending; with these, the trigger is killed while a task is deferred.
_DIAGONALS = dict(zip(RIGS, itertools.cycle((2, 0, 7, 5)), strict=False))


class Place(NamedTuple):
    """One cell."""

    scheduler: str
    wait: Wait
    end: str

    def __str__(self) -> str:
        return f"{self.scheduler}/{self.wait}/{self.end}"


PRODUCT = tuple(Place(*cell) for cell in itertools.product(RIGS, WAITS, ENDS))


def reason_against(place: Place) -> str | None:
    """Return why there is no such cell, or None. This is the only rule that takes a cell out of the matrix."""
    if place.end == TRIGGER_KILL and place.wait.mode != "deferrable":
        return "a task that does not defer has no trigger"
    return None


def cell_parameters() -> list[Any]:
    """Return the parameters of the test that plays a cell, with the markers of the schedulers."""
    return [
        pytest.param(place, id=str(place), marks=_marks(place)) for place in PRODUCT if reason_against(place) is None
    ]


def _marks(place: Place) -> list[pytest.MarkDecorator]:
    """Mark a cell with its scheduler's marker, and as thorough unless it is in the sample of the quick tests."""
    names = [RIGS[place.scheduler]] if RIGS[place.scheduler] else []
    if (WAITS.index(place.wait) + _DIAGONALS[place.scheduler]) % len(ENDS) != ENDS.index(place.end):
        names.append("thorough")
    return [getattr(pytest.mark, name) for name in names]


def cells_with_options() -> list[Any]:
    """Return the cells of a scheduler whose options lead to its apps, for each end that needs to find one."""
    ends = {SUCCESS, TASK_KILL, TRIGGER_KILL, REAP, CLI_REAP}
    return [
        parameter
        for parameter in cell_parameters()
        if (place := parameter.values[0]).scheduler == "kubernetes" and place.end in ends and place.wait.task != "fused"
    ]
