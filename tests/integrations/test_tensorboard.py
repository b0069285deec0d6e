"""Experiments as event files, read by TensorBoard: each (experiment, trial, attempt) once, whatever is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from airflow.cli import cli_parser
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial, TrialEnd
from airflow_provider_axtx.integrations.recording import Mirrored, record
from airflow_provider_axtx.integrations.tensorboard_files import TensorBoardRecorder
from airflow_provider_axtx.listeners import recording as listener
from tests.fakes.airflow_output import json_printed
from tests.integrations.material import AT_ONCE, ended, exit_code, filled, heard, recorded, warnings_of_listener
from tests.store.material import begin

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


def test_a_step_that_no_event_can_hold_is_left_out(tmp_path: Path) -> None:
    store = filled(f"sqlite:///{tmp_path}/s.db", "steps")
    trial = ProposedTrial("2_0", {"x": 0.5}, "Sobol", {})
    version = store.snapshot("steps").version
    store.add_trials("steps", Proposal((trial,), None), task_key="t", first_slot=2, expected_version=version)
    steps = [-(2.0**63), 7.0, 2.0**63, 1e300]
    curve = [Observation(2, "loss", 0.5, step=step) for step in steps]
    ended(store, begin(store, "steps", 2), "SUCCEEDED", TrialEnd("COMPLETED", (*curve, Observation(2, "loss", 0.25))))
    assert record(store, "steps", TensorBoardRecorder(str(tmp_path / "logs"))).written == 4
    values = read(tmp_path / "logs" / "airflow" / "steps" / "trial 2").Scalars("loss")
    assert [(one.step, one.value) for one in values] == [(-(2**63), 0.5), (7, 0.5), (8, 0.25)]


def test_a_run_that_cannot_be_recorded_keeps_no_other_one_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ti, logs = heard(tmp_path, monkeypatch, "TENSORBOARD_LOG_DIR", str(tmp_path / "logs")), tmp_path / "logs"
    store = filled(f"sqlite:///{tmp_path}/s.db", "later")
    (logs / "airflow" / "heard").mkdir(parents=True)
    (logs / "airflow" / "heard" / "trial 0").touch()  # in the place of the run's folder
    told: list[Exception] = []
    monkeypatch.setattr(listener.log, "warning", lambda text, tool, error: told.append(error))
    listener.on_task_instance_success(None, ti)
    assert "1 of 3 runs of experiment 'heard' were not recorded: trial 0: FileExistsError" in str(told[0])
    assert {path.name for path in (logs / "airflow" / "heard").glob("*")} >= {"trial 1", "trial 1, attempt 2"}
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")
    args = cli_parser.get_parser().parse_args(["ax", "tensorboard", "--output", "json"])
    with pytest.raises(SystemExit, match="1 of 1 runs of experiment 'heard'"):
        args.func(args)
    assert len(list((logs / "airflow" / "later").rglob("*tfevents*"))) == 4
    (logs / "airflow" / "heard" / "trial 0").unlink()
    capsys.readouterr()
    args.func(args)
    written = {one["experiment"]: one["written"] for one in json_printed(capsys.readouterr().out)}
    assert written == {"heard": 1, "later": 0}
    assert record(store, "heard", TensorBoardRecorder(str(logs))) == Mirrored("heard", 3, 0)


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
