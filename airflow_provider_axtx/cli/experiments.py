"""Commands that look at experiments."""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import TYPE_CHECKING

from airflow_provider_axtx.cli.common import command, hook_of, show
from airflow_provider_axtx.core.errors import StoreNotFoundError
from airflow_provider_axtx.core.records import final_means
from airflow_provider_axtx.core.usage import saved_by, usage_of

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from airflow_provider_axtx.core.records import AttemptRecord


@command
def list_experiments(args: Namespace) -> None:
    """Print a line for each experiment: its trials, those that run or have ended by status, and why it ended."""
    try:
        summaries = hook_of(args).existing_store.summaries()
    except StoreNotFoundError as error:
        print(error, file=sys.stderr)
        summaries = []
    statuses = ("COMPLETED", "EARLY_STOPPED", "FAILED", "ABANDONED", "RUNNING")
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
    """Print each trial of an experiment: status, parameters, final metrics, attempts, app handle, usage, why."""
    store = hook_of(args).existing_store
    snapshot = store.snapshot(args.experiment)
    metrics = final_means(snapshot.observations)
    attempts = _by_trial(store.attempts(args.experiment))
    last = {index: of[-1] for index, of in attempts.items()}
    rows = [
        {
            "trial": trial.index,
            "status": trial.status,
            "parameters": trial.parameters,
            "metrics": metrics.get(trial.index, {}),
            "attempts": last[trial.index].number if trial.index in last else 0,
            "app_handle": (last[trial.index].app_handle or "") if trial.index in last else "",
            "usage": usage_of(attempts.get(trial.index, ()), time.time()).to_json(),
            "reason": trial.reason or "",
        }
        for trial in snapshot.trials
    ]
    show(rows, args)


@command
def show_experiment(args: Namespace) -> None:
    """Print the definition of an experiment, its trials by status, why it ended, what it has used, and its times."""
    store = hook_of(args).existing_store
    summary = store.summary(args.experiment)
    attempts, now = _by_trial(store.attempts(args.experiment)), time.time()
    details = {
        "experiment": summary.name,
        "stop_reason": summary.stop_reason,
        "trials": sum(summary.trial_counts.values()),
        "planned_trials": summary.planned_trials,
        "trials_by_status": summary.trial_counts,
        "usage": usage_of((one for of in attempts.values() for one in of), now).to_json(),
        "saved": saved_by(store.trials(args.experiment), attempts, now).to_json(),
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
    from airflow_provider_axtx.lifecycle.checkpoints import with_checkpoints

    hook = hook_of(args)
    best = hook.get_best(args.experiment, use_model_predictions=args.use_model_predictions)
    show(with_checkpoints(hook.existing_store, args.experiment, best), args)


def _by_trial(attempts: Iterable[AttemptRecord]) -> dict[int, list[AttemptRecord]]:
    found: dict[int, list[AttemptRecord]] = {}
    for attempt in attempts:
        found.setdefault(attempt.trial_index, []).append(attempt)
    return found


def _as_time(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")
