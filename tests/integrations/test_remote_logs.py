"""Task logs on an object store: what tasks, triggerer and apps wrote is read there when the worker has no files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from realairflow import AirflowEnv, poll

from tests.engines.postgres import PostgresServer, postgres_server
from tests.engines.s3 import S3

__all__ = ["postgres_server"]

pytestmark = pytest.mark.integrations

ROOT = Path(__file__).parents[2]
#: The apps wait until a file is there, so that their tasks have been deferred before they end.
TRAIN = r"""
from torchx import specs

SCRIPT = (
    'echo "the app of trial $1 trains"; while [ ! -e "$4" ]; do sleep 0.1; done; echo "the app of trial $1 is done"; '
    'mkdir -p "$2"; printf \'{"loss": %s}\' "$3" > "$2/$1"'
)


def train(x: float, trial_idx: int, tracker_base: str, go: str) -> specs.AppDef:
    args = ["-c", SCRIPT, "sh", str(trial_idx), tracker_base, str(x), go]
    resource = specs.Resource(cpu=1, gpu=0, memMB=100)
    return specs.AppDef("train", roles=[specs.Role("train", "", entrypoint="sh", args=args, resource=resource)])
"""
DAG = """
from airflow.sdk import dag
from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

X = {"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}


@dag(schedule=None, params={"go": ""})
def logged():
    app = {"component": "COMPONENT", "component_args": {"go": "{{ params.go }}"}}
    of_loop = {"name": "of-loop", "parameters": [X], "objective": "-loss", "generation": {"method": "random_search"}}
    ax_trial_loop("tune", of_loop, trials_per_round=1, deferrable=True, stream_logs=True, poke_interval=1, **app)
    AxOptimizeOperator(
        task_id="optimize",
        experiment={**of_loop, "name": "of-optimize"},
        max_trials=1,
        poll_interval=1,
        deferrable=True,
        **app,
    )


logged()
"""


def uploads(s3: S3, prefix: str = "") -> list[str]:
    """Return the path of each object that was written, as often as it was."""
    return [path for method, path in list(s3.requests) if method == "PUT" and path.startswith(prefix)]


def test_the_logs_of_workers_triggerer_and_apps_are_read_from_the_object_store(
    tmp_path: Path, s3: S3, postgres_server: PostgresServer
) -> None:
    dags, home, go = tmp_path / "dags", tmp_path / "home", tmp_path / "go"
    dags.mkdir()
    (tmp_path / "train.py").write_text(TRAIN)
    (dags / "logged.py").write_text(DAG.replace("COMPONENT", f"{tmp_path}/train.py:train"))
    options = {
        "logging.remote_logging": "True",
        "logging.remote_base_log_folder": "s3://axtx/logs",
        "logging.remote_log_conn_id": "aws_logs",
    }
    environ = {**s3.environment(), "AIRFLOW_CONN_AWS_LOGS": '{"conn_type": "aws"}', "PYTHONPATH": str(ROOT)}
    metadata_url = postgres_server.url(postgres_server.new_database())
    with AirflowEnv(home, dags, metadata_url=metadata_url, options=options, environ=environ) as env:
        env.api.trigger("logged", {"go": str(go)}, run_id="first", timeout=180)
        for task_id, map_index in (("optimize", -1), ("tune.round_0.run", 0)):
            states = "deferred", "failed", "upstream_failed"
            waiting = env.api.wait_for_task("logged", "first", task_id, states, 300, map_index)
            assert waiting["state"] == "deferred", env.api.failures("logged", "first")
        go.touch()
        env.api.wait_for_run("logged", "first", 300)
        # They upload a log after they have told the task's state: a worker when the task is deferred and when it has
        # ended, the triggerer once in between.
        for task in ("task_id=optimize", "task_id=tune.round_0.run/map_index=0"):
            of_task = f"axtx/logs/dag_id=logged/run_id=first/{task}/"
            poll(lambda of_task=of_task: len(uploads(s3, of_task)) >= 3 or None, 120, f"three uploads to {of_task}")

        shutil.rmtree(env.paths.logs / "dag_id=logged")

        stored = set(uploads(s3))
        run = env.api.task_log("logged", "first", "tune.round_0.run", 0)
        for line in ("Submitted trial 0", "the app of trial 0 trains", "the app of trial 0 is done", "COMPLETED"):
            assert line in run, (run, sorted(stored))
        optimize = env.api.task_log("logged", "first", "optimize")
        for line in ("Submitted trial 0", "Trial 0 COMPLETED"):
            assert line in optimize, (optimize, sorted(stored))
    assert all(path.startswith("axtx/logs/dag_id=logged/run_id=first/") for path in stored), stored
