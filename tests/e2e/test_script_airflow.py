"""The DAGs of the README in a real Airflow: an ordinary script, a function and a ``BashOperator`` are tuned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import LONG, NewDatabase, World, fault_world

pytestmark = pytest.mark.airflow

#: In place of the README's 12, so that a slow machine is in time.
TRIALS = 4
README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("script")
    for title, code in re.findall(r"```python title=\"(dags/[^\"]+)\"\n(.*?)```", README, re.S):
        path = folder / title
        path.parent.mkdir(exist_ok=True)
        code = code.replace("rounds=3, trials_per_round=4", f"rounds=1, trials_per_round={TRIALS}")
        path.write_text(code.replace("max_trials=12", f"max_trials={TRIALS}"))
    with fault_world(folder, new_database(), folder / "dags") as world:
        yield world


def assert_tuned(world: World, dag_id: str, run_id: str, task_id: str, experiment: str) -> None:
    """Assert that each of the trials ran once, and that the best one is good."""
    trials = world.store.trials(experiment)
    assert [trial.status for trial in trials] == ["COMPLETED"] * TRIALS, world.env.api.failures(dag_id, run_id)
    means = [o.mean for o in world.store.snapshot(experiment).observations]
    assert max(means) > 0.5
    if task_id:
        result = world.env.api.xcom(dag_id, run_id, task_id)
        assert result["trials"] == {"COMPLETED": TRIALS}
        assert result["best"]["metrics"]["accuracy"]["mean"] == max(means)
    attempts = world.store.attempts(experiment)
    assert [attempt.number for attempt in attempts] == [1] * TRIALS
    assert all(attempt.app_state == "SUCCEEDED" for attempt in attempts)


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        pytest.param("tune_script", "optimize", marks=pytest.mark.main_job),
        ("tune_function", "train"),
        ("tune_task", ""),
    ],
)
def test_it_is_tuned(world: World, dag_id: str, task_id: str) -> None:
    # Killed processes are the subject of tests/lifecycle/test_doors_killed.py.
    run_id = f"first-{dag_id}"
    experiment = f"{dag_id}-{task_id}-{run_id}" if dag_id == "tune_function" else f"wine-{run_id}"
    world.env.api.trigger(dag_id, {}, run_id=run_id, timeout=LONG)
    assert world.env.api.wait_for_run(dag_id, run_id, LONG, "success")["state"] == "success"
    assert_tuned(world, dag_id, run_id, task_id, experiment)
