"""DAG runs that share an experiment wait for each other instead of failing; what cannot be done is said beforehand."""

from __future__ import annotations

import pytest
from realairflow import poll

from tests.e2e.world import LONG, Scenario, World

pytestmark = [pytest.mark.airflow, pytest.mark.cases]


def both(cases: World, dag_id: str, experiment: str) -> tuple[Scenario, Scenario]:
    """Start two DAG runs, the second while the first has all its apps running."""
    first = cases.scenario(dag_id, experiment=experiment)
    first.await_starts(2)
    return first, cases.scenario(dag_id, experiment=experiment)


def test_a_loop_waits_for_the_trials_of_another_run(cases: World) -> None:
    first, second = both(cases, "young_loop", "young-loop")
    second.await_task("tune.generate_0", "running", "up_for_reschedule", "deferred", map_index=-1)
    first.let_go()
    for run in (first, second):
        run.await_end()
    assert second.statuses() == dict.fromkeys(range(4), "COMPLETED")
    assert second.starts() == dict.fromkeys(range(4), 1)
    assert second.tries("tune.generate_0") == [1]


def test_an_optimize_task_waits_for_the_trials_of_another_run(cases: World) -> None:
    first, second = both(cases, "young_optimize", "young-optimize")
    second.await_task("optimize", "running", "up_for_reschedule", "deferred", map_index=-1)
    first.let_go()
    for run in (first, second):
        run.await_end()
    assert second.statuses() == dict.fromkeys(range(4), "COMPLETED")
    assert second.starts() == dict.fromkeys(range(4), 1)


def await_days(cases: World, dag_id: str, count: int) -> None:
    """Wait until so many DAG runs have ended, and assert that all of them succeeded."""
    api = cases.env.api

    def look() -> list[str] | None:
        runs = api.request("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]
        states = [run["state"] for run in runs]
        return states if len(states) == count and set(states) <= {"success", "failed"} else None

    assert poll(look, LONG * 2, f"{count} ended DAG runs of {dag_id}") == ["success"] * count


def assert_all_completed(cases: World, experiment: str, trials: int) -> None:
    assert [trial.status for trial in cases.store.trials(experiment)] == ["COMPLETED"] * trials
    assert [attempt.number for attempt in cases.store.attempts(experiment)] == [1] * trials
    assert cases.store.open_attempts(experiment=experiment) == []


def let_days_go(cases: World) -> None:
    """Let the apps of all DAG runs end that Airflow has made by itself."""
    (cases.shared / "days").mkdir(exist_ok=True)
    (cases.shared / "days" / "go").touch()


def test_all_days_of_a_backfill_succeed(cases: World) -> None:
    api = cases.env.api
    api.wait_for_dag("young_backfill", LONG)
    api.pause("young_backfill", False)
    days = {"from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-03T00:00:00Z", "max_active_runs": 3}
    api.request("POST", "/backfills", json={"dag_id": "young_backfill", "run_backwards": False, **days})
    let_days_go(cases)
    # And yesterday, which was due when the DAG was unpaused.
    await_days(cases, "young_backfill", 4)
    assert_all_completed(cases, "young-backfill", 8)


def test_all_days_of_a_catch_up_succeed(cases: World) -> None:
    let_days_go(cases)
    cases.env.api.wait_for_dag("young_catchup", LONG)
    cases.env.api.pause("young_catchup", False)
    await_days(cases, "young_catchup", 3)
    assert_all_completed(cases, "young-catchup", 6)


@pytest.mark.parametrize(("dag_id", "said"), [("too_many_rounds", "max_rounds"), ("too_many_trials", "max_map_length")])
def test_more_than_the_dag_can_run_is_an_error_before_anything_is_recorded(
    cases: World, dag_id: str, said: str
) -> None:
    run = cases.scenario(dag_id)
    run.let_go()
    run.await_end("failed")
    failed = [task_id for task_id, state in run.states().items() if state == "failed"]
    assert any(said in run.log(task_id, -1) for task_id in failed)
    assert [trial for name in cases.experiments(run.experiment) for trial in cases.store.trials(name)] == []
    assert run.started() == []
