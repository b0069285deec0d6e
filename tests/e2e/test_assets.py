"""What a real Airflow passes on of trials: asset events, notifications, metrics, lineage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from realairflow import poll

from tests.e2e.world import LONG, NewDatabase, World, fault_world
from tests.fakes.statsd import StatsdServer

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parent / "dags_assets"


@pytest.fixture(scope="module")
def statsd() -> Iterator[StatsdServer]:
    with StatsdServer() as server:
        yield server


@pytest.fixture(scope="module")
def lineage_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lineage") / "events"


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, statsd: StatsdServer, lineage_file: Path
) -> Iterator[World]:
    transport = {"type": "file", "log_file_path": str(lineage_file), "append": True}
    options = {**statsd.options(), "openlineage.transport": json.dumps(transport)}
    with fault_world(
        tmp_path_factory.mktemp("assets"), new_database(), DAGS, options=options, warm_workers=False
    ) as world:
        yield world


@pytest.fixture(scope="module")
def run_id(world: World) -> str:
    """The DAG run that made three trials, the second of which failed."""
    api = world.env.api
    for follower in ("follows_trials", "follows_best"):
        api.wait_for_dag(follower, LONG)
        api.pause(follower, False)
    run_id: str = api.trigger("produces", timeout=LONG)
    api.wait_for_run("produces", run_id, LONG)
    statuses = [trial.status for trial in world.store.trials("watched")]
    assert statuses == ["COMPLETED", "FAILED", "COMPLETED"]
    return run_id


def received(world: World, follower: str, count: int) -> list[dict[str, Any]]:
    """Wait for DAG runs that an asset has started; return the ``extra`` of all events that they got."""
    api = world.env.api

    def look() -> list[dict[str, Any]] | None:
        runs = api.request("GET", f"/dags/{follower}/dagRuns")["dag_runs"]
        assert all(run["run_type"] == "asset_triggered" for run in runs)
        ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
        extras = [extra for run in ended for extra in api.xcom(follower, run, "seen")]
        return extras if len(extras) >= count else None

    return poll(look, LONG, f"{count} events of {follower}")


def test_a_dag_that_is_scheduled_on_the_experiment_gets_each_completed_trial(world: World, run_id: str) -> None:
    extras = received(world, "follows_trials", 2)
    trials = world.store.trials("watched")
    expected = [
        {
            "experiment": "watched",
            "trial_index": index,
            "arm_name": f"{index}_0",
            "parameters": trials[index].parameters,
            "metrics": {"loss": 10.0 - index},
            "value": 10.0 - index,
        }
        for index in (0, 2)
    ]
    assert sorted(extras, key=lambda extra: extra["trial_index"]) == expected
    assert received(world, "follows_best", 1) == [expected[1]]


def test_the_callback_hears_of_new_best_trials_only(world: World, run_id: str) -> None:
    lines = (world.env.paths.home / "new_best").read_text().splitlines()
    assert lines == [f"trial 0 of {run_id}", f"trial 2 of {run_id}"]


def test_metrics_come_from_task_processes_and_from_the_triggerer(statsd: StatsdServer, run_id: str) -> None:
    assert statsd.await_values("airflow.axtx.trials.completed", 2) == ["1|c", "1|c"]
    assert statsd.await_values("airflow.axtx.trials.failed") == ["1|c"]
    assert len(statsd.await_values("airflow.axtx.generation.duration")) == 1
    assert statsd.await_values("airflow.axtx.observation.duration.local_detached")
    assert {"1|g", "2|g", "3|g"} & set(statsd.await_values("airflow.axtx.apps_in_flight.local_detached", 2))


def test_the_lineage_backend_hears_of_experiment_and_trials(world: World, lineage_file: Path, run_id: str) -> None:
    events = [json.loads(line) for line in lineage_file.read_text().splitlines()]
    ended = {
        task_id: [e for e in events if e["eventType"] == "COMPLETE" and e["job"]["name"] == f"produces.{task_id}"]
        for task_id in ("generate", "complete")
    }
    (generated,) = ended["generate"]
    assert [dataset["name"] for dataset in generated["inputs"]] == ["watched"]
    assert [trial["trial_index"] for trial in generated["run"]["facets"]["axtx_trials"]["trials"]] == [0, 1, 2]
    told = {}
    for event in ended["complete"]:
        assert {(dataset["namespace"], dataset["name"]) for dataset in event["outputs"]} == {
            ("ax://ax_default", "watched")
        }
        (trial,) = event["run"]["facets"]["axtx_trials"]["trials"]
        told[trial["trial_index"]] = (trial["trial_status"], trial["metrics"])
    assert told == {
        0: ("COMPLETED", {"loss": {"mean": 10.0}}),
        1: ("FAILED", {}),
        2: ("COMPLETED", {"loss": {"mean": 8.0}}),
    }
