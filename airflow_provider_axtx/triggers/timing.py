"""When a trigger may fire."""

from __future__ import annotations

import asyncio
import time

from airflow.sdk import conf

#: Seconds that the scheduler gets to read that the process has ended, which it does once in each of its rounds. On an
#: overloaded machine a round took 7 s; a margin of 2 s was too short there.
_MARGIN_SECONDS = 5.0


def deferral_seconds() -> float:
    """Return how many seconds a deferral takes at least, before the task goes on.

    The process that supervises a task may notice its end only a heartbeat later, and the scheduler reads it in its
    next round. When the task has been resumed and queued again by then, the scheduler takes that end for the death of
    the resumed task and marks the task as failed.
    """
    return float(conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)) + _MARGIN_SECONDS


def earliest_event() -> float:
    """Return when the trigger of a task that defers now may fire, in seconds since the epoch."""
    return time.time() + deferral_seconds()


async def sleep_until(at: float | None) -> None:
    """Sleep until a point in time, in seconds since the epoch; None does not wait."""
    if at is not None:
        await asyncio.sleep(max(0.0, at - time.time()))
