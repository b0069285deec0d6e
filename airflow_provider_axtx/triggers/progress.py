"""Waits until an app has reported another progressive result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from airflow_provider_axtx.core.errors import TrackerUnavailableError

log = logging.getLogger(__name__)


class Reporting(NamedTuple):
    """An app that reports progressive results.

    :param tracker_base: where it reports.
    :param trial_index: for which trial.
    :param steps_seen: how many steps were there when the waiting task looked.
    """

    tracker_base: str
    trial_index: int
    steps_seen: int


async def progress(apps: Sequence[Reporting], interval: float) -> None:
    """Return as soon as one of the apps has reported more steps than were seen.

    :param interval: seconds between two looks.
    """
    while True:
        await asyncio.sleep(interval)
        try:
            if await asyncio.to_thread(_has_more, apps):
                return
        except TrackerUnavailableError as error:
            log.warning("Looking for progressive results again later: %s", error)


def _has_more(apps: Sequence[Reporting]) -> bool:
    from airflow_provider_axtx.launcher.tracker import list_steps

    return any(len(list_steps(app.tracker_base, app.trial_index)) > app.steps_seen for app in apps)
