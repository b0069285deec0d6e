"""The trigger that waits for one trial's app in the triggerer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.triggers.following import Following
from airflow_provider_axtx.triggers.poller import Observe, poller_for
from airflow_provider_axtx.triggers.progress import Reporting, progress

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

log = logging.getLogger(__name__)


class TorchXTrialTrigger(BaseTrigger):
    """Fires once: when the app has ended (``observed``), its time is up (``timeout``), or nobody can say (``error``).

    For an experiment with early stopping also when the app has reported another step (``progress``).

    All arguments are plain JSON values: they are stored in Airflow's database and survive a restart of the triggerer.

    :param run: the submitted trial as JSON.
    :param scheduler: TorchX scheduler on which it runs.
    :param submitted_at: seconds since the epoch.
    :param deadline: seconds since the epoch; absolute, so that a restart of the triggerer does not reset it.
    :param poll_interval: seconds between two observations of the scheduler.
    :param grace_seconds: how long after submission an unknown app may still turn up.
    :param grace_polls: consecutive observations without the app before it is lost.
    :param early_stopping_interval: seconds between two looks for progressive results; None looks for none.
    :param steps_seen: how many steps the task has seen.
    :param stream_logs: write the app's output to the task's log. A triggerer that is restarted begins again where the
        task began to wait.
    :param log_given: how much of the output the task's log has already, as in ``LogFollower``.
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
        early_stopping_interval: float | None = None,
        steps_seen: int = 0,
        stream_logs: bool = False,
        log_given: dict[str, int] | None = None,
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
            "early_stopping_interval": early_stopping_interval,
            "steps_seen": steps_seen,
        }
        if stream_logs:  # else left out: a triggerer that was not upgraded yet knows nothing of it
            self.arguments |= {"stream_logs": True, "log_given": log_given or {}}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the shared poller of the scheduler to see the end of the app."""
        waiting = self._wait_and_follow() if "stream_logs" in self.arguments else self._wait()
        event = {"run": self.arguments["run"], **await waiting}
        crash_point("trigger.before_event")
        yield TriggerEvent(event)

    async def _wait_and_follow(self) -> dict[str, Any]:
        a = self.arguments
        following = Following(a["scheduler"], a["run"]["app_handle"], a["log_given"])
        showing = asyncio.create_task(following.show(log, a["poll_interval"]))
        try:
            event = await self._wait()
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
        return {**event, "log_given": following.given}

    async def _wait(self) -> dict[str, Any]:
        a = self.arguments
        waits = [asyncio.create_task(self._ended())]
        if a["early_stopping_interval"] is not None:
            waits.append(asyncio.create_task(self._progressed()))
        try:
            async with asyncio.timeout(max(0.0, a["deadline"] - time.time())):
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            # The end of the app counts more than its progress.
            return next(wait for wait in waits if wait.done()).result()
        except TimeoutError:
            return {"status": "timeout"}
        except SchedulerUnavailableError as error:
            return {"status": "error", "message": str(error)}
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _ended(self) -> dict[str, Any]:
        a = self.arguments
        observed = await poller_for(a["scheduler"], a["poll_interval"], make_observe).watch(
            a["run"]["app_handle"],
            submitted_at=a["submitted_at"],
            policy=LostAppPolicy(a["grace_seconds"], a["grace_polls"]),
        )
        return {"status": "observed", **observed.to_json()}

    async def _progressed(self) -> dict[str, Any]:
        a = self.arguments
        app = Reporting(a["run"]["tracker_base"], a["run"]["trial_index"], a["steps_seen"])
        await progress([app], a["early_stopping_interval"])
        return {"status": "progress"}

    async def on_kill(self) -> None:
        """Cancel the app: a user cleared, failed or marked as success the deferred task.

        Never in ``cleanup()``, which also runs when a triggerer restarts.
        """
        url = await AxHook(self.arguments["ax_conn_id"]).aget_url()
        await asyncio.to_thread(_cancel, url, self.arguments["run"])


def make_observe(scheduler: str) -> Observe:
    """Return what observes the apps of a scheduler for its poller."""
    launcher: TorchXLauncher | None = None

    def observe(handles: Sequence[str]) -> Mapping[str, AppObservation]:
        # Made in the poller's thread: importing TorchX takes longer than the 0.2 s that Airflow allows the event loop.
        nonlocal launcher
        if launcher is None:
            from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

            launcher = TorchXLauncher(scheduler)
        return launcher.observe(handles)

    return observe


def _cancel(url: str, run: Mapping[str, Any]) -> None:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.lifecycle.attempts import KILLED, end_attempt
    from airflow_provider_axtx.store.experiments import ExperimentStore

    store = ExperimentStore(url)
    recorded = store.attempt(run["experiment"], run["trial_index"], run["attempt"])
    reason = f"{KILLED}: cleared, failed or marked as success while it was deferred"
    launcher = TorchXLauncher.for_attempt(recorded.scheduler, recorded.lookup_options)
    end_attempt(store, launcher, recorded, reason, seconds=20)
