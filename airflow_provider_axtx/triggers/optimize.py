"""The trigger that waits in the triggerer until any of an experiment's apps has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_axtx.core.app_observation import LostAppPolicy
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.triggers.poller import poller_for
from airflow_provider_axtx.triggers.progress import Reporting, progress
from airflow_provider_axtx.triggers.trial import make_observe

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher


class AxOptimizeTrigger(BaseTrigger):
    """Fires once: when an app has ended (``ended``), it is time to look (``due``), or nobody can say (``error``).

    All arguments are plain JSON values: they are stored in Airflow's database and survive a restart of the triggerer.

    :param experiment: name of the experiment.
    :param submitted: when each live app was submitted, by app handle.
    :param identity: the waiting task (``TaskIdentity`` as JSON).
    :param scheduler: TorchX scheduler on which the apps run.
    :param until: when to fire even if no app has ended, in seconds since the epoch; None is never.
    :param poll_interval: seconds between two observations of the scheduler.
    :param grace_seconds: how long after submission an unknown app may still turn up.
    :param grace_polls: consecutive observations without the app before it is lost.
    :param ax_conn_id: connection of the experiment store.
    :param reporting: for an experiment with early stopping, where each live app reports: tracker base, trial index, and
        how many steps the task has seen. Another step is a time to look (``due``).
    :param early_stopping_interval: seconds between two looks for further steps.
    """

    def __init__(
        self,
        *,
        experiment: str,
        submitted: dict[str, float],
        identity: dict[str, Any],
        scheduler: str,
        until: float | None,
        poll_interval: float,
        grace_seconds: float,
        grace_polls: int,
        ax_conn_id: str,
        reporting: list[list[Any]] | None = None,
        early_stopping_interval: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: dict[str, Any] = {
            "experiment": experiment,
            "submitted": submitted,
            "identity": identity,
            "scheduler": scheduler,
            "until": until,
            "poll_interval": poll_interval,
            "grace_seconds": grace_seconds,
            "grace_polls": grace_polls,
            "ax_conn_id": ax_conn_id,
            "reporting": reporting,
            "early_stopping_interval": early_stopping_interval,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the shared poller of the scheduler to see the end of an app."""
        event = await self._wait()
        crash_point("trigger.before_event")
        yield TriggerEvent(event)

    async def _wait(self) -> dict[str, Any]:
        a = self.arguments
        poller = poller_for(a["scheduler"], a["poll_interval"], make_observe)
        policy = LostAppPolicy(a["grace_seconds"], a["grace_polls"])
        left = None if a["until"] is None else max(0.0, a["until"] - time.time())
        if not a["submitted"]:
            await asyncio.sleep(left or 0.0)
            return {"status": "due"}
        watching = {
            asyncio.create_task(poller.watch(handle, submitted_at=submitted_at, policy=policy)): handle
            for handle, submitted_at in a["submitted"].items()
        }
        waits: list[asyncio.Task[Any]] = [*watching]
        if a["reporting"]:
            apps = [Reporting(*app) for app in a["reporting"]]
            waits.append(asyncio.create_task(progress(apps, a["early_stopping_interval"])))
        try:
            done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        try:
            results = {task: task.result() for task in done}
        except SchedulerUnavailableError as error:
            return {"status": "error", "message": str(error)}
        ended = {watching[task]: seen.to_json() for task, seen in results.items() if task in watching}
        return {"status": "ended", "apps": ended} if ended else {"status": "due"}

    async def on_kill(self) -> None:
        """Cancel all apps: a user cleared, failed or marked as success the deferred task.

        Never in ``cleanup()``, which also runs when a triggerer restarts.
        """
        a = self.arguments
        url = await AxHook(a["ax_conn_id"]).aget_url()
        await asyncio.to_thread(_cancel, url, a["identity"])


def _cancel(url: str, identity: Mapping[str, Any]) -> None:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.lifecycle.attempts import KILLED
    from airflow_provider_axtx.lifecycle.reap import end_task
    from airflow_provider_axtx.store.experiments import ExperimentStore

    def launcher_for(attempt: AttemptRecord) -> TorchXLauncher:
        return TorchXLauncher.for_attempt(attempt.scheduler, attempt.lookup_options)

    reason = f"{KILLED}: marked as failed or as success while it was deferred"
    end_task(ExperimentStore(url), launcher_for, TaskIdentity.from_json(identity), reason, seconds=20)
