"""A real Airflow, a real Slurm cluster of three nodes, the experiment store in PostgreSQL."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from realairflow import poll
from torchx.runtime.tracking import FsspecResultTracker

from airflow_provider_axtx.core.app_observation import DEFAULT_GRACE_SECONDS
from airflow_provider_axtx.core.records import AttemptRecord
from tests.e2e.world import LONG, NewDatabase, World, fault_world
from tests.engines.slurm import SlurmCluster

pytestmark = [pytest.mark.airflow, pytest.mark.slurm]

DAGS = Path(__file__).parents[2] / "dags"
CPUS_OF_A_NODE = 4


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAG under test and those of the fault tests, in one folder."""
    folder = tmp_path_factory.mktemp("dags") / "dags"
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(DAGS / "apps", folder / "apps", ignore=without_caches)
    shutil.copy(DAGS / "tune_on_slurm.py", folder)
    shutil.copytree(Path(__file__).parent / "dags_faults", folder / "faults", ignore=without_caches)
    return folder


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, dags: Path, slurm_cluster: SlurmCluster
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("slurm")
    url = sa.make_url(new_database())
    store = {"conn_type": "postgres", "host": url.host, "port": url.port, "login": url.username}
    scheduler = {
        "scheduler": "slurm",
        "scheduler_args": {"job_dir": str(folder / "jobs"), "partition": "main"},
        "tracker_base": str(folder / "tracker"),
    }
    connections: dict[str, dict[str, Any]] = {
        "AIRFLOW_CONN_AX_DEFAULT": {**store, "password": url.password, "schema": url.database},
        "AIRFLOW_CONN_TORCHX_DEFAULT": {"conn_type": "torchx", "extra": scheduler},
    }
    environ = {name: json.dumps(connection) for name, connection in connections.items()}
    shown = url.render_as_string(hide_password=False)
    with fault_world(
        folder, new_database(), dags, environ={**environ, **slurm_cluster.environment}, store_url=shown
    ) as world:
        yield world
    world.store.close()


def records(cluster: SlurmCluster, runs: list[AttemptRecord]) -> dict[str, tuple[str, str, str]]:
    """Return node, state and CPUs of each run's job, from Slurm's accounting."""
    by_job = {str(run.app_handle).rpartition("/")[2]: run for run in runs}
    told = cluster.ask("sacct", "-X", "-P", "-n", "-j", ",".join(by_job), "-o", "JobID,NodeList,State,AllocCPUS")
    rows = (line.split("|") for line in told.splitlines())
    return {by_job[job].submission_key: (node, state, cpus) for job, node, state, cpus in rows}


def test_trials_of_tune_on_slurm_run_on_several_nodes(
    world: World, slurm_cluster: SlurmCluster, dags: Path, tmp_path: Path
) -> None:
    api = world.env.api
    run_id = api.trigger("tune_on_slurm", {"rounds": 2}, timeout=LONG)
    api.wait_for_run("tune_on_slurm", run_id, LONG * 2)
    name = f"digits-on-slurm-{run_id}"
    facts, runs = world.store.snapshot(name), world.store.attempts(name)
    assert [(trial.index, trial.status) for trial in facts.trials] == [(i, "COMPLETED") for i in range(8)]
    assert [(run.trial_index, run.number, run.scheduler) for run in runs] == [(i, 1, "slurm") for i in range(8)]
    jobs = records(slurm_cluster, runs)
    print(*(f"{key} {' '.join(job)}" for key, job in jobs.items()), sep="\n")
    assert {(state, cpus) for _, state, cpus in jobs.values()} == {("COMPLETED", "2")}
    assert len({node for node, _, _ in jobs.values()}) >= 2

    accuracy = {seen.trial_index: seen.mean for seen in facts.observations if seen.metric == "accuracy"}
    best = api.xcom("tune_on_slurm", run_id, "best")
    assert best["parameters"] == facts.trials[best["trial_index"]].parameters
    assert accuracy[best["trial_index"]] == max(accuracy.values()) > 0.9
    # The app on a node measures what it measures here.
    options = [f"--{name}={value}" for name, value in best["parameters"].items()]
    fixed = ["--folds=5", "--trial-idx=0", f"--tracker-base={tmp_path / 'here'}"]
    subprocess.run([sys.executable, str(dags / "apps" / "digits.py"), *options, *fixed], check=True)
    assert FsspecResultTracker(str(tmp_path / "here"))[0]["accuracy/mean"] == accuracy[best["trial_index"]]


def test_a_killed_node_costs_one_resubmission_and_slurmdbd_away_nothing(
    world: World, slurm_cluster: SlurmCluster
) -> None:
    scenario = world.scenario("resubmitting_loop", trials=CPUS_OF_A_NODE + 1)
    scenario.await_starts(CPUS_OF_A_NODE + 1)
    nodes = {run.trial_index: squeue(slurm_cluster, run, "%N") for run in scenario.runs()}
    (alone,) = [trial for trial, node in nodes.items() if list(nodes.values()).count(node) == 1]
    back = time.monotonic() + DEFAULT_GRACE_SECONDS
    with slurm_cluster.without("slurmdbd"):
        slurm_cluster.kill(f"slurmd-{nodes[alone]}", hard=True)

        def submitted_again() -> bool | None:
            return any(run.number == 2 and run.app_handle for run in scenario.runs()) or None

        poll(submitted_again, LONG, lambda: f"a second attempt; {scenario.states()}")
        # Longer than the time after which an app that nobody knows is lost.
        while time.monotonic() < back:
            assert set(scenario.statuses().values()) == {"RUNNING"}
            time.sleep(1)
    scenario.let_go()
    scenario.await_end()
    assert set(scenario.statuses().values()) == {"COMPLETED"}
    ended = {(run.trial_index, run.number): (run.app_state, run.is_infrastructure_failure) for run in scenario.runs()}
    first = {(trial, 1): ("SUCCEEDED", False) for trial in nodes}
    assert ended == {**first, (alone, 1): ("FAILED", True), (alone, 2): ("SUCCEEDED", False)}
    assert scenario.starts() == {**dict.fromkeys(nodes, 1), alone: 2}
    (lost,) = [run for run in scenario.runs() if run.is_infrastructure_failure]
    assert "NODE_FAIL" in str(lost.message)
    (second,) = [run for run in scenario.runs() if run.number == 2]
    assert records(slurm_cluster, [second])[second.submission_key][0] != nodes[alone]


def test_a_dag_run_marked_as_failed_abandons_its_trials(world: World, slurm_cluster: SlurmCluster) -> None:
    scenario = world.scenario("resubmitting_loop", trials=2)
    scenario.await_starts(2)
    scenario.fail()
    scenario.await_end(None)
    poll(lambda: set(scenario.statuses().values()) == {"ABANDONED"} or None, LONG, lambda: f"{scenario.statuses()}")
    poll(lambda: not scenario.living() or None, LONG, lambda: f"the end of {scenario.living()}")
    assert [(run.number, run.app_state) for run in scenario.runs()] == [(1, "CANCELLED")] * 2
    states = [state for _, state, _ in records(slurm_cluster, scenario.runs()).values()]
    assert [state.split()[0] for state in states] == ["CANCELLED"] * 2


def squeue(cluster: SlurmCluster, run: AttemptRecord, column: str) -> str:
    return cluster.ask("squeue", "-h", "-j", str(run.app_handle).rpartition("/")[2], "-o", column)
