"""Writes an app's output to the log of the deferred task that waits for the app."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from logging import Logger
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.logs import LogFollower

#: The most lines of one replica that one poll returns. The triggerer's event loop writes them to the log and must not
#: be blocked; the next poll, after a short pause, returns more.
POLL_LINES = 200
_PAUSE_SECONDS = 0.5

#: All triggers of a process share these threads. A scheduler that does not answer must not occupy the threads of the
#: event loop's default executor, which every trigger needs.
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="axtx-follow")


class Following:
    """Follows the output of one app.

    :param scheduler: name of the TorchX scheduler that runs the app.
    :param lookup_options: what the scheduler needs to find the app (``AttemptRecord.lookup_options``).
    :param handle: the app handle.
    :param given: how much of each log was shown already, as in ``LogFollower``.
    """

    def __init__(
        self, scheduler: str, lookup_options: Mapping[str, Any], handle: str, given: Mapping[str, int]
    ) -> None:
        #: How much has been shown so far. A poll that was cancelled has shown nothing, so it does not count.
        self.given = dict(given)
        self._scheduler = scheduler
        self._lookup_options = lookup_options
        self._handle = handle
        self._follower: LogFollower | None = None

    async def show(self, log: Logger, interval: float) -> None:
        """Write the output to the log until this coroutine is cancelled.

        :param log: the logger that receives the lines.
        :param interval: seconds between two polls.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                lines, given = await loop.run_in_executor(_readers, self._poll)
            except Exception as error:  # noqa: BLE001 - the trigger goes on waiting for the app, and the task shows the output at the end
                log.warning("The output of %s cannot be followed: %s", self._handle, error)
                return
            for line in lines:
                log.info("%s", line)
            self.given = given
            await asyncio.sleep(min(_PAUSE_SECONDS, interval) if len(lines) >= POLL_LINES else interval)

    def _poll(self) -> tuple[list[str], dict[str, int]]:
        if self._follower is None:
            from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

            launcher = TorchXLauncher.for_attempt(self._scheduler, self._lookup_options)
            self._follower = launcher.follow(self._handle, self.given)
        lines = self._follower.new_lines(most=POLL_LINES)
        return lines, self._follower.given
