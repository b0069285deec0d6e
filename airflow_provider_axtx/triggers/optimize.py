"""The trigger that waits in the triggerer until any of an experiment's apps has ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_axtx.compat import end_after_cancellation
from airflow_provider_axtx.core.app_observation import (
    DEFAULT_GRACE_POLLS,
    DEFAULT_GRACE_SECONDS,
    AppObservation,
    LostAppPolicy,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.triggers import killing
from airflow_provider_axtx.triggers.lookup import lookup_options_for
from airflow_provider_axtx.triggers.poller import poller_for
from airflow_provider_axtx.triggers.progress import Reporting, progress
from airflow_provider_axtx.triggers.steering import watcher_for
from airflow_provider_axtx.triggers.timing import sleep_until
from airflow_provider_axtx.triggers.trial import CANCEL_SECONDS, error_event, is_over_for_trigger, make_observe

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

log = logging.getLogger(__name__)


class AxOptimizeTrigger(BaseTrigger):
    """Fires once: when an app has ended (``ended``), it is time to look (``due``), or polling failed (``error``).

    It also fires when the task's ``execution_timeout`` has passed (``execution_timeout``), and when a user wants
    something else of the experiment (``due``).

    All arguments are plain JSON values: they are stored in Airflow's database and survive a restart of the triggerer.
    They may have been written by another version of this package, as those of ``TorchXTrialTrigger``.

    :param experiment: name of the experiment.
    :param submitted: when each live app was submitted, by app handle.
    :param identity: the waiting task (``TaskIdentity`` as JSON).
    :param scheduler: TorchX scheduler of the apps that ``lookups`` does not name.
    :param until: when to fire even if no app has ended, in seconds since the epoch; None is never.
    :param poll_interval: seconds between two polls of the scheduler.
    :param grace_seconds: how long after submission an unknown app may still turn up.
    :param grace_polls: consecutive polls without the app before it is lost.
    :param ax_conn_id: connection of the experiment store.
    :param reporting: for an experiment with early stopping, where each live app reports: tracker base, trial index, how
        many steps the task has seen, and where else they are read. Another step is a time to look (``due``).
    :param early_stopping_interval: seconds between two looks for further steps.
    :param lookups: ``[scheduler, lookup options, [app handles]]`` of the apps that are found in the same way, see
        ``lookups_of``.
    :param not_before: when the trigger may fire at the earliest, in seconds since the epoch (``timing``).
    :param execution_deadline: when the task's ``execution_timeout`` has passed, in seconds since the epoch.
    :param steering_seen: position of the last change of what users want that the task has obeyed, -1 before the first;
        None does not look for another.
    :param cancelled: by app handle, the recorded reason of each live app that has been cancelled, as ``cancel_reason``
        of ``TorchXTrialTrigger``.
    """

    def __init__(
        self,
        *,
        experiment: str,
        submitted: dict[str, float] | None = None,
        identity: dict[str, Any] | None = None,
        scheduler: str = "",
        until: float | None = None,
        poll_interval: float = 10.0,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        grace_polls: int = DEFAULT_GRACE_POLLS,
        ax_conn_id: str = AxHook.default_conn_name,
        reporting: list[list[Any]] | None = None,
        early_stopping_interval: float = 60.0,
        lookups: list[list[Any]] | None = None,
        not_before: float | None = None,
        execution_deadline: float | None = None,
        steering_seen: int | None = None,
        cancelled: dict[str, str] | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: dict[str, Any] = {
            "experiment": experiment,
            "submitted": submitted or {},
            "identity": identity or {},
            "scheduler": scheduler,
            "until": until,
            "poll_interval": poll_interval,
            "grace_seconds": grace_seconds,
            "grace_polls": grace_polls,
            "ax_conn_id": ax_conn_id,
            "reporting": reporting,
            "early_stopping_interval": early_stopping_interval,
        }
        added = {
            "lookups": lookups,
            "not_before": not_before,
            "execution_deadline": execution_deadline,
            "steering_seen": steering_seen,
            "cancelled": cancelled or None,
        }
        self.arguments |= {name: value for name, value in added.items() if value is not None} | unknown

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the shared poller of the scheduler to see the end of an app."""
        try:
            event = await self._wait()
        except asyncio.CancelledError:
            end_after_cancellation(self)
            raise
        await sleep_until(self.arguments.get("not_before"))
        crash_point("trigger.before_event")
        yield TriggerEvent(event)

    async def _wait(self) -> dict[str, Any]:
        a = self.arguments
        watching = {asyncio.create_task(watch): handle for handle, watch in self._watches()}
        waits: list[asyncio.Task[Any]] = [*watching]
        if a["reporting"]:
            apps = [Reporting(*app) for app in a["reporting"]]
            waits.append(asyncio.create_task(progress(apps, a["early_stopping_interval"])))
        if a.get("steering_seen") is not None:
            steered = watcher_for(a["ax_conn_id"]).watch(a["experiment"], a["steering_seen"], a["poll_interval"])
            waits.append(asyncio.create_task(steered))
        # Without anything to wait for it is due at once.
        waits.append(asyncio.create_task(self._out_of_time(None if waits else 0.0)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            done = [wait for wait in waits if wait.done()]
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        ended = {watching[wait]: wait.result().to_json() for wait in done if wait in watching and not wait.exception()}
        if ended:
            # What has ended counts more than what could not be polled.
            return {"status": "ended", "apps": ended}
        for wait in done:
            if isinstance(error := wait.exception(), Exception):
                # Not raised: a trigger that raises fails its task, which then cannot end its apps.
                return error_event(error)
        limit = a.get("execution_deadline")
        return {"status": "execution_timeout" if limit is not None and time.time() >= limit else "due"}

    async def _out_of_time(self, otherwise: float | None) -> None:
        """Return when it is time to fire although no app has ended; without such a time at ``otherwise``, or never."""
        times = [at for at in (self.arguments["until"], self.arguments.get("execution_deadline")) if at is not None]
        at = min(times, default=otherwise)
        if at is None:
            await asyncio.Event().wait()
        await sleep_until(at)

    def _watches(self) -> Iterator[tuple[str, Any]]:
        a = self.arguments
        policy = LostAppPolicy(a["grace_seconds"], a["grace_polls"])
        lookup = {
            handle: (scheduler, options) for scheduler, options, handles in a.get("lookups") or () for handle in handles
        }
        for handle in a["submitted"]:
            scheduler, options = lookup.get(handle, (a["scheduler"], None))
            yield handle, self._watch(handle, scheduler, options, policy)

    async def _watch(
        self, handle: str, scheduler: str, recorded: Mapping[str, Any] | None, policy: LostAppPolicy
    ) -> AppObservation:
        a = self.arguments
        conn_id = a["identity"].get("torchx_conn_id") or TorchXHook.default_conn_name
        options = await lookup_options_for(scheduler, recorded, conn_id)
        return await poller_for(scheduler, options, a["poll_interval"], make_observe).watch(
            handle,
            submitted_at=a["submitted"][handle],
            policy=policy,
            cancel_reason=a.get("cancelled", {}).get(handle),
        )

    async def on_kill(self) -> None:
        """End all apps when the task is over: a user marked the deferred task, or removed it.

        A user's Clear starts another try, which goes on with them. Never in ``cleanup()``, which also runs when a
        triggerer restarts.
        """
        await killing.finish(f"end the apps of {self.arguments['experiment']!r}", self._end_apps_of_ended_task())

    async def _end_apps_of_ended_task(self) -> None:
        a = self.arguments
        if not await is_over_for_trigger(self, a["identity"] or None):
            log.info("Another try of the task goes on with the apps of %r.", a["experiment"])
            return
        url = await AxHook(a["ax_conn_id"]).aget_url()
        end = sync_to_async(_end_apps, thread_sensitive=False, executor=killing.threads)
        await end(url, TaskIdentity.from_json(a["identity"]))


def lookups_of(attempts: Sequence[AttemptRecord]) -> list[list[Any]]:
    """Return the trigger's argument ``lookups``: how the apps of the attempts are found."""
    groups: list[list[Any]] = []
    for attempt in attempts:
        way = [attempt.scheduler, attempt.lookup_options]
        group = next((group for group in groups if group[:2] == way), None)
        if group is None:
            groups.append(group := [*way, []])
        group[2].append(attempt.app_handle)
    return groups


def _end_apps(url: str, identity: TaskIdentity) -> None:
    from airflow_provider_axtx.lifecycle.attempts import KILLED
    from airflow_provider_axtx.lifecycle.reap import end_task
    from airflow_provider_axtx.store.experiments import ExperimentStore

    def launcher_for(attempt: AttemptRecord) -> TorchXLauncher:
        return TorchXHook(attempt.identity.torchx_conn_id or TorchXHook.default_conn_name).get_launcher_for(attempt)

    reason = f"{KILLED}: marked or removed while it was deferred"
    end_task(ExperimentStore(url), launcher_for, identity, reason, seconds=CANCEL_SECONDS)
