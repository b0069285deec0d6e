"""The trigger that waits for one trial's app in the triggerer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
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
from airflow_provider_axtx.core.errors import AppElsewhereError, SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.triggers import killing
from airflow_provider_axtx.triggers.following import Following
from airflow_provider_axtx.triggers.lookup import lookup_options_for
from airflow_provider_axtx.triggers.poller import Observe, poller_for
from airflow_provider_axtx.triggers.progress import Reporting, progress
from airflow_provider_axtx.triggers.steering import watcher_for
from airflow_provider_axtx.triggers.task_state import is_over
from airflow_provider_axtx.triggers.timing import sleep_until

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

log = logging.getLogger(__name__)

#: Seconds for which the end of a cancelled app is awaited when a user has ended its task.
CANCEL_SECONDS = 15.0

#: Seconds that Airflow gets to tell a task's state: with 2 s, the app of a marked task ran on in a loaded triggerer.
ASK_SECONDS = 15.0


class TorchXTrialTrigger(BaseTrigger):
    """Fires once: when the app has ended (``observed``), its time is up (``timeout``), or polling failed (``error``).

    It also fires when the task's ``execution_timeout`` has passed (``execution_timeout``) and, for an experiment with
    early stopping, when the app has reported another step (``progress``). A user who stops the trial or the experiment
    wakes the task in the same way.

    All arguments are plain JSON values: they are stored in Airflow's database and survive a restart of the triggerer.
    They may have been written by another version of this package: each has a default, unknown ones are kept, and those
    that were added after the first version are written only when they differ from their default.

    :param run: the submitted trial as JSON.
    :param scheduler: TorchX scheduler on which it runs.
    :param submitted_at: seconds since the epoch.
    :param deadline: seconds since the epoch; absolute, so that a restart of the triggerer does not reset it. The app is
        polled at least once before it counts. None is never.
    :param poll_interval: seconds between two polls of the scheduler.
    :param grace_seconds: how long after submission an unknown app may still turn up.
    :param grace_polls: consecutive polls without the app before it is lost.
    :param ax_conn_id: connection of the experiment store.
    :param torchx_conn_id: connection of the scheduler.
    :param early_stopping_interval: seconds between two looks for progressive results; None looks for none.
    :param steps_seen: how many progressive results the task has seen.
    :param stream_logs: write the app's output to the task's log. A triggerer that is restarted begins again where the
        task began to wait.
    :param log_given: how much of the output the task's log has already, as in ``LogFollower``.
    :param lookup_options: what the scheduler needs to find the app (``AttemptRecord.lookup_options``); None, for an
        attempt of schema 0001, takes the connection's.
    :param not_before: when the trigger may fire at the earliest, in seconds since the epoch (``timing``).
    :param execution_deadline: when the task's ``execution_timeout`` has passed, in seconds since the epoch.
    :param identity: the try of the task that waits (``TaskIdentity`` as JSON).
    :param steering_seen: position of the last change of what users want that the task has obeyed, -1 before the first;
        None does not look for another.
    :param curve_source: where the app's steps are read besides its tracker.
    :param cancel_reason: the recorded reason when the app has been cancelled. Kubernetes forgets a cancelled job: such
        an app has ended, and is not waited for until it counts as lost.
    """

    def __init__(
        self,
        *,
        run: dict[str, Any],
        scheduler: str | None = None,
        submitted_at: float = 0.0,
        deadline: float | None = None,
        poll_interval: float = 10.0,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        grace_polls: int = DEFAULT_GRACE_POLLS,
        ax_conn_id: str = AxHook.default_conn_name,
        torchx_conn_id: str = TorchXHook.default_conn_name,
        early_stopping_interval: float | None = None,
        steps_seen: int = 0,
        stream_logs: bool = False,
        log_given: dict[str, int] | None = None,
        lookup_options: dict[str, Any] | None = None,
        not_before: float | None = None,
        execution_deadline: float | None = None,
        identity: dict[str, Any] | None = None,
        steering_seen: int | None = None,
        curve_source: dict[str, Any] | None = None,
        cancel_reason: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: dict[str, Any] = {
            "run": run,
            "scheduler": scheduler or run["app_handle"].partition("://")[0],
            "submitted_at": submitted_at,
            "deadline": deadline,
            "poll_interval": poll_interval,
            "grace_seconds": grace_seconds,
            "grace_polls": grace_polls,
            "ax_conn_id": ax_conn_id,
            "torchx_conn_id": torchx_conn_id,
            "early_stopping_interval": early_stopping_interval,
            "steps_seen": steps_seen,
        }
        added = {
            "stream_logs": stream_logs or None,
            "log_given": log_given if stream_logs else None,
            "lookup_options": lookup_options,
            "not_before": not_before,
            "execution_deadline": execution_deadline,
            "identity": identity,
            "steering_seen": steering_seen,
            "cancel_reason": cancel_reason,
            "curve_source": curve_source,
        }
        self.arguments |= {name: value for name, value in added.items() if value is not None} | unknown

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the shared poller of the scheduler to see the end of the app."""
        try:
            event = {"run": self.arguments["run"], **await self._wait_for_app()}
        except asyncio.CancelledError:
            end_after_cancellation(self)
            raise
        await sleep_until(self.arguments.get("not_before"))
        crash_point("trigger.before_event")
        yield TriggerEvent(event)

    async def _wait_for_app(self) -> dict[str, Any]:
        a = self.arguments
        try:
            options = await lookup_options_for(a["scheduler"], a.get("lookup_options"), a["torchx_conn_id"])
        except Exception as error:  # noqa: BLE001 - as in _wait
            return error_event(error)
        return await (self._wait_and_follow(options) if a.get("stream_logs") else self._wait(options))

    async def _wait_and_follow(self, options: Mapping[str, Any]) -> dict[str, Any]:
        a = self.arguments
        following = Following(a["scheduler"], options, a["run"]["app_handle"], a.get("log_given") or {})
        showing = asyncio.create_task(following.show(log, a["poll_interval"]))
        try:
            event = await self._wait(options)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
        return {**event, "log_given": following.given}

    async def _wait(self, options: Mapping[str, Any]) -> dict[str, Any]:
        waits = [asyncio.create_task(self._end_or_deadline(options))]
        if self.arguments["early_stopping_interval"] is not None:
            waits.append(asyncio.create_task(self._progressed()))
        if self.arguments.get("steering_seen") is not None:
            waits.append(asyncio.create_task(self._stopped()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            # The end of the app counts more than its progress.
            return next(wait for wait in waits if wait.done()).result()
        except Exception as error:  # noqa: BLE001 - a trigger that raises fails its task, which then cannot end its app
            return error_event(error)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _end_or_deadline(self, options: Mapping[str, Any]) -> dict[str, Any]:
        a = self.arguments
        times = [at for at in (a["deadline"], a.get("execution_deadline")) if at is not None]
        observed = await poller_for(a["scheduler"], options, a["poll_interval"], make_observe).watch(
            a["run"]["app_handle"],
            submitted_at=a["submitted_at"],
            policy=LostAppPolicy(a["grace_seconds"], a["grace_polls"]),
            until=min(times, default=None),
            cancel_reason=a.get("cancel_reason"),
        )
        if observed.is_terminal:
            return {"status": "observed", **observed.to_json()}
        is_timeout = a["deadline"] is not None and time.time() >= a["deadline"]
        return {"status": "timeout" if is_timeout else "execution_timeout"}

    async def _progressed(self) -> dict[str, Any]:
        a = self.arguments
        run = a["run"]
        app = Reporting(run["tracker_base"], run["trial_index"], a["steps_seen"], a.get("curve_source"))
        await progress([app], a["early_stopping_interval"])
        return {"status": "progress"}

    async def _stopped(self) -> dict[str, Any]:
        a, run = self.arguments, self.arguments["run"]
        watcher = watcher_for(a["ax_conn_id"])
        await watcher.watch(run["experiment"], a["steering_seen"], a["poll_interval"], run["trial_index"])
        # Not an event of its own: a worker with the version before this one must be able to go on with it.
        return {"status": "progress"}

    async def on_kill(self) -> None:
        """End the app when its task is over: a user marked the deferred task, or removed it.

        A user's Clear starts another try, which goes on with the app. Never in ``cleanup()``, which also runs when a
        triggerer restarts.
        """
        run = self.arguments["run"]
        await killing.finish(
            f"end the app of trial {run['trial_index']} of {run['experiment']!r}", self._end_app_of_ended_task()
        )

    async def _end_app_of_ended_task(self) -> None:
        a = self.arguments
        if not await is_over_for_trigger(self, a.get("identity")):
            log.info("Another try of the task goes on with %s.", a["run"]["app_handle"])
            return
        url = await AxHook(a["ax_conn_id"]).aget_url()
        end = sync_to_async(_end_app, thread_sensitive=False, executor=killing.threads)
        await end(url, a["run"], a["torchx_conn_id"])


async def is_over_for_trigger(trigger: BaseTrigger, identity: Mapping[str, Any] | None) -> bool:
    """Return whether no try of the trigger's task will go on with its apps.

    :param identity: the try that waits, as JSON; None in a trigger that an older version of this package wrote.
    """
    if identity is not None:
        waiting = TaskIdentity.from_json(identity)
    else:
        ti: Any = trigger.task_instance
        known = {name: getattr(ti, name, None) for name in ("dag_id", "run_id", "task_id", "map_index", "try_number")}
        # How many tries it has is not known; unless Airflow says otherwise, another one follows.
        waiting = TaskIdentity.from_json({**known, "max_tries": known["try_number"]})
    ask = sync_to_async(is_over, thread_sensitive=False, executor=killing.threads)
    # A task instance that is running now has been started again since.
    return await ask(waiting, when_running=False, seconds=ASK_SECONDS)


def error_event(error: Exception) -> dict[str, Any]:
    """Return the event that tells the task why its apps cannot be polled."""
    if not isinstance(error, SchedulerUnavailableError):
        log.error("The trigger failed.", exc_info=error)
        return {"status": "error", "message": f"{type(error).__name__}: {error}"}
    elsewhere = {"elsewhere": True} if isinstance(error, AppElsewhereError) else {}
    return {"status": "error", "message": str(error), **elsewhere}


def make_observe(scheduler: str, lookup_options: Mapping[str, Any]) -> Observe:
    """Return what polls the apps of a scheduler for its poller."""
    launcher: TorchXLauncher | None = None

    def observe(handles: Sequence[str]) -> Mapping[str, AppObservation]:
        # Made in the poller's thread: importing TorchX takes longer than the 0.2 s that Airflow allows the event loop.
        nonlocal launcher
        if launcher is None:
            from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

            launcher = TorchXLauncher.for_attempt(scheduler, lookup_options)
        return launcher.observe(handles)

    return observe


def _end_app(url: str, run: Mapping[str, Any], torchx_conn_id: str) -> None:
    from airflow_provider_axtx.lifecycle.attempts import KILLED, end_attempt
    from airflow_provider_axtx.store.experiments import ExperimentStore

    store = ExperimentStore(url)
    attempt = store.attempt(run["experiment"], run["trial_index"], run["attempt"])
    launcher = TorchXHook(attempt.identity.torchx_conn_id or torchx_conn_id).get_launcher_for(attempt)
    reason = f"{KILLED}: marked or removed while it was deferred"
    end_attempt(store, launcher, attempt, reason, seconds=CANCEL_SECONDS)
