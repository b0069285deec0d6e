"""The MLflow run of an attempt, which is there before its app is submitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.deadline import in_time
from airflow_provider_axtx.core.errors import AxtxError, TrackerUnavailableError
from airflow_provider_axtx.core.metric_sources import MetricSource, load_metrics
from airflow_provider_axtx.core.records import AttemptRecord

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.mlflow_runs import MlflowRuns
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: How long the MLflow server may take before an app is submitted.
DEADLINE_SECONDS = 60.0
#: The tag by which MLflow nests runs.
_PARENT_TAG = "mlflow.parentRunId"


def uses_mlflow(metrics: Mapping[str, Any] | None, tracking_uri: str | None) -> bool:
    """Return whether an attempt has a run in MLflow; arguments as for ``mlflow_variables``."""
    return tracking_uri is not None or bool(_sources(metrics))


def mlflow_variables(
    store: ExperimentStore, attempt: AttemptRecord, metrics: Mapping[str, Any] | None, tracking_uri: str | None
) -> dict[str, str]:
    """Return the environment variables by which what an app logs to MLflow arrives in the run of its attempt.

    They are empty unless metrics are read there, or Airflow's configuration asks for them. In the latter case a server
    that does not answer is logged, and the app runs without.

    :param metrics: the argument ``metrics`` of the operators.
    :param tracking_uri: the configured server; None where the configuration does not ask.
    :raises TrackerUnavailableError: metrics are read in MLflow, and it does not answer.
    """
    if not uses_mlflow(metrics, tracking_uri):
        return {}
    sources = _sources(metrics)
    uri = sources[0].tracking_uri if sources else tracking_uri
    try:
        run_id = in_time(lambda: _run_id(store, attempt, uri), DEADLINE_SECONDS)
    except Exception as error:
        if sources and isinstance(error, AxtxError):
            raise
        if sources:
            raise TrackerUnavailableError(
                f"MLflow gives no run for {attempt}: {error}.", fix="it is tried again; check that the server answers."
            ) from error
        log.warning("%s runs without a run in MLflow: %s", attempt, error)
        return {}
    return {"MLFLOW_RUN_ID": run_id, **({} if uri is None else {"MLFLOW_TRACKING_URI": uri})}


def _sources(metrics: Mapping[str, Any] | None) -> list[MetricSource]:
    return [source for source in load_metrics(metrics).values() if source.kind == "mlflow"]


def _run_id(store: ExperimentStore, attempt: AttemptRecord, tracking_uri: str | None) -> str:
    from airflow_provider_axtx.launcher.mlflow_runs import MlflowRuns

    runs = MlflowRuns(tracking_uri)
    name, uid = attempt.experiment, store.uid(attempt.experiment)
    place = runs.experiment_id(project_of(store, name))
    parent = runs.ensure(place, uid, name, {"axtx.experiment": name}, attempt.requested_at)
    return attempt_run(runs, place, parent.info.run_id, attempt)


def project_of(store: ExperimentStore, experiment: str) -> str:
    """Return the name of the MLflow experiment, or the project elsewhere, with an experiment's runs: its DAG."""
    return store.ownership(experiment).dag_id or "airflow"


def attempt_run(runs: MlflowRuns, place: str, parent_run_id: str, attempt: AttemptRecord) -> str:
    """Return the id of an attempt's run, which is created if there is none.

    :param place: id of the MLflow experiment.
    """
    task = attempt.identity
    tags = {
        _PARENT_TAG: parent_run_id,
        "axtx.experiment": attempt.experiment,
        "axtx.trial_index": str(attempt.trial_index),
        "axtx.attempt": str(attempt.number),
        **{f"airflow.{name}": getattr(task, name) for name in ("dag_id", "run_id", "task_id") if task.dag_id},
    }
    run = runs.ensure(place, attempt.submission_key, attempt.title, tags, attempt.requested_at)
    return str(run.info.run_id)
