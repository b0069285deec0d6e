"""One poller for the apps of a scheduler in a triggerer: a thousand waiting trials cost one batch poll an interval."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

# The triggerer's: it sets up this module, not the one of the Task SDK.
from airflow.observability import stats as stats_module

from airflow_provider_axtx.compat import stats_functions
from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import AppElsewhereError, SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.patience import Patience

log = logging.getLogger(__name__)
stats = stats_functions(stats_module)

#: Seconds for which a wait whose time was up from the beginning still waits for its first poll. A scheduler that hangs
#: must not keep a deadline from being honoured.
FIRST_POLL_SECONDS = 60.0

#: Polls many apps at once; blocking. Raises SchedulerUnavailableError when the scheduler does not answer.
Observe = Callable[[Sequence[str]], Mapping[str, AppObservation]]
#: Gives the polling function for a scheduler and its lookup options (``AttemptRecord.lookup_options``).
MakeObserve = Callable[[str, Mapping[str, Any]], Observe]

_NOT_POLLED = AppObservation("PENDING", "the scheduler has not answered yet")


@dataclass
class _Watch:
    submitted_at: float
    policy: LostAppPolicy
    #: The terminal observation, or why there is none.
    ended: asyncio.Future[AppObservation]
    #: Done after the first poll, whether or not the scheduler answered.
    polled: asyncio.Future[None]
    cancel_reason: str | None = None
    last: AppObservation = _NOT_POLLED
    unseen_polls: int = 0

    def evaluate(self, seen: AppObservation) -> None:
        """Take the answer of the scheduler. An error ends this watch alone."""
        try:
            self.unseen_polls = self.unseen_polls + 1 if seen.app_state == "UNKNOWN" else 0
            age = time.time() - self.submitted_at
            self.last = self.policy.evaluate(
                seen, age=age, unseen_polls=self.unseen_polls, cancel_reason=self.cancel_reason
            )
        except Exception as error:
            log.exception("An answer of the scheduler could not be evaluated; only this wait ends.")
            self.fail(error)
            return
        if self.last.is_terminal and not self.ended.done():
            self.ended.set_result(self.last)

    def note_polled(self) -> None:
        if not self.polled.done():
            self.polled.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


class Poller:
    """Polls all apps that triggers of this process wait for on one scheduler.

    :param name: the scheduler's name, for logs.
    :param interval: seconds from the start of one poll to the start of the next.
    :param observe: polls many apps at once; runs in a thread of this poller, so that a scheduler that hangs delays only
        its own trials.
    :param on_idle: called when no trigger waits any more; the poller's thread is gone then.
    """

    def __init__(
        self, name: str, interval: float, observe: Observe, on_idle: Callable[[Poller], None] = lambda poller: None
    ) -> None:
        self.name = name
        self._observe = observe
        self._on_idle = on_idle
        self._watches: dict[str, list[_Watch]] = {}
        self._task: asyncio.Task[None] | None = None
        self._patience = Patience(interval)

    @property
    def apps(self) -> int:
        """Number of apps that are waited for."""
        return len(self._watches)

    async def watch(
        self,
        handle: str,
        *,
        submitted_at: float,
        policy: LostAppPolicy,
        until: float | None = None,
        cancel_reason: str | None = None,
    ) -> AppObservation:
        """Wait until the app has ended.

        :param handle: its TorchX app handle.
        :param submitted_at: seconds since the epoch, where its grace period starts.
        :param until: when to return even if the app has not ended, in seconds since the epoch; not before the app was
            polled once. None waits for the end.
        :param cancel_reason: the recorded reason of an app that has been cancelled: it has ended as soon as the
            scheduler does not know it any more.
        :return: the terminal observation, or the last one when it was time to return.
        :raises SchedulerUnavailableError: after many failed polls in a row, see ``core.patience``.
        """
        loop = asyncio.get_running_loop()
        watch = _Watch(submitted_at, policy, loop.create_future(), loop.create_future(), cancel_reason)
        self._watches.setdefault(handle, []).append(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"axtx-poller-{self.name}")
        try:
            if until is not None:
                await asyncio.wait([watch.ended], timeout=max(0.0, until - time.time()))
                if not watch.ended.done():
                    await asyncio.wait([watch.polled], timeout=FIRST_POLL_SECONDS)
                if not watch.ended.done():
                    return watch.last
            return await watch.ended
        finally:
            watches = self._watches[handle]
            watches.remove(watch)
            if not watches:
                del self._watches[handle]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"axtx-{self.name}")
        try:
            while self._watches:
                started = loop.time()
                await self._poll(loop, executor)
                await asyncio.sleep(max(0.0, started + self._patience.pause - loop.time()))
        finally:
            # Not waited for: a scheduler that hangs would hold up the event loop.
            executor.shutdown(wait=False)
            self._on_idle(self)
        _report_in_flight(self)

    async def _poll(self, loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
        handles = list(self._watches)
        crash_point("poller.before_observe")
        try:
            _report_in_flight(self)
            with stats.timer(f"axtx.observation.duration.{self.name}", tags={"scheduler": self.name}):
                seen = await loop.run_in_executor(executor, self._observe, handles)
            self._patience.note_answer()
            crash_point("poller.after_observe")
            for handle in handles:
                for watch in self._watches.get(handle, ()):
                    watch.evaluate(seen.get(handle, UNSEEN))
        except AppElsewhereError as error:
            # Asking again from here cannot help.
            self._give_up(handles, error)
        except SchedulerUnavailableError as error:
            self._patience.note_failure()
            log.warning("Poll %s of %s in a row failed: %s", self._patience.failures, self.name, error)
            if self._patience.is_exhausted:
                self._patience.note_answer()
                self._give_up(handles, error)
        except Exception as error:  # noqa: BLE001 - handed to each trigger: a bug must not leave it waiting
            self._give_up(handles, error)
        for handle in handles:
            for watch in self._watches.get(handle, ()):
                watch.note_polled()

    def _give_up(self, handles: Sequence[str], error: Exception) -> None:
        for handle in handles:
            for watch in self._watches.get(handle, ()):
                watch.fail(error)


class _Key(NamedTuple):
    scheduler: str
    #: JSON text: options are a dict, which cannot be a key.
    lookup_options: str
    interval: float


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Poller]] = WeakKeyDictionary()


def poller_for(scheduler: str, lookup_options: Mapping[str, Any], interval: float, make_observe: MakeObserve) -> Poller:
    """Return this event loop's poller for the apps of a scheduler; it goes away when no trigger waits any more.

    Call its ``watch`` at once, without awaiting anything between.

    :param lookup_options: what the scheduler needs to find the apps; apps with other options have another poller.
    :param interval: seconds between two polls; triggers with another interval have another poller.
    :param make_observe: gives the polling function; called once for each poller.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    key = _Key(scheduler, json.dumps(lookup_options, sort_keys=True, default=str), interval)

    def remove(poller: Poller) -> None:
        if pollers.get(key) is poller:
            del pollers[key]

    if key not in pollers:
        pollers[key] = Poller(scheduler, interval, make_observe(scheduler, lookup_options), remove)
    return pollers[key]


def _report_in_flight(poller: Poller) -> None:
    # Of all pollers of the scheduler: those with another interval or other options report under the same name.
    pollers = _pollers.get(asyncio.get_running_loop(), {}).values()
    apps = sum(other.apps for other in pollers if other.name == poller.name)
    stats.gauge(f"axtx.apps_in_flight.{poller.name}", apps, tags={"scheduler": poller.name})
