"""Waits until an app reports another progressive result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from airflow_provider_axtx.core.errors import (
    InvalidInputError,
    SchedulerUnavailableError,
    TrackerUnavailableError,
)

log = logging.getLogger(__name__)


class Reporting(NamedTuple):
    """An app that reports progressive results.

    :param tracker_base: folder or URL where the app reports.
    :param trial_index: index of the trial that the app runs.
    :param steps_seen: number of progressive results that the waiting task had read before it deferred.
    :param curve_source: where else its steps are read, see ``launcher.metric_reader.count_steps``.
    """

    tracker_base: str
    trial_index: int
    steps_seen: int
    curve_source: dict[str, Any] | None = None


async def progress(apps: Sequence[Reporting], interval: float) -> None:
    """Return as soon as one of the apps has reported more steps than the waiting task had read.

    :param apps: the apps to poll.
    :param interval: seconds between two polls.
    """
    while True:
        await asyncio.sleep(interval)
        if await asyncio.to_thread(_any_has_more, apps):
            return


def _any_has_more(apps: Sequence[Reporting]) -> bool:
    return any(_has_more(app) for app in apps)


def _has_more(app: Reporting) -> bool:
    from airflow_provider_axtx.launcher.metric_reader import count_steps

    try:
        return count_steps(app.tracker_base, app.trial_index, app.curve_source) > app.steps_seen
    except (TrackerUnavailableError, SchedulerUnavailableError, InvalidInputError) as error:
        log.warning("The progressive results of trial %s cannot be read just now: %s", app.trial_index, error)
        return False
