"""When a trigger may fire."""

from __future__ import annotations

import asyncio
import time

from airflow.sdk import conf

#: Seconds on top of the scheduler's heartbeat interval.
_MARGIN_SECONDS = 2.0


def earliest_event() -> float:
    """Return when the trigger of a task that defers now may fire, in seconds since the epoch.

    Airflow's scheduler reads the end of the task's process one heartbeat later. When the task has been resumed and
    queued again by then, it takes that end for the death of the resumed task and marks the task as failed.
    """
    return time.time() + conf.getfloat("scheduler", "scheduler_heartbeat_sec", fallback=5.0) + _MARGIN_SECONDS


async def sleep_until(at: float | None) -> None:
    """Sleep until a point in time, in seconds since the epoch; None does not wait."""
    if at is not None:
        await asyncio.sleep(max(0.0, at - time.time()))
