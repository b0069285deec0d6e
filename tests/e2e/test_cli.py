"""``airflow ax``: what it lists, and what ``reap`` ends, against a real Airflow with apps that no task waits for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from realairflow import AirflowEnvError, poll

from airflow_provider_axtx.hooks.installation import VARIABLE
from tests.e2e.world import DAGS, LONG, NewDatabase, Scenario, World, fault_world

pytestmark = pytest.mark.airflow


#: A DAG file that a test removes.
LEAVING = """
from airflow.sdk import dag
from faults import SETTINGS, loop

@dag(**SETTINGS)
def leaving():
    loop(deferrable=True)

leaving()
"""
# By default the removal of a DAG file is noticed after 5 minutes.
OPTIONS = {"dag_processor.refresh_interval": "5"}


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAGs of the fault tests, and one more in a file of its own."""
    folder = tmp_path_factory.mktemp("dags") / "dags"
    shutil.copytree(DAGS, folder)
    (folder / "leaving.py").write_text(LEAVING)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, dags: Path) -> Iterator[World]:
    with fault_world(
        tmp_path_factory.mktemp("cli"), new_database(), dags, options=OPTIONS, warm_workers=False
    ) as world:
        yield world


@pytest.fixture(scope="module")
def abandoned(world: World) -> Scenario:
    """A DAG run that ended although its apps run on."""
    scenario = world.scenario("never_waits", trials=2)
    scenario.await_starts(2)
    scenario.await_end()
    return scenario


@pytest.fixture(scope="module")
def unsubmitted(world: World) -> Scenario:
    """A DAG run that has generated a trial and never submitted it."""
    scenario = world.scenario("never_submits")
    scenario.await_end()
    return scenario


@pytest.fixture(scope="module")
def waiting(world: World) -> Scenario:
    """A DAG run that waits for its app."""
    scenario = world.scenario("deferred_loop")
    scenario.await_starts(1)
    scenario.await_task("tune.round_0.wait", "deferred")
    return scenario


@pytest.fixture(scope="module")
def all_three(abandoned: Scenario, unsubmitted: Scenario, waiting: Scenario) -> tuple[Scenario, Scenario, Scenario]:
    return abandoned, unsubmitted, waiting


Three = tuple[Scenario, Scenario, Scenario]


def test_experiments_are_listed_with_their_trials(world: World, all_three: Three) -> None:
    abandoned, unsubmitted, waiting = all_three
    rows = {row["experiment"]: row for row in world.airflow_json("ax", "experiments")}
    shown = {name: (row["trials"], row["RUNNING"], row["COMPLETED"]) for name, row in rows.items()}
    assert {name: tuple(map(int, counts)) for name, counts in shown.items()} == {
        abandoned.experiment: (2, 2, 0),
        unsubmitted.experiment: (1, 0, 0),
        waiting.experiment: (1, 1, 0),
    }


def test_trials_are_listed_with_parameters_and_app(world: World, all_three: Three) -> None:
    abandoned, unsubmitted, _ = all_three
    first, second = world.airflow_json("ax", "trials", abandoned.experiment)
    handles = [run.app_handle for run in abandoned.runs()]
    assert [(row["status"], row["app_handle"]) for row in (first, second)] == [("RUNNING", h) for h in handles]
    assert "x" in first["parameters"]
    (row,) = world.airflow_json("ax", "trials", unsubmitted.experiment)
    assert (row["status"], row["app_handle"]) == ("CANDIDATE", "")


def test_trials_of_an_unknown_experiment_are_an_error_that_names_it(world: World) -> None:
    with pytest.raises(AirflowEnvError, match="nothing-of-that-name"):
        world.env.airflow("ax", "trials", "nothing-of-that-name")


def test_reap_ends_what_no_active_dag_run_stands_behind(world: World, all_three: Three) -> None:
    abandoned, unsubmitted, waiting = all_three
    orphans = {(abandoned.experiment, "0"), (abandoned.experiment, "1"), (unsubmitted.experiment, "0")}

    listed = world.airflow_json("ax", "reap", "--dry-run")
    assert {(row["experiment"], str(row["trial"])) for row in listed} == orphans
    assert abandoned.app_states() == ["RUNNING", "RUNNING"]

    (only,) = world.airflow_json("ax", "reap", "--experiment", unsubmitted.experiment)
    assert (only["experiment"], only["trial_status"]) == (unsubmitted.experiment, "ABANDONED")
    assert abandoned.app_states() == ["RUNNING", "RUNNING"]

    reaped = world.airflow_json("ax", "reap")
    assert {(row["experiment"], str(row["trial_index"])) for row in reaped} == {o for o in orphans if o[1] in "01"} - {
        (unsubmitted.experiment, "0")
    }
    assert abandoned.app_states() == ["CANCELLED", "CANCELLED"]
    assert abandoned.living() == []
    assert abandoned.statuses() == {0: "ABANDONED", 1: "ABANDONED"}
    assert unsubmitted.statuses() == {0: "ABANDONED"}
    assert "no active DAG run" in (abandoned.trials()[0].reason or "")

    assert waiting.app_states() == ["RUNNING"]
    waiting.let_go()
    waiting.await_end()
    assert waiting.statuses() == {0: "COMPLETED"}
    assert world.airflow_json("ax", "reap") == []


def test_what_tasks_record_has_the_identity_of_the_deployment(world: World, abandoned: Scenario) -> None:
    installation = world.env.airflow("variables", "get", VARIABLE).strip()
    assert len(installation) == 36
    assert {attempt.identity.installation for attempt in abandoned.runs()} == {installation}


def test_tasks_warn_about_the_embedded_store_beside_postgresql(abandoned: Scenario) -> None:
    log = abandoned.log("create", map_index=-1)
    assert "The connection ax_default is not defined" in log
    assert "Airflow's own database is not SQLite" in log


def test_reap_ends_what_a_dag_has_left_behind_whose_file_was_removed(world: World, dags: Path) -> None:
    scenario = world.scenario("leaving")
    scenario.await_starts(1)
    scenario.await_task("tune.round_0.wait", "deferred")
    assert world.airflow_json("ax", "reap", "--dag-id", "leaving", "--dry-run") == []

    (dags / "leaving.py").unlink()
    # The DAG processor needs a minute or two to notice, until which the DAG run counts as active.
    listed = poll(
        lambda: world.airflow_json("ax", "reap", "--dag-id", "leaving", "--dry-run") or None,
        2 * LONG,
        lambda: "the DAG is gone",
    )
    assert [row["experiment"] for row in listed] == [scenario.experiment]
    (reaped,) = world.airflow_json("ax", "reap", "--dag-id", "leaving", "--run-id", scenario.run_id)
    assert reaped["trial_status"] == "ABANDONED"
    assert scenario.living() == []
