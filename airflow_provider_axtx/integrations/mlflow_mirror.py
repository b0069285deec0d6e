"""Records experiments in MLflow: a parent run for each, and in it a run for each attempt of a trial that has ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def mirror(store: ExperimentStore, experiment: str, tracking_uri: str | None) -> Mirrored:
    """Bring MLflow up to date with what the store knows of an experiment.

    :param tracking_uri: address of the server; None means that of MLflow's own environment variable.
    :raises InvalidInputError: MLflow's client is not installed.
    :raises ExperimentNotFoundError: there is no such experiment.
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
        missing = {name: value for name, value in run.trial.parameters.items() if name not in there.data.params}
        params = [Param(name, str(value)) for name, value in missing.items()]
        for begin in range(0, len(params), _PARAMS):
            client.log_batch(run_id, params=params[begin : begin + _PARAMS])
        ours = self._ours(there, run)
        metrics = [Metric(name, value, at, step) for name, value, step in run.points(ours)]
        for begin in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[begin : begin + _BATCH])
        crash_point("mlflow.after_metrics")
        client.log_batch(run_id, tags=[RunTag(f"axtx.{name}", value[:_MAX_TAG]) for name, value in run.facts.items()])
        client.set_terminated(run_id, _STATUSES.get(run.state, "KILLED"), end_time=at)
        client.set_tag(run_id, _RECORDED_TAG, run.state)

    def _ours(self, there: Run, run: RecordedRun) -> frozenset[str]:
        """Return the metrics that are ours to write: what the app has logged itself is not written again.

        Their names are noted in the run before the first one is written, so that a repeated call knows them from the
        app's. MLflow keeps a value once that is logged again with the same step and time.
        """
        noted = frozenset(json.loads(there.data.tags.get(_METRICS_TAG, "[]")))
        ours = noted | ({one.metric for one in run.observations} - set(there.data.metrics))
        if ours != noted:
            self._runs.client.set_tag(there.info.run_id, _METRICS_TAG, json.dumps(sorted(ours)))
        return ours

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
