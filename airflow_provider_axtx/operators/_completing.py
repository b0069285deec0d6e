"""What several operators do with an outcome: complete a trial, announce the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.assets import best_extra, fill_outlets, is_experiment_asset, trial_extra
from airflow_provider_axtx.core.inputs import as_object, is_given
from airflow_provider_axtx.core.xcom import SubmittedTrial, TrialOutcome
from airflow_provider_axtx.operators._app_request import prune_checkpoints
from airflow_provider_axtx.operators._metrics import count_trial, count_usage
from airflow_provider_axtx.operators.base import LineageMixin, as_given

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.app_observation import AppObservation
    from airflow_provider_axtx.core.checkpoints import Keep
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.store.experiments import ExperimentStore


def complete_from_task(
    task: LineageMixin, context: Context, store: ExperimentStore, run: Mapping[str, Any], results: object, keep: Keep
) -> dict[str, Any]:
    """Read the results of a run that has ended, record the outcome and tell it: log, stats, lineage, assets.

    :param run: the run as JSON, with its terminal ``trial_status``.
    :param results: as for ``AxCompleteTrialOperator``.
    :param keep: of which trials of the experiment the checkpoints are kept.
    :return: the run with ``metrics``, ``usage`` and the final ``trial_status``.
    """
    from airflow_provider_axtx.lifecycle.complete import complete_trial
    from airflow_provider_axtx.lifecycle.ownership import require_own

    outcome = TrialOutcome.from_json(run)
    require_own(store, outcome.experiment, context["ti"].dag_id)
    results = as_given(results)
    given = None if not is_given(results) else results if callable(results) else as_object("results", results)
    completed = complete_trial(store, outcome, given)
    if outcome.trial_status == "COMPLETED":
        # Any other one was counted by the task that saw its app end.
        count_trial(task, completed["trial_status"])
    return _told(task, context, store, completed, keep)


def complete_body(
    task: LineageMixin,
    context: Context,
    store: ExperimentStore,
    trial: object,
    ended: AppObservation,
    results: object,
    keep: Keep,
) -> dict[str, Any]:
    """Record how the tasks have ended that did a trial's work, and tell it as ``complete_from_task`` does.

    :param trial: what ``AxStartTrialOperator`` returned.
    :param ended: how they have ended.
    :param results: what they returned; None reads the tracker.
    :param keep: of which trials the checkpoints stay.
    """
    from airflow_provider_axtx.lifecycle.body import end_body
    from airflow_provider_axtx.lifecycle.ownership import require_own

    started = SubmittedTrial.from_json(as_object("trial", trial))
    require_own(store, started.experiment, context["ti"].dag_id)
    completed = end_body(store, started, ended, results)
    count_trial(task, completed["trial_status"])
    return _told(task, context, store, completed, keep)


def _told(
    task: LineageMixin, context: Context, store: ExperimentStore, completed: dict[str, Any], keep: Keep
) -> dict[str, Any]:
    experiment = completed["experiment"]
    task.note_lineage(experiment, [completed])
    used = count_usage(task, store.attempts(experiment, completed["trial_index"]))
    prune_checkpoints(task, store, experiment, keep)
    _fill_outlets(task, context, store, completed)
    if completed["trial_status"] == "COMPLETED":
        task.log.info("Trial %(trial_index)s COMPLETED: %(metrics)s", completed)
    else:
        task.log.warning("Trial %(trial_index)s %(trial_status)s: %(message)s", completed)
    return {**completed, "usage": used.to_json()}


def _fill_outlets(task: LineageMixin, context: Context, store: ExperimentStore, completed: dict[str, Any]) -> None:
    if not any(map(is_experiment_asset, task.outlets)):
        return
    if completed["trial_status"] == "COMPLETED":
        from airflow_provider_axtx.spec.experiment import ExperimentSpec

        spec = ExperimentSpec.from_store(store.spec(completed["experiment"]))
        fill_outlets(context, task.outlets, trial_extra(spec, completed))
    else:
        drop_outlets(task)


def drop_outlets(task: LineageMixin) -> None:
    """Let no ``ax://`` outlet get an event.

    Airflow gives every outlet of a task that succeeds an event; who waits for results wants none without any.
    """
    task.outlets = [outlet for outlet in task.outlets if not is_experiment_asset(outlet)]


def announce_best(
    task: LineageMixin,
    context: Context,
    store: ExperimentStore,
    spec: ExperimentSpec,
    best: Sequence[dict[str, Any]],
) -> dict[str, Any] | list[dict[str, Any]]:
    """Tell what is best: log, lineage, assets.

    :param best: the best trial, or those of the Pareto frontier, as ``optimizer.best`` returns them.
    :return: the best trial with ``checkpoint_dir``, or the list for several objectives.
    """
    from airflow_provider_axtx.lifecycle.checkpoints import with_checkpoints

    for entry in best:
        task.log.info("Best: trial %(trial_index)s, %(parameters)s, %(metrics)s", entry)
    task.note_lineage(spec.name, best)
    fill_outlets(context, task.outlets, best_extra(spec, best))
    told = with_checkpoints(store, spec.name, best)
    return told if spec.is_multi_objective else told[0]
