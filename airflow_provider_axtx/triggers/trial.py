"""The trigger that waits for one trial's app in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.faults import crash_point
from airflow_provider_axtx.core.observation import AppObservation, Grace
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.triggers.poller import Observe, poller_for

if TYPE_CHECKING:
    from airflow_provider_axtx.engine.torchx_engine import TorchXEngine


class TorchXTrialTrigger(BaseTrigger):
    """Fires once: when the app has ended (``observed``), its time is up (``timeout``), or nobody can say (``error``).

    All arguments are plain JSON values: they are stored in Airflow's database and survive a restart of the triggerer.

    :param run: the submitted trial as JSON.
    :param scheduler: TorchX scheduler on which it runs.
    :param submitted_at: seconds since the epoch.
    :param deadline: seconds since the epoch; absolute, so that a restart of the triggerer does not reset it.
    :param poll_interval: seconds between two observations of the scheduler.
    :param grace_seconds: how long after submission an unknown app may still turn up.
    :param grace_polls: consecutive observations without the app before it is lost.
    """

    def __init__(
        self,
        *,
        run: dict[str, Any],
        scheduler: str,
        submitted_at: float,
        deadline: float,
        poll_interval: float,
        grace_seconds: float,
        grace_polls: int,
        ax_conn_id: str,
        torchx_conn_id: str,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: dict[str, Any] = {
            "run": run,
            "scheduler": scheduler,
            "submitted_at": submitted_at,
            "deadline": deadline,
            "poll_interval": poll_interval,
            "grace_seconds": grace_seconds,
            "grace_polls": grace_polls,
            "ax_conn_id": ax_conn_id,
            "torchx_conn_id": torchx_conn_id,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the shared poller of the scheduler to see the end of the app."""
        event = {"run": self.arguments["run"], **await self._wait()}
        crash_point("trigger.before_event")
        yield TriggerEvent(event)

    async def _wait(self) -> dict[str, Any]:
        a = self.arguments
        poller = poller_for(a["scheduler"], a["poll_interval"], make_observe)
        try:
            async with asyncio.timeout(max(0.0, a["deadline"] - time.time())):
                observed = await poller.watch(
                    a["run"]["app_handle"],
                    submitted_at=a["submitted_at"],
                    grace=Grace(a["grace_seconds"], a["grace_polls"]),
                )
        except TimeoutError:
            return {"status": "timeout"}
        except SchedulerUnavailableError as error:
            return {"status": "error", "message": str(error)}
        return {
            "status": "observed",
            "app_state": observed.app_state,
            "message": observed.message,
            "infrastructure": observed.infrastructure,
        }

    async def on_kill(self) -> None:
        """Cancel the app: a user cleared, failed or marked as success the deferred task.

        Never in ``cleanup()``, which also runs when a triggerer restarts.
        """
        url = await AxHook(self.arguments["ax_conn_id"]).aget_url()
        await asyncio.to_thread(_cancel, url, self.arguments["run"])


def make_observe(scheduler: str) -> Observe:
    """Return what observes the apps of a scheduler for its poller."""
    engine: TorchXEngine | None = None

    def observe(handles: Sequence[str]) -> Mapping[str, AppObservation]:
        # Made in the poller's thread: importing TorchX takes longer than the 0.2 s that Airflow allows the event loop.
        nonlocal engine
        if engine is None:
            from airflow_provider_axtx.engine.torchx_engine import TorchXEngine

            engine = TorchXEngine(scheduler)
        return engine.observe(handles)

    return observe


def _cancel(url: str, run: Mapping[str, Any]) -> None:
    from airflow_provider_axtx.engine.torchx_engine import TorchXEngine
    from airflow_provider_axtx.outcome import KILLED, cancel_run
    from airflow_provider_axtx.store.experiments import ExperimentStore

    store = ExperimentStore(url)
    recorded = store.run(run["experiment"], run["trial_index"], run["attempt"])
    reason = f"{KILLED}: cleared, failed or marked as success while it was deferred"
    cancel_run(store, TorchXEngine(recorded.scheduler), recorded, reason)
