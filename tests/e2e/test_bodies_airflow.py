"""Any Airflow task as the trial, in a real Airflow: several kinds of tasks, a failing one, a DAG run that is ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from realairflow import poll

from tests.e2e.world import LONG, NewDatabase, World, fault_world

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    dags = Path(__file__).parent / "dags_bodies"
    with fault_world(tmp_path_factory.mktemp("bodies"), new_database(), dags) as world:
        yield world


def test_tasks_of_several_kinds_are_trials_and_a_failed_one_is_data(world: World) -> None:
    world.env.api.trigger("bodies", {}, run_id="first", timeout=LONG)
    assert world.env.api.wait_for_run("bodies", "first", LONG, "success")["state"] == "success"
    trials = world.store.trials("first-mixed")
    told = [str(trial.reason) for trial in trials]
    assert [trial.status for trial in trials] == ["COMPLETED"] * 2, (told, world.env.api.failures("bodies", "first"))
    for trial in trials:
        found = {o.metric: o.mean for o in world.store.observations("first-mixed", trial.index)}
        assert found == {"loss": pytest.approx((2 * float(trial.parameters["x"])) ** 2)}
    (failed,) = world.store.trials("first-failing")
    log = "/dags/bodies/runs/first/tasks/failing.round_0.body.train/mapped/0"
    assert failed.status == "FAILED"
    assert "failing.round_0.body.train_0 failed: http" in str(failed.reason)
    assert str(failed.reason).endswith(log)
    assert world.store.open_attempts() == []


def test_a_dag_run_that_is_ended_leaves_no_trial_open(world: World) -> None:
    world.env.api.trigger("body_endless", {}, run_id="ended", timeout=LONG)
    for index in (0, 1):
        world.env.api.wait_for_task("body_endless", "ended", "tune.round_0.body.train", ("running",), LONG, index)
    assert [trial.status for trial in world.store.trials("ended-endless")] == ["RUNNING"] * 2
    world.env.api.set_run_state("body_endless", "ended", "failed")
    poll(lambda: world.store.open_attempts() == [] or None, LONG, "the reap")
    assert world.env.api.wait_for_run("body_endless", "ended", LONG, "failed")["state"] == "failed"
    assert [trial.status for trial in world.store.trials("ended-endless")] == ["ABANDONED"] * 2
