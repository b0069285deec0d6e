"""TorchX ``AppState`` and Ax ``TrialStatus`` by name, and how the one maps to the other.

Source of the mapping: ``ax.runners.torchx.APP_STATE_TO_TRIAL_STATUS`` (Ax 1.3.1). A test compares the two tables.
"""

from __future__ import annotations

#: TorchX ``AppState`` name -> Ax ``TrialStatus`` name.
APP_STATE_TO_TRIAL_STATUS: dict[str, str] = {
    "UNSUBMITTED": "CANDIDATE",
    "SUBMITTED": "STAGED",
    "PENDING": "STAGED",
    "RUNNING": "RUNNING",
    "SUCCEEDED": "COMPLETED",
    "CANCELLED": "ABANDONED",
    "FAILED": "FAILED",
    "UNKNOWN": "FAILED",
}

#: ``AppState`` names after which an app never changes again (``torchx.specs.is_terminal``).
TERMINAL_APP_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

#: ``TrialStatus`` names after which a trial never changes again (``ax.core.trial_status.TrialStatus.is_terminal``).
TERMINAL_TRIAL_STATUSES = frozenset({"COMPLETED", "FAILED", "ABANDONED", "EARLY_STOPPED"})

#: ``TrialStatus`` names in the order in which a trial may pass through them; a status never moves backwards.
_ORDER = {"CANDIDATE": 0, "STAGED": 1, "RUNNING": 2, **dict.fromkeys(TERMINAL_TRIAL_STATUSES, 3)}

#: Every ``TrialStatus`` name that the store knows.
TRIAL_STATUSES = frozenset(_ORDER)


def is_terminal_app_state(app_state: str) -> bool:
    """Return whether an app in this ``AppState`` has ended."""
    return app_state in TERMINAL_APP_STATES


def is_terminal_trial_status(trial_status: str) -> bool:
    """Return whether a trial in this ``TrialStatus`` has ended."""
    return trial_status in TERMINAL_TRIAL_STATUSES


def moves_forward(old: str, new: str) -> bool:
    """Return whether a trial may move from ``old`` to ``new``: later in its life, never out of a terminal one."""
    return not is_terminal_trial_status(old) and _ORDER[new] > _ORDER[old]
