"""Commands that look at experiments."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

from airflow_provider_axtx.cli.common import command, hook_of, show
from airflow_provider_axtx.core.errors import StoreNotFoundError
from airflow_provider_axtx.core.records import final_means

if TYPE_CHECKING:
    from argparse import Namespace


@command
def list_experiments(args: Namespace) -> None:
    """Print a line for each experiment: its trials by status and why it ended."""
    try:
        summaries = hook_of(args).existing_store.summaries()
    except StoreNotFoundError as error:
        print(error, file=sys.stderr)
        summaries = []
    statuses = ("COMPLETED", "FAILED", "ABANDONED", "RUNNING")
    rows = [
        {
            "experiment": summary.name,
            "trials": sum(summary.trial_counts.values()),
            **{status: summary.trial_counts.get(status, 0) for status in statuses},
            "stop_reason": summary.stop_reason or "",
        }
        for summary in summaries
    ]
    show(rows, args)


@command
def list_trials(args: Namespace) -> None:
    """Print a line for each trial of an experiment: status, parameters, metrics, attempts, app handle, reason."""
    store = hook_of(args).existing_store
    snapshot = store.snapshot(args.experiment)
    metrics = final_means(snapshot.observations)
    last = {attempt.trial_index: attempt for attempt in store.attempts(args.experiment)}
    rows = [
        {
            "trial": trial.index,
            "status": trial.status,
            "parameters": trial.parameters,
            "metrics": metrics.get(trial.index, {}),
            "attempts": last[trial.index].number if trial.index in last else 0,
            "app_handle": (last[trial.index].app_handle or "") if trial.index in last else "",
            "reason": trial.reason or "",
        }
        for trial in snapshot.trials
    ]
    show(rows, args)


@command
def show_experiment(args: Namespace) -> None:
    """Print the definition of an experiment, its trials by status, why it ended, and its times."""
    store = hook_of(args).existing_store
    summary = store.summary(args.experiment)
    details = {
        "experiment": summary.name,
        "stop_reason": summary.stop_reason,
        "trials": sum(summary.trial_counts.values()),
        "planned_trials": summary.planned_trials,
        "trials_by_status": summary.trial_counts,
        "created_at": _as_time(summary.created_at),
        "last_activity_at": _as_time(summary.last_activity_at),
        "ax_version": summary.ax_version,
        "definition": store.spec(args.experiment),
    }
    if args.output in ("json", "yaml"):
        show([details], args)
    else:
        # As `airflow dags details`.
        rows = [{"property_name": name, "property_value": value} for name, value in details.items()]
        show(rows, args)


@command
def show_best(args: Namespace) -> None:
    """Print the best trial, or with several objectives a line for each trial of the Pareto frontier.

    It is the result of `AxBestTrialOperator`. Metrics are shown as mean and standard error.
    """
    best = hook_of(args).get_best(args.experiment, use_model_predictions=args.use_model_predictions)
    show(best, args)


def _as_time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
