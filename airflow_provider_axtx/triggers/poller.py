"""One poller for each scheduler in a triggerer: a thousand waiting trials cost one batch observation an interval."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

# The triggerer's: it sets up this module, not the one of the Task SDK.
from airflow.observability import stats

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point

log = logging.getLogger(__name__)

#: Consecutive failed observations after which those who wait are told; a failure is never a final state of an app.
MAX_FAILURES = 20
#: The longest pause after failures, in seconds.
MAX_BACKOFF = 300.0

#: Looks at many apps at once; blocking. Raises SchedulerUnavailableError when the scheduler does not answer.
Observe = Callable[[Sequence[str]], Mapping[str, AppObservation]]


@dataclass
class _Watch:
    submitted_at: float
    policy: LostAppPolicy
    ended: asyncio.Future[AppObservation]
    unseen_polls: int = 0

    def evaluate(self, seen: AppObservation) -> None:
        self.unseen_polls = self.unseen_polls + 1 if seen.app_state == "UNKNOWN" else 0
        verdict = self.policy.evaluate(seen, age=time.time() - self.submitted_at, unseen_polls=self.unseen_polls)
        if verdict.is_terminal and not self.ended.done():
            self.ended.set_result(verdict)


class Poller:
    """Observes all apps that triggers of this process wait for on one scheduler.

    :param name: the scheduler's name, for logs.
    :param interval: seconds from the start of one observation to the start of the next.
    :param observe: looks at many apps at once; runs in a thread of this poller, so that a scheduler that hangs delays
        only its own trials.
    """

    def __init__(self, name: str, interval: float, observe: Observe) -> None:
        self._name = name
        self._interval = interval
        self._observe = observe
        self._watches: dict[str, list[_Watch]] = {}
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"axtx-{name}")
        self._task: asyncio.Task[None] | None = None
        self._failures = 0

    async def watch(self, handle: str, *, submitted_at: float, policy: LostAppPolicy) -> AppObservation:
        """Wait until the app has ended.

        :param handle: its TorchX app handle.
        :param submitted_at: seconds since the epoch, where its grace period starts.
        :return: the terminal observation.
        :raises SchedulerUnavailableError: after ``MAX_FAILURES`` failed observations in a row.
        """
        watch = _Watch(submitted_at, policy, asyncio.get_running_loop().create_future())
        self._watches.setdefault(handle, []).append(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"axtx-poller-{self._name}")
        try:
            return await watch.ended
        finally:
            watches = self._watches[handle]
            watches.remove(watch)
            if not watches:
                del self._watches[handle]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._watches:
            started = loop.time()
            await self._poll(loop)
            pause = min(self._interval * 2 ** min(self._failures, 10), max(self._interval, MAX_BACKOFF))
            await asyncio.sleep(max(0.0, started + pause - loop.time()))
        self._report_in_flight(loop)

    def _report_in_flight(self, loop: asyncio.AbstractEventLoop) -> None:
        # Of all pollers of the scheduler: those with another interval report under the same name.
        pollers = _pollers.get(loop, {}).items()
        apps = sum(len(poller._watches) for (scheduler, _), poller in pollers if scheduler == self._name)
        stats.gauge(f"axtx.apps_in_flight.{self._name}", apps, tags={"scheduler": self._name})

    async def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        handles = list(self._watches)
        crash_point("poller.before_observe")
        try:
            self._report_in_flight(loop)
            with stats.timer(f"axtx.observation.duration.{self._name}", tags={"scheduler": self._name}):
                seen = await loop.run_in_executor(self._executor, self._observe, handles)
        except SchedulerUnavailableError as error:
            self._failures += 1
            log.warning("Observation %s of %s in a row failed: %s", self._failures, self._name, error)
            if self._failures >= MAX_FAILURES:
                self._failures = 0
                self._give_up(error)
            return
        except Exception as error:  # noqa: BLE001 - handed to everybody who waits: a bug must not leave them waiting
            self._give_up(error)
            return
        self._failures = 0
        crash_point("poller.after_observe")
        for handle in handles:
            for watch in self._watches.get(handle, ()):
                watch.evaluate(seen.get(handle, UNSEEN))

    def _give_up(self, error: Exception) -> None:
        for watches in self._watches.values():
            for watch in watches:
                if not watch.ended.done():
                    watch.ended.set_exception(error)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, float], Poller]] = WeakKeyDictionary()


def poller_for(scheduler: str, interval: float, make_observe: Callable[[str], Observe]) -> Poller:
    """Return this event loop's poller for a scheduler, made at first use.

    :param interval: seconds between two observations; triggers with another interval have another poller.
    :param make_observe: gives the observing function for a scheduler's name; called once.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    key = (scheduler, interval)
    if key not in pollers:
        pollers[key] = Poller(scheduler, interval, make_observe(scheduler))
    return pollers[key]
