"""A tracker base in an object store, with the credentials of an Airflow connection, against a real S3 API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest

from airflow_provider_axtx.core.errors import InvalidInputError, TrackerUnavailableError
from airflow_provider_axtx.core.metric_sources import load_metrics
from airflow_provider_axtx.launcher import metric_files, object_store, tracker
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.engines.s3 import KNOWN_KEY, S3

pytestmark = pytest.mark.integrations

DAG = """
from airflow.sdk import dag
from airflow_provider_axtx.operators.ax import AxOptimizeOperator

X = {"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}


@dag(schedule=None)
def tune_on_s3():
    AxOptimizeOperator(
        task_id="tune",
        experiment={"name": "on-s3", "parameters": [X], "objective": "-loss"},
        max_trials=4,
        component="axtx.script",
        component_args={"script": "SCRIPT", "args": ["--trial_idx={trial_idx}", "--tracker_base={tracker_base}"]},
        parallelism=2,
        poll_interval=1,
        deferrable=False,
    )


tune_on_s3()
"""
#: What runs as an app: it has credentials of its own, and reports as TorchX's tracker does.
TRAIN = """
import argparse, json, os, fsspec
from torchx.runtime.tracking import FsspecResultTracker

parser = argparse.ArgumentParser()
for name in ("x", "trial_idx", "tracker_base"):
    parser.add_argument(f"--{name}")
given = parser.parse_args()
assert "@" not in given.tracker_base, given.tracker_base
with open(os.environ["STARTS"], "a") as starts:
    starts.write(given.trial_idx + chr(10))
FsspecResultTracker(given.tracker_base)[int(given.trial_idx)] = {"loss": float(given.x)}
"""


def connection(s3: S3, key: str = KNOWN_KEY) -> str:
    """Return an Airflow connection of type ``aws`` as an environment variable holds it."""
    # AWS's client itself would repeat a request four times with growing pauses.
    once = {"retries": {"total_max_attempts": 1}}
    extra = {"endpoint_url": s3.url, "region_name": "us-east-1", "config_kwargs": once}
    return json.dumps({"conn_type": "aws", "login": key, "password": "secret", "extra": extra})


@pytest.fixture
def base(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tracker base of the test's own, whose credentials are in the connection ``store``."""
    monkeypatch.setenv("AIRFLOW_CONN_STORE", connection(s3))
    monkeypatch.setattr(object_store, "_made", {})
    monkeypatch.setattr(object_store, "_checked", {})
    return f"s3://store@axtx/{uuid.uuid4().hex}/key"


def write(s3: S3, base: str, name: str, content: object) -> None:
    s3.put(f"{base.removeprefix('s3://store@')}/{name}", json.dumps(content).encode())


def test_results_steps_checkpoints_and_their_removal(s3: S3, base: str) -> None:
    assert tracker.read_results(base, 1) is None
    assert tracker.list_steps(base, 1) == set()
    write(s3, base, "1", {"loss": 0.5})
    for step in (1, 2, 10):
        write(s3, base, f"1.steps/{step}", {"loss": step / 10})
    write(s3, base, "12", {"loss": 7})
    assert tracker.read_results(base, 1) == {"loss": 0.5}
    assert tracker.read_progress(base, 1, known={2.0}) == {1.0: {"loss": 0.1}, 10.0: {"loss": 1.0}}
    s3.put(f"{base.removeprefix('s3://store@').removesuffix('/key')}/checkpoint-key/model", b"weights")
    assert tracker.has_checkpoint(base, "key")
    tracker.remove_results(base, 1)
    assert tracker.read_results(base, 1) is None
    assert tracker.list_steps(base, 1) == set()
    assert tracker.read_results(base, 12) == {"loss": 7}
    assert tracker.remove_tracker(base, "key")
    assert tracker.read_results(base, 12) is None
    assert tracker.remove_checkpoint(base, "key")
    assert not tracker.has_checkpoint(base, "key")


def test_metrics_are_read_from_files_there(s3: S3, base: str) -> None:
    (source,) = load_metrics({"loss": {"csv": "out/log.csv", "key": "loss"}}).values()
    s3.put(f"{base.removeprefix('s3://store@')}/out/log.csv", b"step,loss\n1,3\n2,2.5\n")
    assert metric_files.read_file(source, base, "out/log.csv").final() == 2.5


def test_a_busy_store_is_unavailable_and_not_empty(s3: S3, base: str) -> None:
    write(s3, base, "1", {"loss": 0.5})
    s3.busy(1)
    with pytest.raises(TrackerUnavailableError, match="Service Unavailable"):
        tracker.read_results(base, 1)
    assert tracker.read_results(base, 1) == {"loss": 0.5}
    write(s3, base, "1.steps/1", {"loss": 0.5})
    s3.busy(20)
    with pytest.raises(TrackerUnavailableError, match="reduce your request rate"):
        tracker.list_steps(base, 1)
    s3.reset()
    assert tracker.list_steps(base, 1) == {1.0}


def test_a_missing_bucket_is_not_a_missing_result(s3: S3, base: str) -> None:
    with pytest.raises(TrackerUnavailableError, match="no bucket 'gone'"):
        tracker.read_results("s3://store@gone/tracker/key", 1)
    with pytest.raises(InvalidInputError, match="no bucket 'gone'"):
        tracker.check_reachable("s3://store@gone/tracker")
    tracker.check_reachable(base)
    asked = len(s3.requests)
    tracker.check_reachable(base)
    assert len(s3.requests) == asked, "it is not asked again for each trial"


def test_a_wrong_key_and_a_missing_connection(s3: S3, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WRONG", connection(s3, key="wrong"))
    with pytest.raises(InvalidInputError, match="refuses the credentials"):
        tracker.check_reachable("s3://wrong@axtx/tracker")
    with pytest.raises(TrackerUnavailableError, match="PermissionError"):
        tracker.read_results("s3://wrong@axtx/tracker/key", 1)
    with pytest.raises(TrackerUnavailableError, match="connection 'nowhere'"):
        tracker.check_reachable("s3://nowhere@axtx/tracker")


def test_credentials_of_the_process_serve_a_url_without_a_connection(
    s3: S3, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    write(s3, base, "1", {"loss": 0.5})
    assert tracker.read_results(base.replace("store@", ""), 1) == {"loss": 0.5}


def play(folder: Path, home: Path, s3: S3, tracker_base: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the DAG in one process, its apps in others."""
    (home / "dags").mkdir()
    (folder / "train.py").write_text(TRAIN)
    (home / "dags" / "tune.py").write_text(DAG.replace("SCRIPT", str(folder / "train.py")))
    torchx = {"conn_type": "torchx", "extra": {"tracker_base": tracker_base}}
    environment = {
        **os.environ,
        "AIRFLOW_CONN_STORE": connection(s3),
        "AIRFLOW_CONN_TORCHX_DEFAULT": json.dumps(torchx),
        "STARTS": str(folder / "starts"),
        **variables,
    }
    for command in (["db", "migrate"], ["dags", "test", "tune_on_s3"]):
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *command],
            env=environment,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return done


def test_an_experiment_on_a_store_that_is_busy_and_slow_to_show_what_is_new(
    s3: S3, tmp_path: Path, airflow_home: Path
) -> None:
    """Each fourth request is refused, and each new object is hidden for two seconds: no trial is lost by it."""
    s3.busy_every(4)
    s3.hide_new_keys(2.0)
    done = play(tmp_path, airflow_home, s3, "s3://store@axtx/tracker", **s3.environment())
    assert done.returncode == 0, done.stdout[-8000:]
    store = ExperimentStore(f"sqlite:///{airflow_home}/axtx/experiments.db")
    trials = store.trials("on-s3")
    assert [(trial.status, trial.reason) for trial in trials] == [("COMPLETED", None)] * 4, done.stdout[-8000:]
    for trial in trials:
        assert [o.mean for o in store.observations("on-s3", trial.index)] == [trial.parameters["x"]]
    assert sorted((tmp_path / "starts").read_text().split()) == ["0", "1", "2", "3"]
    assert store.open_attempts() == []
    assert s3.refused > 3


def test_a_missing_bucket_ends_the_task_before_an_app_is_started(s3: S3, tmp_path: Path, airflow_home: Path) -> None:
    done = play(tmp_path, airflow_home, s3, "s3://store@no-such-bucket/tracker", **s3.environment())
    assert "The object store has no bucket 'no-such-bucket'. Fix: create the bucket" in done.stdout, done.stdout[-8000:]
    assert not (tmp_path / "starts").exists()
    store = ExperimentStore(f"sqlite:///{airflow_home}/axtx/experiments.db")
    assert store.attempts("on-s3") == []
