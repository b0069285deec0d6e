"""TorchX ``AppState`` and Ax ``TrialStatus`` by name, and how the one maps to the other.

Source of the mapping: ``ax.runners.torchx.APP_STATE_TO_TRIAL_STATUS`` (Ax 1.3.1). A test compares the two tables.
"""

from __future__ import annotations

from enum import StrEnum


class AppState(StrEnum):
    """The names of ``torchx.specs.AppState``. Each member equals the string that databases and JSON hold."""

    UNSUBMITTED = "UNSUBMITTED"
    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"

    __repr__ = str.__repr__  # Error messages show the plain string.

    @property
    def is_terminal(self) -> bool:
        """Whether an app in this state has ended (``torchx.specs.is_terminal``)."""
        return self in TERMINAL_APP_STATES


class TrialStatus(StrEnum):
    """The names of ``ax.core.trial_status.TrialStatus``. Each member equals the string that databases and JSON hold."""

    CANDIDATE = "CANDIDATE"
    STAGED = "STAGED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    ABANDONED = "ABANDONED"
    EARLY_STOPPED = "EARLY_STOPPED"

    __repr__ = str.__repr__  # Error messages show the plain string.

    @property
    def is_terminal(self) -> bool:
        """Whether a trial in this status has ended (``ax.core.trial_status.TrialStatus.is_terminal``)."""
        return self in TERMINAL_TRIAL_STATUSES


#: The trial status that follows from an app's state. Plain strings are keys too.
APP_STATE_TO_TRIAL_STATUS: dict[str, TrialStatus] = {
    AppState.UNSUBMITTED: TrialStatus.CANDIDATE,
    AppState.SUBMITTED: TrialStatus.STAGED,
    AppState.PENDING: TrialStatus.STAGED,
    AppState.RUNNING: TrialStatus.RUNNING,
    AppState.SUCCEEDED: TrialStatus.COMPLETED,
    AppState.CANCELLED: TrialStatus.ABANDONED,
    AppState.FAILED: TrialStatus.FAILED,
    AppState.UNKNOWN: TrialStatus.FAILED,
}

#: States after which an app never changes again.
TERMINAL_APP_STATES: frozenset[str] = frozenset({AppState.SUCCEEDED, AppState.FAILED, AppState.CANCELLED})

#: Statuses after which a trial never changes again.
TERMINAL_TRIAL_STATUSES: frozenset[str] = frozenset(
    {TrialStatus.COMPLETED, TrialStatus.FAILED, TrialStatus.ABANDONED, TrialStatus.EARLY_STOPPED}
)

#: The order in which a trial may pass through its statuses; a status never moves backwards.
_ORDER: dict[str, int] = {
    TrialStatus.CANDIDATE: 0,
    TrialStatus.STAGED: 1,
    TrialStatus.RUNNING: 2,
    **dict.fromkeys(TERMINAL_TRIAL_STATUSES, 3),
}

#: Every status that the store knows.
TRIAL_STATUSES: frozenset[str] = frozenset(TrialStatus)


def is_terminal_app_state(app_state: str) -> bool:
    """Return whether an app in this ``AppState`` has ended."""
    return app_state in TERMINAL_APP_STATES


def is_terminal_trial_status(trial_status: str) -> bool:
    """Return whether a trial in this ``TrialStatus`` has ended."""
    return trial_status in TERMINAL_TRIAL_STATUSES


def moves_forward(old: str, new: str) -> bool:
    """Return whether a trial may move from ``old`` to ``new``: later in its life, never out of a terminal one."""
    return not is_terminal_trial_status(old) and _ORDER[new] > _ORDER[old]
