"""Makes the JSON objects that the page shows from the experiment store's rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.output_line import without_line
from airflow_provider_axtx.core.records import AIRFLOW, AttemptRecord, Observation, final_means
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.core.steering import Action, Change, Steering
from airflow_provider_axtx.plugin.ranked import Ranked
from airflow_provider_axtx.spec.ranking import Goal
from airflow_provider_axtx.store.views import ExperimentLine, ExperimentView, TrialView

#: The status of an experiment of which a user wants something else than that it runs, by whether a trial is open.
_STEERED = {
    (Action.PAUSE, True): "pausing",
    (Action.PAUSE, False): "paused",
    (Action.DRAIN, True): "draining",
    (Action.DRAIN, False): "drained",
    (Action.STOP, True): "stopping",
    (Action.STOP, False): "stopped",
}
#: Changes that are sent, the latest ones.
_SHOWN_CHANGES = 100


def line_json(line: ExperimentLine, ranked: Ranked) -> dict[str, Any]:
    """Return an experiment's line in the list."""
    best = ranked.standing.best
    return {
        **head_json(line),
        "problem": ranked.problem,
        "objective": [_goal_json(goal) for goal in ranked.goals],
        "best": None if best is None else {"trial_index": best, "value": ranked.best_value},
        "frontier": len(ranked.standing.frontier) if len(ranked.goals) > 1 else None,
    }


def head_json(line: ExperimentLine) -> dict[str, Any]:
    """Return the facts of an experiment that do not need its trials."""
    summary, planned = line.summary, line.summary.planned_trials
    total = sum(summary.trial_counts.values())
    ended = sum(number for status, number in summary.trial_counts.items() if is_terminal_trial_status(status))
    has_results = bool(summary.trial_counts.keys() & {"COMPLETED", "EARLY_STOPPED"})
    if ended < total and not summary.stop_reason:
        status = "running"
    elif not total:
        status = "finished" if summary.stop_reason else "new"
    elif summary.stop_reason or (planned is not None and total >= planned):
        status = "finished" if has_results or ended < total else "all_failed"
    else:
        status = "idle"
    steering = line.steering
    planned = steering.limits.get("max_trials", planned)
    return {
        "name": summary.name,
        "status": _STEERED.get((steering.state, ended < total), status),
        "tags": list(steering.tags),
        "archived": steering.archived,
        "stop_reason": summary.stop_reason,
        "trial_counts": summary.trial_counts,
        "trials": total,
        "ended": ended,
        "planned_trials": None if planned is None else max(planned, total),
        "created_at": summary.created_at,
        "last_activity_at": summary.last_activity_at,
        "ax_version": summary.ax_version,
    }


def experiment_json(
    view: ExperimentView, ranked: Ranked, *, since: float | None, is_ranked: bool = True, shows_output: bool = False
) -> dict[str, Any]:
    """Return an experiment with the trials of the view.

    :param since: cursor of the browser's last answer, None before the first. The definition is sent with the first
        answer, and when it has been changed since.
    :param is_ranked: whether it is known how the experiment stands; the browser asks again if not.
    :param shows_output: whether the reasons of failures may tell what the apps wrote.
    """
    found, spec = ranked.standing, ranked.spec
    changed_at = [change.settled_at or 0.0 for change in view.line.changes if change.changes_definition]
    is_new = since is None or max(changed_at, default=0.0) >= since
    return {
        **head_json(view.line),
        **({} if spec is None or not is_new else {"spec": json.loads(view.line.definition)}),
        "is_ranked": is_ranked,
        "problem": ranked.problem,
        "description": "" if spec is None else spec.description,
        "objective": [_goal_json(goal) for goal in ranked.goals],
        "metrics": [] if spec is None else list(spec.metric_names),
        "best": found.best,
        "best_so_far": _improvements(found.best_so_far),
        "frontier": found.frontier,
        "infeasible": found.infeasible,
        "has_curves": view.has_curves,
        "explained_at": view.explained_at,
        "analysed_at": view.analysed_at,
        "steering": steering_json(view.line.steering),
        "changes": [change_json(change) for change in view.line.changes[-_SHOWN_CHANGES:]],
        "cursor": view.cursor,
        "trial_list": trials_json(view.trials, ranked.goals, shows_output=shows_output),
    }


def trials_json(
    trials: Sequence[TrialView], wanted: Sequence[Goal], *, shows_output: bool = False
) -> list[dict[str, Any]]:
    """Return trials with their attempts and final values.

    :param wanted: the objectives, whose values each trial has.
    :param shows_output: whether the reasons of failures may tell what the apps wrote.
    """
    return [_trial_json(trial, wanted, _as_it_is if shows_output else without_line) for trial in trials]


def steering_json(steering: Steering) -> dict[str, Any]:
    """Return what is wanted of an experiment now."""
    asked = steering.state_change
    return {
        "state": steering.state,
        "asked": None if asked is None else change_json(asked),
        "limits": steering.limits,
        "open": [change.position for change in steering.open_requests],
    }


def change_json(change: Change) -> dict[str, Any]:
    """Return a change that a user has asked for."""
    return {
        "position": change.position,
        "request_id": change.request_id,
        "action": change.action,
        "trial_index": change.trial_index,
        "arguments": change.shown_arguments,
        "reason": change.reason,
        "requested_by": change.requested_by,
        "requested_at": change.requested_at,
        "via": change.via,
        "is_open": change.is_open,
        "settled_at": change.settled_at,
        "outcome": change.outcome,
    }


def curves_json(observed: list[Observation]) -> dict[str, dict[str, list[list[float]]]]:
    """Return ``{metric: {trial index: [[step, mean], ...]}}``."""
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for one in observed:
        if one.step is not None:
            curves.setdefault(one.metric, {}).setdefault(str(one.trial_index), []).append([one.step, one.mean])
    return curves


def cards_json(cards: list[AnalysisCard]) -> list[dict[str, Any]]:
    """Return the heading of each analysis card."""
    return [
        {"title": card.title, "subtitle": card.subtitle, "section": card.section, "kind": card.kind} for card in cards
    ]


def explanation_json(cards: list[AnalysisCard]) -> dict[str, Any]:
    """Return what the model says, by kind of chart."""
    return {"charts": [{"name": card.name, "title": card.title, **card.data} for card in cards]}


def _improvements(best_so_far: Sequence[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """Return the points at which the best value changes, and the last one: the line through them is the same."""
    return [
        point
        for i, point in enumerate(best_so_far)
        if i in (0, len(best_so_far) - 1) or point[1] != best_so_far[i - 1][1]
    ]


def _goal_json(goal: Goal) -> dict[str, Any]:
    return {"label": goal.label, "minimize": goal.minimize}


def _as_it_is(text: str) -> str:
    return text


def _trial_json(trial: TrialView, wanted: Sequence[Goal], told: Callable[[str], str]) -> dict[str, Any]:
    means = final_means(trial.observations).get(trial.record.index, {})
    return {
        "index": trial.record.index,
        "arm": trial.record.arm_name,
        "status": trial.record.status,
        "reason": trial.record.reason and told(trial.record.reason),
        "parameters": trial.record.parameters,
        "metrics": {one.metric: [one.mean, one.sem] for one in trial.observations},
        "values": [goal.value(means) for goal in wanted],
        "node": trial.record.generation_node,
        "origin": trial.record.origin,
        "created_at": trial.created_at,
        "completed_at": trial.completed_at,
        "attempts": [_attempt_json(attempt, told) for attempt in trial.attempts],
    }


def _attempt_json(attempt: AttemptRecord, told: Callable[[str], str]) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "scheduler": attempt.scheduler,
        "app_handle": attempt.app_handle,
        "app_state": attempt.app_state,
        "message": attempt.message and told(attempt.message),
        "cancel_reason": attempt.cancel_reason,
        "requested_at": attempt.requested_at,
        "submitted_at": attempt.submitted_at,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "finished_at": attempt.finished_at,
        "cpus": attempt.cpus,
        "gpus": attempt.gpus,
        "prices": attempt.prices,
        "task": _task_json(attempt),
    }


def _task_json(attempt: AttemptRecord) -> list[str | int | None] | None:
    """Return the task instance behind an attempt, with its try; without an app, the first of the trial's tasks."""
    task = attempt.identity
    if attempt.scheduler == AIRFLOW and attempt.app_handle is not None:
        return [task.dag_id, task.run_id, attempt.app_handle.rpartition("/")[2], task.map_index, None]
    return [task.dag_id, task.run_id, task.task_id, task.map_index, task.try_number] if task.dag_id else None
