"""Records experiments as TensorBoard's event files, with the parameters for its page HParams.

The files of an attempt and of an experiment have names that follow from them, and are replaced as a whole: so there is
one of each, which is complete.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.integrations.published import workshop
from airflow_provider_axtx.integrations.recording import RecordedExperiment, RecordedRun

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary


class TensorBoardRecorder:
    """Writes experiments to a log directory of TensorBoard: a folder for each, and in it one for each attempt.

    :param folder: the log directory.
    :raises InvalidInputError: the extra is not installed.
    """

    _experiment: RecordedExperiment

    def __init__(self, folder: str) -> None:
        try:
            import tensorboard.compat.proto.event_pb2  # noqa: F401
        except ImportError as error:
            raise InvalidInputError(
                f"TensorBoard is not installed here: {error}.",
                fix="install it on every Airflow machine: pip install 'airflow-provider-axtx[tensorboard]'.",
            ) from error
        self.folder = Path(folder)

    def begin(self, experiment: RecordedExperiment) -> Mapping[str, str]:
        """Return what each attempt is recorded as already, by its submission key."""
        self._experiment = experiment
        recorded = {}
        for run in experiment.runs:
            # More than one is what a call has left that was killed while it wrote another state.
            states = [path.name.rpartition(".")[2] for path in self._files(run)]
            recorded[run.attempt.submission_key] = states[0] if len(states) == 1 else ""
        return recorded

    def write(self, run: RecordedRun) -> None:
        """Write an attempt's event file; its state is the end of the file's name."""
        target = self._folder_of(run) / f"{_stem(run.attempt.requested_at, run.attempt.submission_key)}.{run.state}"
        for other in self._files(run):
            if other != target:
                other.unlink(missing_ok=True)
        crash_point("tensorboard.before_replace")
        self._replace(target, _events_of(run))
        crash_point("tensorboard.after_replace")

    def finish(self, experiment: RecordedExperiment) -> None:
        """Write what is told of the experiment itself as a text."""
        target = self._folder / _stem(experiment.began_at, experiment.uid)
        rows = [f"| {name} | {value} |" for name, value in experiment.facts.items()]
        self._replace(target, [_text_event("axtx", "\n".join(["| | |", "|---|---|", *rows]), experiment.began_at)])

    @property
    def _folder(self) -> Path:
        return self.folder / self._experiment.project / self._experiment.name

    def _folder_of(self, run: RecordedRun) -> Path:
        return self._folder / run.attempt.title

    def _files(self, run: RecordedRun) -> list[Path]:
        return sorted(self._folder_of(run).glob("events.out.tfevents.*"))

    def _replace(self, target: Path, events: list[Event]) -> None:
        content = _file_of(events)
        if target.exists() and target.read_bytes() == content:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with workshop(self.folder) as aside:
            # TensorBoard reads every file with its name, also one that is not complete.
            (made := aside / "new").write_bytes(content)
            made.replace(target)


def _stem(began_at: float, key: str) -> str:
    return f"events.out.tfevents.{round(began_at):010d}.{key}"


def _events_of(run: RecordedRun) -> list[Event]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    began, ended = run.attempt.requested_at, run.ended_at
    start = hparams_pb(dict(run.trial.parameters), trial_id=f"trial {run.trial.index}", start_time_secs=began)
    facts = "  \n".join(f"{name}: {value}" for name, value in run.facts.items())
    return [
        Event(wall_time=began, summary=start),
        *(Event(wall_time=ended, step=step, summary=_scalar(metric, value)) for metric, value, step in run.points()),
        _text_event("axtx", facts, ended),
        Event(wall_time=ended, summary=_session_end(run)),
    ]


def _scalar(tag: str, value: float) -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _text_event(tag: str, text: str, at: float) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.text.summary_v2 import text_pb

    return Event(wall_time=at, summary=text_pb(tag, text))


def _session_end(run: RecordedRun) -> Summary:
    """Return the end of a session of HParams: TensorBoard itself makes one with TensorFlow only."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.STATUS_SUCCESS if run.succeeded else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=run.ended_at)
    about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def _file_of(events: list[Event]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in [Event(wall_time=events[0].wall_time, file_version="brain.Event:2"), *events]:
        writer.write(event.SerializeToString(deterministic=True))
    return file.getvalue()
