"""One look at an experiment store for all triggers of a process that wait for what users want of their experiments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.patience import Patience
from airflow_provider_axtx.core.steering import Action, Asked
from airflow_provider_axtx.hooks.ax import AxHook

log = logging.getLogger(__name__)

#: Reads the last changes of some experiments; blocking.
Look = Callable[[Collection[str]], Sequence[Asked]]


@dataclass
class _Watch:
    experiment: str
    seen: int
    interval: float
    trial_index: int | None
    asked: asyncio.Future[Asked]

    def evaluate(self, asked: Asked) -> None:
        """Take a change that was found; the wait ends if it is a later one that concerns this task."""
        if asked.experiment != self.experiment or asked.position <= self.seen or self.asked.done():
            return
        if self.trial_index is not None and not self._stops_trial(asked):
            return
        self.asked.set_result(asked)

    def _stops_trial(self, asked: Asked) -> bool:
        is_of_trial = asked.action == Action.STOP_TRIAL and asked.trial_index == self.trial_index
        return is_of_trial or asked.action == Action.STOP


class SteeringWatcher:
    """Looks for changes of all experiments that triggers of this event loop wait for in one store.

    A thousand waiting tasks cost one statement an interval. A store that does not answer is asked again, with growing
    pauses: the tasks wait for their apps all the same.

    :param name: connection of the store, for the log.
    :param open_store: gives what reads the store; called once, when the first trigger waits, in this watcher's thread.
    :param on_idle: called when no trigger waits any more.
    """

    def __init__(
        self,
        name: str,
        open_store: Callable[[str], Look],
        on_idle: Callable[[SteeringWatcher], None] = lambda watcher: None,
    ) -> None:
        self.name = name
        self._open_store = open_store
        self._on_idle = on_idle
        self._watches: list[_Watch] = []
        self._task: asyncio.Task[None] | None = None
        self._look: Look | None = None

    async def watch(self, experiment: str, seen: int, interval: float, trial_index: int | None = None) -> Asked:
        """Wait until a user wants something else of an experiment.

        :param seen: position of the last change that the waiting task has obeyed.
        :param interval: seconds between two looks; the shortest of all that wait counts.
        :param trial_index: wait only for the stop of this trial or of its experiment; None is every change.
        :return: what is wanted.
        """
        watch = _Watch(experiment, seen, interval, trial_index, asyncio.get_running_loop().create_future())
        self._watches.append(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"axtx-steering-{self.name}")
        try:
            return await watch.asked
        finally:
            self._watches.remove(watch)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"axtx-steering-{self.name}")
        failures = 0
        try:
            while self._watches:
                started = loop.time()
                failures = 0 if await self._look_once(loop, executor) else failures + 1
                interval = min((watch.interval for watch in self._watches), default=0.0)
                await asyncio.sleep(max(0.0, started + Patience(interval, failures).pause - loop.time()))
        finally:
            # Not waited for: a database that hangs would hold up the event loop.
            executor.shutdown(wait=False)
            self._on_idle(self)

    async def _look_once(self, loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> bool:
        """Look once; return whether the store has answered."""
        names = sorted({watch.experiment for watch in self._watches})
        crash_point("steering.before_look")
        try:
            if self._look is None:
                url = await AxHook(self.name).aget_url()
                self._look = await loop.run_in_executor(executor, self._open_store, url)
            found = await loop.run_in_executor(executor, self._look, names)
        except Exception as error:  # noqa: BLE001 - whatever it is, the tasks go on to wait for their apps
            log.warning("What users want of %s experiments cannot be read: %s", len(names), error)
            return False
        crash_point("steering.after_look")
        for asked in found:
            for watch in self._watches:
                watch.evaluate(asked)
        return True


_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SteeringWatcher]] = WeakKeyDictionary()


def watcher_for(ax_conn_id: str) -> SteeringWatcher:
    """Return this event loop's watcher of a store; it goes away when no trigger waits any more.

    Call its ``watch`` at once, without awaiting anything between.
    """
    watchers = _watchers.setdefault(asyncio.get_running_loop(), {})

    def remove(watcher: SteeringWatcher) -> None:
        if watchers.get(ax_conn_id) is watcher:
            del watchers[ax_conn_id]

    if ax_conn_id not in watchers:
        watchers[ax_conn_id] = SteeringWatcher(ax_conn_id, _reader, remove)
    return watchers[ax_conn_id]


def _reader(url: str) -> Look:
    from airflow_provider_axtx.store.experiments import ExperimentStore

    # The watcher itself asks again: a transaction that waits for a minute would hold its thread.
    return ExperimentStore(url, retry_seconds=0, create=False).last_asked
