from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from airflow_provider_axtx.core import patience
from airflow_provider_axtx.core.app_observation import AppObservation, LostAppPolicy
from airflow_provider_axtx.core.errors import AppElsewhereError, SchedulerUnavailableError
from airflow_provider_axtx.triggers import poller as poller_module
from airflow_provider_axtx.triggers.poller import Poller, poller_for


class Apps:
    """A scheduler's answers: what each app is, how often it was asked, and whether it answers at all."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.batches: list[int] = []
        self.failing = 0
        self.answered = threading.Event()

    def observe(self, handles: Sequence[str]) -> dict[str, AppObservation]:
        self.batches.append(len(handles))
        self.answered.set()
        if self.failing:
            self.failing -= 1
            raise SchedulerUnavailableError("slurmctld does not answer", fix="start it")
        return {handle: AppObservation(self.states[handle]) for handle in handles if handle in self.states}


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a thread or in the product's own tasks
            await asyncio.sleep(0.001)


async def seen(apps: Apps, times: int) -> None:
    """Wait until the scheduler was asked so often."""
    await until(lambda: len(apps.batches) >= times)


async def test_one_batch_serves_all_who_wait() -> None:
    apps = Apps()
    handles = [f"h{n}" for n in range(1000)]
    apps.states = dict.fromkeys(handles, "RUNNING")
    poller = Poller("fake", 0.01, apps.observe)
    waiting = [asyncio.create_task(poller.watch(h, submitted_at=time.time(), policy=LostAppPolicy())) for h in handles]
    await seen(apps, 3)
    apps.states = dict.fromkeys(handles, "SUCCEEDED")
    ended = await asyncio.gather(*waiting)
    assert {observed.app_state for observed in ended} == {"SUCCEEDED"}
    assert apps.batches[:3] == [1000] * 3


async def test_only_the_ended_app_is_reported() -> None:
    apps = Apps()
    apps.states = {"a": "RUNNING", "b": "FAILED"}
    poller = Poller("fake", 0.01, apps.observe)
    slow = asyncio.create_task(poller.watch("a", submitted_at=0, policy=LostAppPolicy()))
    assert (await poller.watch("b", submitted_at=0, policy=LostAppPolicy())).app_state == "FAILED"
    assert not slow.done()
    slow.cancel()


async def test_two_may_wait_for_the_same_app() -> None:
    apps = Apps()
    apps.states = {"a": "SUCCEEDED"}
    poller = Poller("fake", 0.01, apps.observe)
    both = await asyncio.gather(*(poller.watch("a", submitted_at=0, policy=LostAppPolicy()) for _ in range(2)))
    assert [observed.app_state for observed in both] == ["SUCCEEDED"] * 2


async def test_errors_of_the_scheduler_fail_no_trial() -> None:
    apps = Apps()
    apps.states = {"a": "SUCCEEDED"}
    apps.failing = 3
    observed = await Poller("fake", 0.001, apps.observe).watch("a", submitted_at=0, policy=LostAppPolicy())
    assert observed.app_state == "SUCCEEDED"
    assert len(apps.batches) == 4


async def test_after_too_many_errors_those_who_wait_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MAX_FAILURES", 3)
    apps = Apps()
    apps.failing = 100
    with pytest.raises(SchedulerUnavailableError, match="slurmctld"):
        await Poller("fake", 0.001, apps.observe).watch("a", submitted_at=0, policy=LostAppPolicy())
    assert len(apps.batches) == 3


async def test_a_bug_in_an_observer_leaves_nobody_waiting() -> None:
    def broken(handles: Sequence[str]) -> dict[str, AppObservation]:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        await Poller("fake", 0.001, broken).watch("a", submitted_at=0, policy=LostAppPolicy())


async def test_an_unknown_app_is_lost_only_after_its_grace() -> None:
    apps = Apps()
    poller = Poller("fake", 0.001, apps.observe)
    observed = await poller.watch("gone", submitted_at=time.time() - 100, policy=LostAppPolicy(seconds=60, polls=3))
    assert observed.app_state == "FAILED"
    assert observed.is_infrastructure_failure
    assert len(apps.batches) == 3


async def test_an_app_that_turns_up_within_its_grace_is_waited_for() -> None:
    apps = Apps()
    poller = Poller("fake", 0.001, apps.observe)
    waiting = asyncio.create_task(
        poller.watch("late", submitted_at=time.time(), policy=LostAppPolicy(seconds=60, polls=1))
    )
    await seen(apps, 5)
    apps.states["late"] = "SUCCEEDED"
    assert (await waiting).app_state == "SUCCEEDED"


async def test_a_scheduler_that_hangs_delays_only_its_own() -> None:
    release = threading.Event()

    def hanging(handles: Sequence[str]) -> dict[str, AppObservation]:
        release.wait(30)
        return {handle: AppObservation("SUCCEEDED") for handle in handles}

    apps = Apps()
    apps.states = {"a": "SUCCEEDED"}
    stuck = asyncio.create_task(Poller("slow", 0.001, hanging).watch("b", submitted_at=0, policy=LostAppPolicy()))
    try:
        assert (
            await Poller("quick", 0.001, apps.observe).watch("a", submitted_at=0, policy=LostAppPolicy())
        ).is_terminal
        assert not stuck.done()
    finally:
        release.set()
    assert (await stuck).app_state == "SUCCEEDED"


async def test_a_poller_rests_when_nobody_waits_and_starts_again() -> None:
    apps = Apps()
    apps.states = {"a": "SUCCEEDED", "b": "SUCCEEDED"}
    poller = Poller("fake", 0.001, apps.observe)
    await poller.watch("a", submitted_at=0, policy=LostAppPolicy())
    await until(lambda: not any(task.get_name() == "axtx-poller-fake" for task in asyncio.all_tasks()))
    assert len(apps.batches) == 1
    await poller.watch("b", submitted_at=0, policy=LostAppPolicy())
    assert len(apps.batches) == 2


async def test_a_poller_serves_one_scheduler_one_way_of_finding_apps_and_one_interval() -> None:
    made: list[tuple[str, object]] = []

    def make(scheduler: str, lookup_options: Mapping[str, Any] | None) -> poller_module.Observe:
        made.append((scheduler, lookup_options))
        return Apps().observe

    first = poller_for("fake", {"queue": "a", "host": "h"}, 1.0, make)
    assert poller_for("fake", {"host": "h", "queue": "a"}, 1.0, make) is first
    assert poller_for("other", {"queue": "a", "host": "h"}, 1.0, make) is not first
    assert poller_for("fake", {"queue": "a", "host": "h"}, 2.0, make) is not first
    assert poller_for("fake", {"queue": "b", "host": "h"}, 1.0, make) is not first
    assert poller_for("fake", None, 1.0, make) is not first
    assert [scheduler for scheduler, _ in made] == ["fake", "other", "fake", "fake", "fake"]


def threads_of(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"axtx-{name}_")]


async def test_a_poller_and_its_thread_go_away_when_no_trigger_waits() -> None:
    apps = Apps()
    apps.states = {"a": "SUCCEEDED"}
    poller = poller_for("brief", None, 0.001, lambda *_: apps.observe)
    await poller.watch("a", submitted_at=0, policy=LostAppPolicy())
    await until(lambda: not threads_of("brief"))
    assert poller_for("brief", None, 0.001, lambda *_: apps.observe) is not poller


class BrokenPolicy(LostAppPolicy):
    """What became of arguments that were never validated: comparing raises."""

    def evaluate(self, seen: AppObservation, **_: Any) -> AppObservation:
        raise TypeError("'<' not supported between instances of 'float' and 'datetime.timedelta'")


async def test_an_error_in_one_watch_ends_only_that_watch() -> None:
    apps = Apps()
    apps.states = {"a": "RUNNING", "b": "RUNNING", "c": "RUNNING"}
    poller = Poller("fake", 0.001, apps.observe)
    watch = poller.watch
    healthy = [asyncio.create_task(watch(h, submitted_at=0, policy=LostAppPolicy())) for h in ("a", "b")]
    broken = asyncio.create_task(watch("a", submitted_at=0, policy=BrokenPolicy()))
    healthy.append(asyncio.create_task(watch("c", submitted_at=0, policy=LostAppPolicy())))
    with pytest.raises(TypeError, match="timedelta"):
        await broken
    await seen(apps, len(apps.batches) + 2)
    assert not any(task.done() for task in healthy)
    apps.states = dict.fromkeys("abc", "SUCCEEDED")
    assert {observed.app_state for observed in await asyncio.gather(*healthy)} == {"SUCCEEDED"}


async def test_an_app_that_has_ended_is_seen_although_its_time_was_up_before_the_first_poll() -> None:
    apps = Apps()
    apps.states = {"a": "SUCCEEDED", "b": "RUNNING"}
    poller = Poller("fake", 0.001, apps.observe)
    late = {"submitted_at": 0.0, "policy": LostAppPolicy(), "until": time.time() - 90}
    ended, running = await asyncio.gather(poller.watch("a", **late), poller.watch("b", **late))
    assert (ended.app_state, running.app_state) == ("SUCCEEDED", "RUNNING")


async def test_a_deadline_is_honoured_when_the_scheduler_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "FIRST_POLL_SECONDS", 0.05)
    release = threading.Event()

    def hanging(handles: Sequence[str]) -> dict[str, AppObservation]:
        release.wait(30)
        return {}

    apps = Apps()
    apps.failing = 100
    late = {"submitted_at": 0.0, "policy": LostAppPolicy(), "until": time.time()}
    try:
        hung = await Poller("slow", 0.001, hanging).watch("a", **late)
    finally:
        release.set()
    failed = await Poller("fake", 100.0, apps.observe).watch("a", **late)
    assert (hung.is_terminal, failed.is_terminal, len(apps.batches)) == (False, False, 1)


async def test_an_app_of_another_host_is_told_at_once() -> None:
    asked: list[Sequence[str]] = []

    def elsewhere(handles: Sequence[str]) -> dict[str, AppObservation]:
        asked.append(handles)
        raise AppElsewhereError("The app runs on worker-7.", fix="poll it there")

    with pytest.raises(AppElsewhereError, match="worker-7"):
        await Poller("fake", 100.0, elsewhere).watch("a", submitted_at=0, policy=LostAppPolicy())
    assert len(asked) == 1
