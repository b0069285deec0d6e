"""Waiting tasks are woken by what users want: one statement of a store serves all triggers of a process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.core.steering import Action, Asked, NewChange
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers.optimize import AxOptimizeTrigger, lookups_of
from airflow_provider_axtx.triggers.steering import SteeringWatcher, watcher_for
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.fakes.scheduler import FakeCluster
from tests.triggers.conftest import old_arguments, submitted
from tests.triggers.test_poller import until


def want(store: ExperimentStore, action: Action, trial: int | None = None, **given: Any) -> int:
    number = len(store.changes("e"))
    return store.steer("e", NewChange(action, str(number), "vera", "cli", trial_index=trial, arguments=given)).position


async def first(trigger: TorchXTrialTrigger | AxOptimizeTrigger) -> dict[str, Any]:
    async with asyncio.timeout(20):
        (event,) = [event.payload async for event in trigger.run()]
    payload: dict[str, Any] = event
    return payload


def optimize(attempts: list[AttemptRecord], **given: Any) -> AxOptimizeTrigger:
    return AxOptimizeTrigger(
        experiment="e",
        submitted={str(attempt.app_handle): time.time() for attempt in attempts},
        lookups=lookups_of(attempts),
        poll_interval=0.02,
        **{"steering_seen": -1, **given},
    )


async def test_a_paused_loop_without_apps_waits_until_it_is_resumed(store: ExperimentStore) -> None:
    seen = want(store, Action.PAUSE)
    waiting = asyncio.create_task(first(optimize([], steering_seen=seen)))
    want(store, Action.NOTE, text="wakes no task")
    await until(lambda: watcher_for("ax_default")._look is not None)
    assert not waiting.done()
    want(store, Action.RUN)
    assert await waiting == {"status": "due"}


async def test_whatever_is_wanted_of_an_experiment_wakes_its_loop(cluster: FakeCluster, store: ExperimentStore) -> None:
    trigger = optimize([submitted(store)])
    want(store, Action.STOP_TRIAL, 0)
    assert await first(trigger) == {"status": "due"}
    assert trigger.serialize()[1]["steering_seen"] == -1


async def test_a_task_that_waits_for_one_trial_is_woken_by_its_stop_alone(
    cluster: FakeCluster, store: ExperimentStore
) -> None:
    attempts = [submitted(store, index) for index in range(3)]
    triggers = [TorchXTrialTrigger(**old_arguments(attempt, steering_seen=-1)) for attempt in attempts]
    waiting = [asyncio.create_task(first(trigger)) for trigger in triggers]
    want(store, Action.PAUSE)
    seen = want(store, Action.STOP_TRIAL, 1)
    assert (await waiting[1])["status"] == "progress"
    again = asyncio.create_task(first(TorchXTrialTrigger(**old_arguments(attempts[1], steering_seen=seen))))
    await asyncio.sleep(0.1)
    assert [task.done() for task in (waiting[0], again, waiting[2])] == [False] * 3
    want(store, Action.STOP)
    assert {event["status"] for event in await asyncio.gather(waiting[0], again, waiting[2])} == {"progress"}


class Store:
    """What a store answers, and how often it was asked for how many experiments."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.looks: list[int] = []
        self.failing = 0

    def open(self, url: str) -> Callable[[Collection[str]], list[Asked]]:
        return self.look

    def look(self, names: Collection[str]) -> list[Asked]:
        self.looks.append(len(names))
        if self.failing:
            self.failing -= 1
            raise OSError("the database is away")
        return self.asked


async def test_one_look_serves_all_who_wait_and_a_store_that_is_away_is_asked_again() -> None:
    store = Store()
    gone: list[SteeringWatcher] = []
    watcher = SteeringWatcher("ax_default", store.open, gone.append)
    names = [f"e{number}" for number in range(1000)]
    waiting = [asyncio.create_task(watcher.watch(name, -1, 0.01)) for name in names]
    await until(lambda: len(store.looks) >= 3)
    assert store.looks[:3] == [1000] * 3
    store.failing = 2
    await until(lambda: not store.failing)
    store.asked = [Asked(name, "run", None, 0) for name in names]
    assert {asked.action for asked in await asyncio.gather(*waiting)} == {"run"}
    await until(lambda: gone == [watcher])


async def test_the_waiting_tasks_of_a_store_cost_one_select_a_look(store: ExperimentStore) -> None:
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "axtx_changes" in statement:
            statements.append(statement)

    sa.event.listen(store._db._engine, "before_cursor_execute", note)
    looks: list[int] = []

    def reader(url: str) -> Callable[[Collection[str]], Any]:
        def look(names: Collection[str]) -> Any:
            looks.append(len(statements))
            return ExperimentStore(url, create=False).last_asked(names)

        return look

    watcher = SteeringWatcher(AxHook.default_conn_name, reader)
    waiting = [asyncio.create_task(watcher.watch(f"e{number}", -1, 0.01)) for number in range(200)]
    await until(lambda: len(looks) >= 4)
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert looks[:4] == [0, 1, 2, 3]
