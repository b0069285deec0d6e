"""Experiments as offline runs of W&B, read back: each (experiment, trial, attempt) once, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial, TrialEnd
from airflow_provider_axtx.integrations.recording import Mirrored, record
from airflow_provider_axtx.integrations.wandb_folders import WandbRecorder
from airflow_provider_axtx.listeners import recording as listener
from tests.integrations.material import AT_ONCE, ended, exit_code, filled, heard, recorded, warnings_of_listener
from tests.store.material import begin

pytestmark = pytest.mark.integrations

TOOL = "Weights & Biases"


@pytest.fixture(autouse=True)
def _own_service() -> Iterator[None]:
    """End W&B's service: processes that are forked from this one would use it together, as no tasks of Airflow do."""
    yield
    import wandb

    wandb.teardown()


_BLOCK, _HEADER = 32768, 7


def records_in(file: Path) -> Iterator[Any]:
    """Yield the records of a run: W&B's own file has the format of LevelDB's log after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = file.read_bytes(), _HEADER, b""
    while at < len(content):
        if _BLOCK - at % _BLOCK < _HEADER:
            at += _BLOCK - at % _BLOCK
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""


def read(folder: Path) -> dict[str, Any]:
    """Return what a run's folder holds."""
    (file,) = folder.glob("*.wandb")
    run: dict[str, Any] = {"history": [], "summary": {}}
    for one in records_in(file):
        kind = one.WhichOneof("record_type")
        if kind == "run":
            config = {item.key: json.loads(item.value_json) for item in one.run.config.update}
            run |= {"id": one.run.run_id, "project": one.run.project, "group": one.run.run_group}
            run |= {"name": one.run.display_name, "type": one.run.job_type, "config": config}
        elif kind == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in one.history.item}
            run["history"].append((items["axtx_step"], items["loss"]))
        elif kind == "summary":
            run["summary"] |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in one.summary.update}
        elif kind == "exit":
            run["exit"] = one.exit.exit_code
    return run


def assert_once(folder: Path, name: str) -> None:
    """Assert that there is one complete run for the experiment and for each attempt, and nothing else."""
    found = [read(place) for place in (folder / "wandb").iterdir()]
    runs = {run["name"]: run for run in found}
    assert len(found) == len(runs) == len({run["id"] for run in found}) == 4
    assert set(runs) == {name, "trial 0", "trial 1", "trial 1, attempt 2"}
    assert {(run["project"], run["group"]) for run in found} == {("airflow", name)}
    assert {title: (run["type"], run["exit"]) for title, run in runs.items()} == {
        name: ("experiment", 0),
        "trial 0": ("trial", 0),
        "trial 1": ("trial", 1),
        "trial 1, attempt 2": ("trial", 1),
    }
    first = runs["trial 0"]
    assert first["config"]["x"] == 0.5
    assert first["history"] == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert (first["summary"]["loss"], first["summary"]["axtx_trial_status"]) == (0.25, "COMPLETED")
    assert runs[name]["summary"]["axtx_best_trials"] == "0"


def test_an_experiment_is_recorded_once_however_often(tmp_path: Path) -> None:
    store, recorder = filled(f"sqlite:///{tmp_path}/s.db", "often"), WandbRecorder(str(tmp_path / "runs"))
    assert record(store, "often", recorder) == Mirrored("often", 3, 3)
    assert record(store, "often", recorder) == Mirrored("often", 3, 0)
    assert_once(tmp_path / "runs", "often")
    store.finish("often", "max_trials")
    record(store, "often", recorder)
    assert_once(tmp_path / "runs", "often")
    found = {run["name"]: run for run in map(read, (tmp_path / "runs" / "wandb").iterdir())}
    assert found["often"]["summary"]["axtx_stop_reason"] == "max_trials"
    # W&B's own command finds all of them.
    command = [
        str(Path(sys.executable).with_name("wandb")),
        "sync",
        "--dry-run",
        *map(str, (tmp_path / "runs").rglob("*.wandb")),
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "Would sync 4 run(s)" in told.stdout + told.stderr


def test_a_metric_with_an_asterisk_is_recorded(tmp_path: Path) -> None:
    store = filled(f"sqlite:///{tmp_path}/s.db", "odd")
    trial = ProposedTrial("2_0", {"x": 0.5}, "Sobol", {})
    version = store.snapshot("odd").version
    store.add_trials("odd", Proposal((trial,), None), task_key="t", first_slot=2, expected_version=version)
    curve = [Observation(2, name, 0.5, step=1e20) for name in ("loss", "a*b")]
    finals = [Observation(2, "loss", 0.25), Observation(2, "a*b", 0.125)]
    ended(store, begin(store, "odd", 2), "SUCCEEDED", TrialEnd("COMPLETED", (*curve, *finals)))
    assert record(store, "odd", WandbRecorder(str(tmp_path / "runs"))) == Mirrored("odd", 4, 4)
    found = {run["name"]: run for run in map(read, (tmp_path / "runs" / "wandb").iterdir())}
    assert (found["trial 2"]["summary"]["a*b"], found["trial 2"]["history"]) == (0.125, [(1e20, 0.5)])


@pytest.mark.parametrize(
    "point", [f"wandb.{point}_publish:{passage}" for point in ("before", "after") for passage in (1, 3)]
)
def test_a_killed_call_is_repaired_by_the_next(tmp_path: Path, point: str) -> None:
    url, runs = f"sqlite:///{tmp_path}/s.db", tmp_path / "runs"
    filled(url, "killed")
    process = recorded(url, "killed", TOOL, str(runs), point)
    assert exit_code(process) == -signal.SIGKILL
    assert exit_code(recorded(url, "killed", TOOL, str(runs))) == 0
    assert_once(runs, "killed")


def test_a_folder_of_another_state_is_replaced_although_a_call_was_killed(tmp_path: Path) -> None:
    url, runs = f"sqlite:///{tmp_path}/s.db", tmp_path / "runs"
    store = filled(url, "state")
    record(store, "state", WandbRecorder(str(runs)))
    (place,) = (runs / "wandb").glob("*-t0-a1")
    (place / "axtx-recorded").write_text("FAILED")  # as if its results had been repaired since
    (place / "of-before").touch()
    assert exit_code(recorded(url, "state", TOOL, str(runs), "wandb.after_removed")) == -signal.SIGKILL
    assert exit_code(recorded(url, "state", TOOL, str(runs))) == 0
    assert_once(runs, "state")
    assert not (place / "of-before").exists()


def test_processes_at_once_make_no_second_run(tmp_path: Path) -> None:
    url, runs = f"sqlite:///{tmp_path}/s.db", tmp_path / "runs"
    filled(url, AT_ONCE)
    processes = [recorded(url, AT_ONCE, TOOL, str(runs)) for _ in range(3)]
    assert [exit_code(process) for process in processes] == [0, 0, 0]
    assert_once(runs, AT_ONCE)


HEARD = """
import os, sys
from types import SimpleNamespace
from airflow_provider_axtx.hooks import installation
from airflow_provider_axtx.listeners import recording

installation.installation_id = lambda: ""
task = SimpleNamespace(ax_conn_id="ax_default")
recording.on_task_instance_success(None, SimpleNamespace(task=task, dag_id="dag", run_id="manual__1"))
"""


def test_the_listener_records_the_experiments_of_its_dag_run_and_never_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = heard(tmp_path, monkeypatch, "WANDB_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    before = {process.pid for process in psutil.process_iter() if "wandb" in process.name()}
    subprocess.run([sys.executable, "-c", HEARD], env=dict(os.environ), check=True)
    assert_once(tmp_path / "runs", "heard")
    left = [process for process in psutil.process_iter() if "wandb" in process.name() and process.pid not in before]
    assert psutil.wait_procs(left, timeout=30)[1] == []  # W&B's service ends with the task's process
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRFLOW__AXTX__WANDB_DIR", str(tmp_path / "file"))
    told = warnings_of_listener(monkeypatch)
    listener.on_task_instance_failed(None, ti, None)
    assert told == [(listener.NOT_UP_TO_DATE, TOOL)]
