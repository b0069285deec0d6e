"""An experiment as three tables: its trials, their attempts, their curves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, Literal

from airflow_provider_axtx.core.records import AttemptRecord, ExperimentSnapshot, TrialRecord

Table = Literal["trials", "attempts", "curves"]
Row = dict[str, Any]
TABLES: tuple[Table, ...] = ("trials", "attempts", "curves")
#: Columns that are a time, in seconds since the epoch.
TIMES = ("requested_at", "submitted_at", "started_at", "ended_at", "finished_at", "cancel_requested_at")
_TRIAL = ("trial_index", "arm_name", "trial_status", "origin", "generation_node", "attempts", "reason")
_TASK = ("dag_id", "run_id", "task_id", "map_index", "try_number")
_ATTEMPT = (
    *("trial_index", "number", "scheduler", "app_handle", "app_state", "is_infrastructure_failure", "message"),
    *("cancel_reason", "cpus", "gpus", "host", "tracker_base", *TIMES),
)


def tables(
    snapshot: ExperimentSnapshot,
    attempts: Iterable[AttemptRecord],
    time: Callable[[float], Any] = float,
) -> dict[Table, list[Row]]:
    """Return the tables of an experiment; all rows of one have the same columns, and None is no value.

    :param attempts: its attempts.
    :param time: what a time becomes.
    """
    records = list(attempts)
    rows = [_attempt_row(attempt) for attempt in records]
    for row in rows:
        row |= {name: time(row[name]) for name in TIMES if row[name] is not None}
    curves = [
        {"trial_index": o.trial_index, "metric": o.metric, "step": o.step, "mean": o.mean, "sem": o.sem}
        for o in snapshot.observations
        if o.step is not None
    ]
    return {"trials": _trial_rows(snapshot, records), "attempts": rows, "curves": curves}


def columns(table: Table, rows: list[Row]) -> list[str]:
    """Return the columns of a table, also of one without rows."""
    if rows:
        return list(rows[0])
    return {
        "trials": list(_TRIAL),
        "attempts": [*_ATTEMPT, *_TASK],
        "curves": ["trial_index", "metric", "step", "mean", "sem"],
    }[table]


def iso(seconds: float) -> str:
    """Return a time as ISO text in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()


def _trial_rows(snapshot: ExperimentSnapshot, attempts: list[AttemptRecord]) -> list[Row]:
    parameters = list(dict.fromkeys(name for trial in snapshot.trials for name in trial.parameters))
    finals = [o for o in snapshot.observations if o.step is None]
    means = {(o.trial_index, o.metric): o.mean for o in finals}
    sems = {(o.trial_index, o.metric): o.sem for o in finals if o.sem is not None}
    metrics = list(dict.fromkeys(o.metric for o in finals))
    with_sems = [metric for metric in metrics if any(name == metric for _, name in sems)]
    counts = {trial.index: 0 for trial in snapshot.trials}
    for attempt in attempts:
        counts[attempt.trial_index] = counts.get(attempt.trial_index, 0) + 1
    return [
        {
            **_trial_columns(trial, counts[trial.index]),
            **{f"parameters.{name}": trial.parameters.get(name) for name in parameters},
            **{f"metrics.{name}": means.get((trial.index, name)) for name in metrics},
            **{f"sems.{name}": sems.get((trial.index, name)) for name in with_sems},
        }
        for trial in snapshot.trials
    ]


def _trial_columns(trial: TrialRecord, attempts: int) -> Row:
    values = (trial.index, trial.arm_name, trial.status, trial.origin, trial.generation_node, attempts, trial.reason)
    return dict(zip(_TRIAL, values, strict=True))


def _attempt_row(attempt: AttemptRecord) -> Row:
    return {
        **{name: getattr(attempt, name) for name in _ATTEMPT},
        **{name: getattr(attempt.identity, name) for name in _TASK},
    }
