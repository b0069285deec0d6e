"""Waits until an app reports another progressive result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from airflow_provider_axtx.core.errors import TrackerUnavailableError

log = logging.getLogger(__name__)


class Reporting(NamedTuple):
    """An app that reports progressive results.

    :param tracker_base: folder or URL where the app reports.
    :param trial_index: index of the trial that the app runs.
    :param steps_seen: number of steps that the waiting task had read before it deferred.
    """

    tracker_base: str
    trial_index: int
    steps_seen: int


async def progress(apps: Sequence[Reporting], interval: float) -> None:
    """Return as soon as one of the apps has reported more steps than the waiting task had read.

    :param apps: the apps to poll.
    :param interval: seconds between two polls.
    """
    while True:
        await asyncio.sleep(interval)
        try:
            if await asyncio.to_thread(_has_more, apps):
                return
        except TrackerUnavailableError as error:
            log.warning("Cannot read progressive results, trying again in %s s: %s", interval, error)


def _has_more(apps: Sequence[Reporting]) -> bool:
    from airflow_provider_axtx.launcher.tracker import list_steps

    return any(len(list_steps(app.tracker_base, app.trial_index)) > app.steps_seen for app in apps)
