"""Runs in MLflow, at most one for each key: an attempt's is found by its tag, whichever process has created it.

MLflow has no unique names for runs. A process that has created one looks again after a moment. The first of all runs of
the key is kept: its process marks it, and looks once more. A process that then sees another mark takes its own away.
Since each marks before it looks, no two are left. The others wait for the mark; a run without it that is half a minute
old was left by a killed process, and is adopted.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.errors import InvalidInputError, TrackerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.metric_sources import MetricSource
from airflow_provider_axtx.launcher.metric_files import NoMetricError
from airflow_provider_axtx.launcher.series import Series

if TYPE_CHECKING:
    from mlflow.entities import Run

#: The tag with the key: an attempt's submission key, or the uid of an experiment.
KEY_TAG = "axtx.key"
_KEPT_TAG = "axtx.kept"
_CREATED_TAG = "axtx.created_at"
#: A run that was not kept so long after its creation is that of a killed process.
_ABANDONED_SECONDS = 30.0
#: After this time the runs of processes that began together are there.
_SETTLING_SECONDS = 1.0
#: How long another process is waited for.
_PATIENCE_SECONDS = 55.0
_PAGE = 1000


class MlflowRuns:
    """The runs of one MLflow server.

    :param tracking_uri: its address; None means that of MLflow's own environment variable ``MLFLOW_TRACKING_URI``.
    :raises InvalidInputError: when MLflow's client is not installed.
    """

    def __init__(self, tracking_uri: str | None) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise InvalidInputError(
                f"MLflow's client is not installed here: {error}.",
                fix="install it on every Airflow machine: pip install 'airflow-provider-axtx[mlflow]'.",
            ) from error
        self.client = MlflowClient(tracking_uri=tracking_uri)

    def experiment_id(self, name: str) -> str:
        """Return the id of the MLflow experiment of a name, which is created if there is none."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def runs(self, experiment_ids: list[str], condition: str) -> list[Run]:
        """Return all runs that meet a condition in MLflow's search syntax, those that are kept first."""
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(experiment_ids, condition, max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                break
        return sorted(found, key=lambda run: (not _is_kept(run), run.info.run_id))

    def find(self, key: str, experiment_ids: list[str] | None = None) -> Run | None:
        """Return the run of a key, or None.

        :param experiment_ids: where it is looked for; None is everywhere.
        """
        ids = self._all_experiments() if experiment_ids is None else experiment_ids
        return next(iter(self.runs(ids, f"tags.`{KEY_TAG}` = '{key}'")), None)

    def ensure(self, experiment_id: str, key: str, name: str, tags: Mapping[str, str], started_at: float) -> Run:
        """Return the run of a key; it is created if there is none, and every other one of this key is removed.

        :param name: its name in MLflow's pages.
        :param tags: its other tags when it is created.
        :param started_at: when it begins, in seconds since the epoch.
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        condition = f"tags.`{KEY_TAG}` = '{key}'"
        while time.monotonic() < until:
            found = self.runs([experiment_id], condition)
            if found and _is_kept(found[0]):
                self._remove_abandoned(found[1:])
                return found[0]
            if found and _is_abandoned(found[0]) and self._keep(found[0], experiment_id, condition):
                return found[0]
            if not found:
                created = self.client.create_run(
                    experiment_id,
                    start_time=round(started_at * 1000),
                    tags={**tags, KEY_TAG: key, _CREATED_TAG: str(time.time())},
                    run_name=name,
                )
                crash_point("mlflow.after_create")
                time.sleep(_SETTLING_SECONDS)
                first = next((run.info.run_id for run in self.runs([experiment_id], condition)), None)
                if first == created.info.run_id and self._keep(created, experiment_id, condition):
                    return created
                self.client.delete_run(created.info.run_id)
            # Another process has created one, and is about to keep it or to take it away.
            time.sleep(random.uniform(0.1, 0.5))
        raise TrackerUnavailableError(
            f"MLflow has no run for {key}: other processes create and remove it.", fix="it is tried again."
        )

    def _keep(self, run: Run, experiment_id: str, condition: str) -> bool:
        """Mark a run as kept; return whether no other one of its key is."""
        self.client.set_tag(run.info.run_id, _KEPT_TAG, "true")
        kept = [one for one in self.runs([experiment_id], condition) if _is_kept(one)]
        return [one.info.run_id for one in kept] == [run.info.run_id]

    def _remove_abandoned(self, others: list[Run]) -> None:
        for other in others:
            if _is_abandoned(other):
                self.client.delete_run(other.info.run_id)

    def _all_experiments(self) -> list[str]:
        ids: list[str] = []
        token = None
        while True:
            page = self.client.search_experiments(max_results=_PAGE, page_token=token)
            ids += [str(experiment.experiment_id) for experiment in page]
            token = page.token
            if not token:
                return ids


def _is_kept(run: Run) -> bool:
    return _KEPT_TAG in run.data.tags


def _is_abandoned(run: Run) -> bool:
    """Return whether the process that created the run has had its time to keep it or to take it away."""
    return time.time() - float(run.data.tags.get(_CREATED_TAG, "0")) > _ABANDONED_SECONDS


def read_metric(source: MetricSource, submission_key: str) -> Series:
    """Return the values of a metric in the run of an attempt.

    :raises NoMetricError: there is no such run, or it has no such metric.
    """
    runs = MlflowRuns(source.tracking_uri)
    run = runs.find(submission_key)
    if run is None:
        raise NoMetricError(f"MLflow has no run with the tag {KEY_TAG}={submission_key}: it is lost, or was deleted")
    series = Series(source.take)
    for value in runs.client.get_metric_history(run.info.run_id, source.place):
        series.add(_as_logged(float(value.value)), float(value.step))
    if series.final() is None:
        at = f" at step {source.take}" if series.count else ""
        raise NoMetricError(f"the MLflow run {run.info.run_id} has no metric {source.place!r}{at}")
    return series


def _as_logged(value: float) -> float:
    """Return a metric's value as the app has logged it: MLflow's SQL store keeps infinity as the largest float."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value
