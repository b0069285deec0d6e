"""DAGs with a person in the loop, and with a constrained frontier, through a real scheduler and triggerer."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from realairflow import poll

from tests.e2e.world import LONG, NewDatabase, World, fault_world
from tests.optimizer.frontier import observed_frontier

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("dags") / "dags"
    shutil.copytree(DAGS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with fault_world(tmp_path_factory.mktemp("problems"), new_database(), folder) as world:
        yield world


@pytest.fixture(scope="module")
def runs(world: World) -> dict[str, tuple[str, str]]:
    """Dag id and run id of each run; started at once, since they wait more than they work."""
    dags = {"frontier": "compress_frontier", "approve": "approve_before_spending", "reject": "approve_before_spending"}
    return {name: (dag_id, world.env.api.trigger(dag_id, run_id=name, timeout=LONG)) for name, dag_id in dags.items()}


def answer(world: World, run: tuple[str, str], option: str) -> None:
    """Answer as a person does who looks at the request, and wait for the DAG run's end."""
    api, (dag_id, run_id) = world.env.api, run
    api.wait_for_task(dag_id, run_id, "approve", ["awaiting_input"], LONG)
    # Airflow takes an answer that is there before the scheduler has seen the asking process end for a killed task, and
    # asks again.
    seen = re.compile(
        rf"TaskInstance Finished: dag_id={dag_id}, task_id=approve, run_id={run_id},.*state=awaiting_input"
    )
    scheduler = world.env.paths.home / "logs" / "scheduler.log"
    poll(lambda: seen.search(scheduler.read_text()), LONG, "the scheduler to see the end of the asking process")
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    asked: dict[str, Any] = api.request("GET", path)
    assert asked["options"] == ["Approve", "Reject"]
    for trial in world.store.trials(f"approved-{run_id}"):
        assert f"trial {trial.index}" in asked["body"]
    api.request("PATCH", path, json={"chosen_options": [option]})
    api.wait_for_run(dag_id, run_id, LONG * 2)


def test_approved_trials_are_run(world: World, runs: dict[str, tuple[str, str]]) -> None:
    answer(world, runs["approve"], "Approve")
    assert [t.status for t in world.store.trials("approved-approve")] == ["COMPLETED"] * 3
    assert len(world.store.attempts("approved-approve")) == 3
    best = world.env.api.xcom(*runs["approve"], "best")
    assert best["parameters"] == world.store.trial("approved-approve", best["trial_index"]).parameters


def test_rejected_trials_are_abandoned_and_nothing_is_submitted(world: World, runs: dict[str, tuple[str, str]]) -> None:
    answer(world, runs["reject"], "Reject")
    trials = world.store.trials("approved-reject")
    assert [t.status for t in trials] == ["ABANDONED"] * 3
    assert {t.reason for t in trials} == {"rejected, or left open by its DAG run"}
    assert world.store.attempts("approved-reject") == []
    assert world.env.api.task_states(*runs["reject"])["run"] == "skipped"


def test_a_constrained_frontier_with_a_baseline_and_attached_trials_is_axs_own(
    world: World, runs: dict[str, tuple[str, str]]
) -> None:
    world.env.api.wait_for_run(*runs["frontier"], LONG * 3)
    facts = world.store.snapshot("compress-frontier")
    assert [t.origin for t in facts.trials] == ["baseline", "attached", "attached"] + ["generated"] * 8
    assert {t.status for t in facts.trials} == {"COMPLETED"}
    frontier = world.env.api.xcom(*runs["frontier"], "frontier")
    assert [entry["trial_index"] for entry in frontier] == observed_frontier(facts)
    assert {card.name for card in world.store.analyses("compress-frontier")} >= {"Summary"}
