"""A task or a DAG run that is ended from outside leaves no app running and no trial open."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from realairflow import ApiError, poll

from tests.e2e.world import CASES, DAGS, LONG, NewDatabase, Scenario, World, fault_world

pytestmark = [pytest.mark.airflow, pytest.mark.cases]

#: A task that waits for two apps: its id, the state in which it waits, the instances of it.
WAITING = {
    "ended_loop": ("tune.round_0.run", "deferred", (0, 1)),
    "ended_deferred_optimize": ("optimize", "deferred", (-1,)),
    "ended_poking_optimize": ("optimize", "running", (-1,)),
}


def await_waiting(run: Scenario) -> Scenario:
    """Wait until both apps run and the task waits for them."""
    task_id, state, instances = WAITING[run.dag_id]
    run.await_starts(2)
    for index in instances:
        if state == "deferred":
            run.await_trigger(task_id, index)
        else:
            run.await_task(task_id, state, map_index=index)
    return run


def assert_ended(run: Scenario) -> None:
    """Wait until nothing of it is open, by itself, and assert that its trials are given up and nothing was doubled."""
    run.await_settled()
    # An optimize task may have proposed another one ahead.
    assert set(run.statuses().values()) == {"ABANDONED"}
    assert set(run.app_states()) == {"CANCELLED"}
    assert run.starts() == dict.fromkeys(range(2), 1)


def mark_run_failed(run: Scenario) -> None:
    run.fail()


def delete_run(run: Scenario) -> None:
    # Airflow does not delete a DAG run that is running, nor one whose teardown still runs.
    run.fail()
    run.await_end(None)
    run.world.env.api.delete_run(run.dag_id, run.run_id)


def mark_task(state: str) -> Callable[[Scenario], None]:
    def mark(run: Scenario) -> None:
        task_id, _, instances = WAITING[run.dag_id]
        for index in instances:
            run.world.env.api.set_task_state(run.dag_id, run.run_id, task_id, state, index)

    return mark


ENDS = {
    "run marked failed": mark_run_failed,
    "task marked success": mark_task("success"),
    "task marked failed": mark_task("failed"),
    "run marked failed and deleted": delete_run,
}


@pytest.fixture(scope="module", params=ENDS)
def ended(request: pytest.FixtureRequest, cases: World) -> dict[str, Scenario]:
    """A DAG run of each DAG, all made at once because starting takes longest, and ended in one way."""
    runs = {dag_id: cases.scenario(dag_id) for dag_id in WAITING}
    for run in runs.values():
        ENDS[request.param](await_waiting(run))
    return runs


@pytest.mark.parametrize("dag_id", WAITING)
def test_what_is_ended_from_outside_is_settled(ended: dict[str, Scenario], dag_id: str) -> None:
    assert_ended(ended[dag_id])


def test_a_dag_run_beyond_its_timeout_is_settled(cases: World) -> None:
    dag_ids = ("timed_run_with_loop", "timed_run_with_deferred_optimize", "timed_run_with_poking_optimize")
    runs = [cases.scenario(dag_id) for dag_id in dag_ids]
    for run in runs:
        run.await_starts(2)
    for run in runs:
        run.await_end("failed")
        assert_ended(run)


@pytest.mark.parametrize("dag_id", ["timed_deferred_loop", "timed_deferred_optimize", "timed_poking_optimize"])
def test_an_execution_timeout_ends_the_apps(cases: World, dag_id: str) -> None:
    run = cases.scenario(dag_id)
    run.await_starts(1)
    run.await_end(None)
    run.await_settled()
    assert set(run.statuses().values()) == {"ABANDONED"}
    assert set(run.app_states()) == {"CANCELLED"}


def test_a_dag_run_after_a_marked_one_does_not_wait_for_its_trials(cases: World) -> None:
    first = cases.scenario("resumed_optimize", experiment="resumed")
    first.await_starts(2)
    first.await_task("optimize", "deferred", map_index=-1)
    cases.env.api.set_task_state(first.dag_id, first.run_id, "optimize", "success", -1)
    second = cases.scenario("resumed_optimize", experiment="resumed")
    second.await_starts(4)
    assert list(first.statuses().values())[:2] == ["ABANDONED"] * 2
    second.let_go()
    second.await_end()
    statuses = list(second.statuses().values())
    assert statuses[:2] == ["ABANDONED"] * 2
    assert set(statuses[2:]) == {"COMPLETED"}


@pytest.fixture
def removable(tmp_path: Path, new_database: NewDatabase) -> Iterator[tuple[World, Path]]:
    """An Airflow of its own with a copy of the DAG files, and the file that is removed."""
    for folder in (CASES, DAGS):
        shutil.copytree(folder, tmp_path / "files" / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    dags = tmp_path / "files" / CASES.name
    with fault_world(tmp_path / "world", new_database(), dags) as world:
        yield world, dags / "ended.py"


def test_reap_finds_what_a_removed_dag_file_leaves(removable: tuple[World, Path]) -> None:
    world, file = removable
    run = await_waiting(world.scenario("ended_deferred_optimize"))
    # It looks for removed files at its start, else every five minutes.
    world.env.kill_tree("dag-processor")
    file.unlink()
    world.env.start("dag-processor")

    def is_gone() -> bool | None:
        try:
            found: dict[str, Any] = world.env.api.request("GET", f"/dags/{run.dag_id}")
        except ApiError as error:
            return True if error.status == 404 else None
        return found["is_stale"] or None

    poll(is_gone, LONG, "the DAG to be gone")
    reaped = world.airflow_json("ax", "reap", "--dag-id", run.dag_id, "--run-id", run.run_id)
    assert [(row["experiment"], row["trial_status"]) for row in reaped] == [(run.experiment, "ABANDONED")] * 2
    assert_ended(run)
