"""Shows an app's output in the log of a task that waits for it in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from logging import Logger
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.logs import LogFollower

#: Lines of a replica at one look: the event loop writes them, and must not be held. More follow after a pause.
LOOK_LINES = 200
_PAUSE_SECONDS = 0.5

#: Of all triggers: a scheduler that does not answer must not take the threads that the event loop has for everybody.
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="axtx-follow")


class Following:
    """Follows one app's output.

    :param scheduler: TorchX scheduler on which it runs.
    :param handle: its app handle.
    :param given: what was shown already, as in ``LogFollower``.
    """

    def __init__(self, scheduler: str, handle: str, given: Mapping[str, int]) -> None:
        #: What has been shown by now. Not more than that: a look that was cancelled shows nothing.
        self.given = dict(given)
        self._scheduler = scheduler
        self._handle = handle
        self._follower: LogFollower | None = None

    async def show(self, log: Logger, interval: float) -> None:
        """Write the output to the log, until cancelled.

        :param interval: seconds between two looks.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                lines, given = await loop.run_in_executor(_readers, self._poll)
            except Exception as error:  # noqa: BLE001 - the app is waited for all the same, and its output shown at its end
                log.warning("The output of %s cannot be followed: %s", self._handle, error)
                return
            for line in lines:
                log.info("%s", line)
            self.given = given
            await asyncio.sleep(min(_PAUSE_SECONDS, interval) if len(lines) >= LOOK_LINES else interval)

    def _poll(self) -> tuple[list[str], dict[str, int]]:
        if self._follower is None:
            from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

            self._follower = TorchXLauncher(self._scheduler).follow(self._handle, self.given)
        lines = self._follower.new_lines(most=LOOK_LINES)
        return lines, self._follower.given
