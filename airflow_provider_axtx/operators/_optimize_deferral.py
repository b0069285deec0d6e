"""When ``AxOptimizeOperator`` waits in its worker slot instead of deferring."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_axtx.triggers.timing import deferral_seconds

if TYPE_CHECKING:
    from airflow_provider_axtx.lifecycle.optimize import Step


def may_end_soon(step: Step, poll_interval: float) -> bool:
    """Return whether an app may end before a deferral would be over.

    An app is expected to take as long as the one that ended last. Before the first has ended, nothing is known, and it
    is awaited for the time of one deferral, which at most doubles what it costs.
    """
    now, deferral = time.time(), deferral_seconds()
    if step.until is not None and step.until - now < deferral:
        return True
    if poll_interval > deferral:
        return False
    expected = step.last_seconds or 0.0
    return any(abs(now - (attempt.submitted_at or now) - expected) < deferral for attempt in step.live)
