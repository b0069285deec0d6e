"""A worker that is stopped for so long that Airflow takes its task for dead, and continues then."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import psutil
import pytest
from realairflow import poll

from tests.e2e.world import CASES, LONG, NewDatabase, World, fault_world

pytestmark = [pytest.mark.airflow, pytest.mark.cases]

#: Airflow waits for five minutes by default.
OPTIONS = {"scheduler.task_instance_heartbeat_timeout": "30"}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    """An Airflow that takes a task for dead after half a minute without a heartbeat."""
    with fault_world(tmp_path_factory.mktemp("impatient"), new_database(), CASES, options=OPTIONS) as world:
        yield world


def test_a_sensor_that_was_taken_for_dead_leaves_its_app_to_the_cleared_task(impatient: World) -> None:
    """It was its last try, so that nothing but the id of the task instance tells the two tries apart."""
    run = impatient.scenario("sensor_without_retries")
    run.await_starts(1)
    task = psutil.Process(run.await_task("wait", "running", map_index=-1)["pid"])
    supervisor = task.parent()
    assert supervisor is not None
    for process in (supervisor, task):
        process.send_signal(signal.SIGSTOP)
    run.await_end("failed")
    assert run.app_states() == ["RUNNING"]
    impatient.env.api.clear(run.dag_id, run.run_id, ["wait"], downstream=True)
    poll(lambda: run.tries("wait") == [2] or None, LONG, "the second try")
    run.await_task("wait", "running", map_index=-1)
    for process in (task, supervisor):
        process.send_signal(signal.SIGCONT)
    poll(lambda: None if psutil.pid_exists(task.pid) else True, LONG, "the end of the first try")
    assert run.app_states() == ["RUNNING"]
    run.let_go()
    run.await_end()
    run.assert_completed(1)
