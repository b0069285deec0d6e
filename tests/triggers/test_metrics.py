"""What a poller sends to a real StatsD server through the triggerer's stats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from airflow.observability import stats
from airflow.observability.metrics.stats_utils import get_stats_factory

from airflow_provider_axtx.core.app_observation import LostAppPolicy
from airflow_provider_axtx.triggers.poller import poller_for
from tests.fakes.statsd import StatsdServer, set_up
from tests.triggers.test_poller import Apps, seen


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """A server to which this process sends, set up as in a triggerer."""
    with StatsdServer() as server:
        for name, value in server.options().items():
            monkeypatch.setenv(f"AIRFLOW__{name.replace('.', '__').upper()}", value)
        set_up(stats, get_stats_factory)
        yield server
        monkeypatch.undo()
        set_up(stats, get_stats_factory)


async def test_apps_in_flight_and_the_time_of_each_observation(statsd: StatsdServer) -> None:
    apps, others = Apps(), Apps()
    apps.states = {"a": "RUNNING", "b": "RUNNING"}
    others.states = {"c": "RUNNING"}
    waiting = [
        asyncio.create_task(
            poller_for("fake", None, 0.01, lambda *_: apps.observe).watch(
                h, submitted_at=time.time(), policy=LostAppPolicy()
            )
        )
        for h in apps.states
    ]
    other = poller_for("fake", None, 0.02, lambda *_: others.observe)
    waiting.append(asyncio.create_task(other.watch("c", submitted_at=time.time(), policy=LostAppPolicy())))
    await seen(apps, 3)
    await seen(others, 3)
    apps.states, others.states = dict.fromkeys("ab", "SUCCEEDED"), {"c": "SUCCEEDED"}
    await asyncio.gather(*waiting)
    # Those who waited were told before the poller looked whether anybody is left.
    in_flight = await asyncio.to_thread(_until_zero, statsd)
    assert max(in_flight) == 3
    durations = await asyncio.to_thread(statsd.await_values, "airflow.axtx.observation.duration.fake", 6)
    assert all(float(one.removesuffix("|ms")) > 0 for one in durations)


def _until_zero(statsd: StatsdServer) -> list[float]:
    count = 1
    while True:
        values = [
            float(one.removesuffix("|g")) for one in statsd.await_values("airflow.axtx.apps_in_flight.fake", count)
        ]
        if values[-1] == 0:
            return values
        count = len(values) + 1
