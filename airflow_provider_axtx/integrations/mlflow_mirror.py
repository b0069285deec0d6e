"""Records experiments in MLflow: a parent run for each, and in it a run for each attempt of a trial that has ended."""

from __future__ import annotations

import hashlib
import itertools
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.integrations.recording import Mirrored, RecordedExperiment, RecordedRun, record
from airflow_provider_axtx.launcher.mlflow_runs import KEY_TAG, MlflowRuns
from airflow_provider_axtx.lifecycle.mlflow import attempt_run

if TYPE_CHECKING:
    from mlflow.entities import Run

    from airflow_provider_axtx.store.experiments import ExperimentStore

#: What an ended run was recorded as; a run without it is written again.
_RECORDED_TAG = "axtx.recorded"
#: The metrics that are ours to write; where they are too many for one tag, ``axtx.metrics.1`` and so on have the rest.
_METRICS_TAG = "axtx.metrics"
_STATUSES = {
    "COMPLETED": "FINISHED",
    "EARLY_STOPPED": "FINISHED",
    "SUCCEEDED": "FINISHED",
    "FAILED": "FAILED",
}
#: MLflow takes as many metrics, and as many parameters, in one call.
_BATCH, _PARAMS = 1000, 100
_MAX_TAG = 5000
#: Longest value of a parameter, and longest name, which it refuses or cuts otherwise.
_MAX_PARAM, _MAX_NAME = 6000, 250
#: So many of the longest names fit into a tag.
_NOTED = 19


def mirror(store: ExperimentStore, experiment: str, tracking_uri: str | None) -> Mirrored:
    """Bring MLflow up to date with what the store knows of an experiment.

    :param tracking_uri: address of the server; None means that of MLflow's own environment variable.
    :raises InvalidInputError: MLflow's client is not installed.
    :raises ExperimentNotFoundError: there is no such experiment.
    :raises RecordingError: some runs could not be recorded; the others are.
    """
    return record(store, experiment, MlflowRecorder(tracking_uri))


class MlflowRecorder:
    """Writes experiments to one MLflow server.

    :param tracking_uri: its address; None means that of MLflow's own environment variable.
    """

    _runs: MlflowRuns
    _place: str
    _parent: Run

    def __init__(self, tracking_uri: str | None) -> None:
        self.tracking_uri = tracking_uri

    def begin(self, experiment: RecordedExperiment) -> Mapping[str, str]:
        """Make the parent run; return what each attempt is recorded as already, by its submission key."""
        self._runs = MlflowRuns(self.tracking_uri)
        self._place = self._runs.experiment_id(experiment.project)
        tags = {"axtx.experiment": experiment.name}
        self._parent = self._runs.ensure(self._place, experiment.uid, experiment.name, tags, experiment.began_at)
        # The names of experiments hold no quotation marks.
        runs = self._runs.runs([self._place], f"tags.`axtx.experiment` = '{experiment.name}'")
        return {run.data.tags[KEY_TAG]: run.data.tags.get(_RECORDED_TAG, "") for run in reversed(runs)}

    def write(self, run: RecordedRun) -> None:
        """Write an attempt's facts, the mark that they are complete last; each write may be repeated."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = attempt_run(self._runs, self._place, self._parent.info.run_id, run.attempt)
        crash_point("mlflow.before_write")
        client = self._runs.client
        there, at = client.get_run(run_id), round(1000 * run.ended_at)
        given = run.trial.parameters
        missing = {name: given[key] for key, name in mlflow_names(given).items() if name not in there.data.params}
        params = [Param(name, str(value)[:_MAX_PARAM]) for name, value in missing.items()]
        for begin in range(0, len(params), _PARAMS):
            client.log_batch(run_id, params=params[begin : begin + _PARAMS])
        names = mlflow_names(one.metric for one in run.observations)
        ours = self._ours(there, names.values())
        own = frozenset(metric for metric, name in names.items() if name in ours)
        metrics = [Metric(names[metric], value, at, step) for metric, value, step in run.points(own)]
        for begin in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[begin : begin + _BATCH])
        crash_point("mlflow.after_metrics")
        client.log_batch(run_id, tags=[RunTag(f"axtx.{name}", value[:_MAX_TAG]) for name, value in run.facts.items()])
        client.set_terminated(run_id, _STATUSES.get(run.state, "KILLED"), end_time=at)
        client.set_tag(run_id, _RECORDED_TAG, run.state)

    def _ours(self, there: Run, names: Iterable[str]) -> frozenset[str]:
        """Return the metrics that are ours to write: what the app has logged itself is not written again.

        Their names are noted in the run before the first one is written, so that a repeated call knows them from the
        app's. MLflow keeps a value once that is logged again with the same step and time.
        """
        from mlflow.entities import RunTag

        notes = {tag: text for tag, text in there.data.tags.items() if re.fullmatch(rf"{_METRICS_TAG}(\.\d+)?", tag)}
        noted = frozenset(name for text in notes.values() for name in _read_note(text))
        new = sorted(set(names) - set(there.data.metrics) - noted)
        # A tag that is too long would be refused, or cut, so that it is no JSON any more.
        parts = [new[begin : begin + _NOTED] for begin in range(0, len(new), _NOTED)]
        free = (tag for tag in _note_tags() if tag not in notes)
        tags = [RunTag(tag, json.dumps(part, ensure_ascii=False)) for tag, part in zip(free, parts, strict=False)]
        for begin in range(0, len(tags), _PARAMS):
            self._runs.client.log_batch(there.info.run_id, tags=tags[begin : begin + _PARAMS])
        return noted | frozenset(new)

    def finish(self, experiment: RecordedExperiment) -> None:
        """Write what is told of the experiment to the parent run."""
        client, info = self._runs.client, self._parent.info
        for name, value in experiment.facts.items():
            if self._parent.data.tags.get(f"axtx.{name}", "") != value:
                client.set_tag(info.run_id, f"axtx.{name}", value[:_MAX_TAG])
        if experiment.stop_reason is None and info.status != "RUNNING":
            client.update_run(info.run_id, status="RUNNING")
        elif experiment.stop_reason is not None and info.status != "FINISHED":
            client.set_terminated(info.run_id, "FINISHED")


def mlflow_names(names: Iterable[str]) -> dict[str, str]:
    """Return each name as MLflow takes it; two names never become one.

    ``recall@10`` is a name here, and MLflow refuses the whole batch for it.
    """
    taken = {name: _mlflow_name(name) for name in names}
    count = Counter(taken.values())
    return {
        name: found if found == name or count[found] == 1 else f"{found[: _MAX_NAME - 9]}_{_short_hash(name)}"
        for name, found in taken.items()
    }


def _mlflow_name(name: str) -> str:
    found = re.sub(r"[^/\w.\- :]", "_", name)[:_MAX_NAME]
    # Some of its stores take a name for a path, which must be the shortest one and stay in its folder.
    if posixpath.normpath(found) != found or found.startswith((".", "/")):
        found = f"_{found.replace('/', '_')}"[:_MAX_NAME]
    return found


def _short_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _note_tags() -> Iterator[str]:
    yield _METRICS_TAG
    yield from (f"{_METRICS_TAG}.{number}" for number in itertools.count(1))


def _read_note(text: str) -> list[str]:
    try:
        return list(json.loads(text))
    except ValueError:  # an earlier version has written one that was too long
        return []
