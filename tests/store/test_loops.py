"""The loop that a task runs over an experiment, as it is recorded."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_axtx.core.records import LoopRecord
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import experiment

TASK = "dag-run/" + "a-very-long-task-id" * 20 + "/-1"


def test_the_first_start_stays_and_the_first_reason_too(store: ExperimentStore) -> None:
    before = time.time()
    assert store.loop("later", TASK) is None
    first = store.start_loop("later", TASK, max_tries=2)  # its experiment need not be there
    assert before <= first.started_at <= time.time()
    assert store.start_loop("later", TASK, max_tries=2) == first == store.loop("later", TASK)
    store.create("later", {})
    assert store.stop_loop("later", TASK, "the time was up") == "the time was up"
    assert store.stop_loop("later", TASK, "too many failures") == "the time was up"
    assert store.start_loop("later", TASK, max_tries=2) == LoopRecord(first.started_at, "the time was up", "later", 2)
    assert store.summary("later").stop_reason == "the time was up"


# Airflow sets `max_tries` to the tries so far and `retries`, which the DAG file may have lowered before the Clear.
@pytest.mark.parametrize("cleared", [3, 1])
def test_a_clear_takes_the_reason_back_but_not_the_start(store: ExperimentStore, cleared: int) -> None:
    name = experiment(store)
    first = store.start_loop(name, TASK, max_tries=2)
    store.stop_loop(name, TASK, "enough")
    assert store.start_loop(name, TASK, max_tries=cleared) == LoopRecord(first.started_at, None, name, cleared)
    assert store.summary(name).stop_reason is None
    assert store.stop_loop(name, TASK, "now really") == "now really"


def test_another_task_has_a_loop_of_its_own(store: ExperimentStore) -> None:
    name = experiment(store)
    store.start_loop(name, TASK, max_tries=0)
    store.stop_loop(name, TASK, "enough")
    other = store.start_loop(name, f"{TASK}x", max_tries=0)
    assert other.stop_reason is None
    assert store.summary(name).stop_reason is None  # the experiment goes on
    mine = store.loop(name, TASK)
    assert mine is not None
    assert mine.stop_reason == "enough"


def test_the_loop_of_a_task_is_the_one_that_it_started_last(store: ExperimentStore) -> None:
    assert store.loop_of_task(TASK) is None
    for name in ("b", "c", "a"):
        started = store.start_loop(name, TASK, max_tries=0, definition={"name": name})
        store.start_loop(name, f"{TASK}x", max_tries=0)
        assert store.loop_of_task(TASK) == started
    store.start_loop("b", TASK, max_tries=0)  # a retry, which is no first start
    assert store.loop_of_task(TASK) == started


def test_a_task_that_runs_twice_has_one_loop(store: ExperimentStore) -> None:
    name = experiment(store)
    with ThreadPoolExecutor(8) as pool:
        facts = set(pool.map(lambda _: store.start_loop(name, TASK, max_tries=0), range(8)))
    assert len(facts) == 1
