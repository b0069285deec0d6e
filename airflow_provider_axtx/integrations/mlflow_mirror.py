"""Brings MLflow up to date with what the store knows of an experiment.

Nothing is remembered between two calls: what is missing in MLflow is added, what is there is left. So a call that is
killed at any moment is repaired by the next one, and any number of them give the same runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.output_line import without_line
from airflow_provider_axtx.core.records import AttemptRecord, ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.launcher.mlflow_runs import KEY_TAG, MlflowRuns
from airflow_provider_axtx.lifecycle.mlflow import attempt_run, mlflow_experiment
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import standing

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

    from airflow_provider_axtx.store.experiments import ExperimentStore

#: What an ended run was recorded as; a run without it is written again.
_RECORDED_TAG = "axtx.recorded"
_METRICS_TAG = "axtx.metrics"
_STATUSES = {"COMPLETED": "FINISHED", "EARLY_STOPPED": "FINISHED", "FAILED": "FAILED", "ABANDONED": "KILLED"}
_APP_STATUSES = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED"}
#: MLflow takes as many metrics, and as many parameters, in one call.
_BATCH, _PARAMS = 1000, 100
_MAX_TAG = 5000


@dataclass(frozen=True)
class Mirrored:
    """What one call has done.

    :param runs: attempts of the experiment that MLflow has runs of now.
    :param written: how many of these were written by this call.
    """

    experiment: str
    runs: int
    written: int


def mirror(store: ExperimentStore, experiment: str, tracking_uri: str | None) -> Mirrored:
    """Record an experiment in MLflow: a parent run, and in it a run for each attempt that has ended.

    :param tracking_uri: address of the server; None means that of MLflow's own environment variable.
    :raises InvalidInputError: MLflow's client is not installed.
    :raises ExperimentNotFoundError: there is no such experiment.
    """
    snapshot, attempts = store.snapshot(experiment), store.attempts(experiment)
    if not attempts:
        return Mirrored(experiment, 0, 0)
    runs = MlflowRuns(tracking_uri)
    place = runs.experiment_id(mlflow_experiment(store, experiment))
    tags = {"axtx.experiment": experiment}
    parent = runs.ensure(place, snapshot.uid, experiment, tags, min(one.requested_at for one in attempts))
    known = {
        run.data.tags[KEY_TAG]: run for run in runs.runs([place], f"tags.`axtx.experiment` = {_quoted(experiment)}")
    }
    last = {attempt.trial_index: attempt.number for attempt in attempts}
    trials = {trial.index: trial for trial in snapshot.trials}
    written = ended = 0
    for attempt in attempts:
        if attempt.finished_at is None:
            continue
        ended += 1
        trial = trials[attempt.trial_index]
        is_last = attempt.number == last[attempt.trial_index]
        state = _state(trial, attempt, is_last=is_last)
        run = known.get(attempt.submission_key)
        if state is None or (run is not None and run.data.tags.get(_RECORDED_TAG) == state):
            continue
        run_id = attempt_run(runs, place, parent.info.run_id, attempt)
        crash_point("mlflow.before_write")
        facts = snapshot.observations if is_last else ()
        _write(runs, run_id, trial, attempt, state, [one for one in facts if one.trial_index == trial.index])
        written += 1
    _write_parent(runs, parent, snapshot, store.summary(experiment).stop_reason)
    return Mirrored(experiment, ended, written)


def _quoted(text: str) -> str:
    """Return a text as a string of MLflow's search syntax; the names of experiments hold no quotation marks."""
    return f"'{text}'"


def _state(trial: TrialRecord, attempt: AttemptRecord, *, is_last: bool) -> str | None:
    """Return what an ended attempt is recorded as; None while its trial still waits for its results."""
    if not is_last:
        return str(attempt.app_state)
    return trial.status if is_terminal_trial_status(trial.status) else None


def _write(
    runs: MlflowRuns,
    run_id: str,
    trial: TrialRecord,
    attempt: AttemptRecord,
    state: str,
    observations: list[Observation],
) -> None:
    """Write an attempt's facts, the mark that they are complete last; each write may be repeated with one effect."""
    from mlflow.entities import Param, RunTag

    run = runs.client.get_run(run_id)
    at = round(1000 * (attempt.ended_at or attempt.finished_at or attempt.requested_at))
    params = [Param(name, str(value)) for name, value in trial.parameters.items() if name not in run.data.params]
    for begin in range(0, len(params), _PARAMS):
        runs.client.log_batch(run_id, params=params[begin : begin + _PARAMS])
    metrics = list(_metrics(_ours(runs, run, observations), at))
    for begin in range(0, len(metrics), _BATCH):
        runs.client.log_batch(run_id, metrics=metrics[begin : begin + _BATCH])
    crash_point("mlflow.after_metrics")
    facts = {
        "axtx.trial_status": trial.status,
        "axtx.reason": without_line(trial.reason or ""),
        "axtx.app_handle": attempt.app_handle,
        "axtx.app_state": attempt.app_state,
    }
    tags = [RunTag(name, value[:_MAX_TAG]) for name, value in facts.items() if value]
    runs.client.log_batch(run_id, tags=tags)
    status = _STATUSES.get(state) or _APP_STATUSES.get(state, "KILLED")
    runs.client.set_terminated(run_id, status, end_time=at)
    runs.client.set_tag(run_id, _RECORDED_TAG, state)


def _ours(runs: MlflowRuns, run: Run, observations: list[Observation]) -> list[Observation]:
    """Return the observations that are ours to write: what the app has logged itself is not written again.

    Their names are noted in the run before the first one is written, so that a repeated call knows them from the app's.
    MLflow keeps a value once that is logged again with the same step and time.
    """
    noted = set(json.loads(run.data.tags.get(_METRICS_TAG, "[]")))
    ours = noted | ({one.metric for one in observations} - set(run.data.metrics))
    if ours != noted:
        runs.client.set_tag(run.info.run_id, _METRICS_TAG, json.dumps(sorted(ours)))
    return [one for one in observations if one.metric in ours]


def _metrics(observations: Iterable[Observation], at: int) -> Iterator[Metric]:
    """Yield the metrics of an attempt; the final value of one with a curve stands after its last step."""
    from mlflow.entities import Metric

    steps: dict[str, int] = {}
    given = list(observations)
    for one in given:
        if one.step is not None:
            steps[one.metric] = max(steps.get(one.metric, 0), int(one.step))
            yield Metric(one.metric, one.mean, at, int(one.step))
    for one in given:
        if one.step is None:
            yield Metric(one.metric, one.mean, at, steps.get(one.metric, -1) + 1)


def _write_parent(runs: MlflowRuns, parent: Run, snapshot: ExperimentSnapshot, stop_reason: str | None) -> None:
    spec = ExperimentSpec.from_store(snapshot.spec)
    best = standing(spec, completed_trials(snapshot.trials, snapshot.observations)).best_trials
    facts: dict[str, Any] = {
        "axtx.objective": spec.objective,
        "axtx.best_trials": ", ".join(map(str, best)),
        "axtx.stop_reason": stop_reason or "",
    }
    run_id = parent.info.run_id
    for name, value in facts.items():
        if parent.data.tags.get(name, "") != value:
            runs.client.set_tag(run_id, name, value[:_MAX_TAG])
    if stop_reason is None and parent.info.status != "RUNNING":
        runs.client.update_run(run_id, status="RUNNING")
    elif stop_reason is not None and parent.info.status != "FINISHED":
        runs.client.set_terminated(run_id, "FINISHED")
