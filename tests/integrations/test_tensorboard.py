"""Experiments as event files, read by TensorBoard: each (experiment, trial, attempt) once, whatever is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from airflow_provider_axtx.integrations.recording import Mirrored, record
from airflow_provider_axtx.integrations.tensorboard_files import TensorBoardRecorder
from airflow_provider_axtx.listeners import recording as listener
from tests.integrations.material import AT_ONCE, exit_code, filled, heard, recorded, warnings_of_listener

TOOL = "TensorBoard"


def read(folder: Path) -> EventAccumulator:
    (_file,) = folder.glob("*tfevents*")
    return EventAccumulator(str(folder)).Reload()


def hparams(events: EventAccumulator, tag: str) -> plugin_data_pb2.HParamsPluginData:
    content = events.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def text_of(events: EventAccumulator) -> str:
    (event,) = events.Tensors("axtx")
    return make_ndarray(event.tensor_proto).item().decode()


def assert_once(log_dir: Path, name: str) -> None:
    """Assert that there is one complete file for the experiment and for each attempt, and nothing else."""
    parent = log_dir / "airflow" / name
    folders = {path.name for path in parent.iterdir() if path.is_dir()}
    assert folders == {"trial 0", "trial 1", "trial 1, attempt 2"}
    assert len(list(log_dir.rglob("*tfevents*"))) == 4
    assert "| best_trials | 0 |" in text_of(read(parent))
    first = read(parent / "trial 0")
    values = [(one.step, one.value) for one in first.Scalars("loss")]
    assert values == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3)), (3, 0.25)]
    start = hparams(first, metadata.SESSION_START_INFO_TAG).session_start_info
    assert {parameter: value.number_value for parameter, value in start.hparams.items()} == {"x": 0.5}
    groups, ends = [], []
    for folder in sorted(folders):
        events = read(parent / folder)
        groups.append(hparams(events, metadata.SESSION_START_INFO_TAG).session_start_info.group_name)
        ends.append(hparams(events, metadata.SESSION_END_INFO_TAG).session_end_info.status)
    assert groups[0] != groups[1] == groups[2]  # the attempts of one trial are one row of HParams
    assert ends == [1, 2, 2]  # STATUS_SUCCESS, STATUS_FAILURE


def test_an_experiment_is_recorded_once_however_often(tmp_path: Path) -> None:
    store, recorder = filled(f"sqlite:///{tmp_path}/s.db", "often"), TensorBoardRecorder(str(tmp_path / "logs"))
    assert record(store, "often", recorder) == Mirrored("often", 3, 3)
    assert record(store, "often", recorder) == Mirrored("often", 3, 0)
    assert_once(tmp_path / "logs", "often")
    store.finish("often", "max_trials")
    record(store, "often", recorder)
    assert "| stop_reason | max_trials |" in text_of(read(tmp_path / "logs" / "airflow" / "often"))


@pytest.mark.parametrize(
    "point", [f"tensorboard.{point}_replace:{passage}" for point in ("before", "after") for passage in (1, 3)]
)
def test_a_killed_call_is_repaired_by_the_next(tmp_path: Path, point: str) -> None:
    url, logs = f"sqlite:///{tmp_path}/s.db", tmp_path / "logs"
    filled(url, "killed")
    assert exit_code(recorded(url, "killed", TOOL, str(logs), point)) == -signal.SIGKILL
    assert exit_code(recorded(url, "killed", TOOL, str(logs))) == 0
    assert_once(logs, "killed")


def test_a_file_of_another_state_is_replaced_although_a_call_was_killed(tmp_path: Path) -> None:
    url, logs = f"sqlite:///{tmp_path}/s.db", tmp_path / "logs"
    store = filled(url, "state")
    record(store, "state", TensorBoardRecorder(str(logs)))
    (file,) = (logs / "airflow" / "state" / "trial 0").glob("*tfevents*")
    file.rename(file.with_suffix(".FAILED"))  # as if its results had been repaired since
    assert exit_code(recorded(url, "state", TOOL, str(logs), "tensorboard.before_replace")) == -signal.SIGKILL
    assert exit_code(recorded(url, "state", TOOL, str(logs))) == 0
    assert_once(logs, "state")


def test_processes_at_once_make_no_second_run(tmp_path: Path) -> None:
    url, logs = f"sqlite:///{tmp_path}/s.db", tmp_path / "logs"
    filled(url, AT_ONCE)
    processes = [recorded(url, AT_ONCE, TOOL, str(logs)) for _ in range(4)]
    assert [exit_code(process) for process in processes] == [0, 0, 0, 0]
    assert_once(logs, AT_ONCE)


def test_the_listener_records_the_experiments_of_its_dag_run_and_never_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = heard(tmp_path, monkeypatch, "TENSORBOARD_LOG_DIR", str(tmp_path / "logs"))
    listener.on_task_instance_success(None, ti)
    assert_once(tmp_path / "logs", "heard")
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRFLOW__AXTX__TENSORBOARD_LOG_DIR", str(tmp_path / "file"))
    told = warnings_of_listener(monkeypatch)
    listener.on_task_instance_failed(None, ti, None)
    assert told == [(listener.NOT_UP_TO_DATE, TOOL)]
