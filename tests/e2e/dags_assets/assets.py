"""Trials as events of an asset, DAGs that are scheduled on it, and a callback for new best trials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import Context, dag, task

from airflow_provider_axtx.assets import experiment_asset
from airflow_provider_axtx.notifications.new_best import NewBestTrialNotifier
from airflow_provider_axtx.operators.ax import (
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator

EXPERIMENT = {
    "name": "watched",
    "parameters": [
        {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
    ],
    "objective": "-loss",
    "generation": {"initialization_budget": 50, "initialization_random_seed": 1, "random_seed": 1},
}
TRIALS = experiment_asset("watched")
BEST = experiment_asset("watched best")


def results(run: dict[str, Any]) -> dict[str, Any]:
    """Let trial 1 fail; of the others the later one is the better."""
    return {"loss": "bad" if run["trial_index"] == 1 else 10.0 - run["trial_index"]}


def note(context: Context) -> None:
    """Leave a line for each new best trial."""
    with Path(os.environ["AIRFLOW_HOME"], "new_best").open("a") as lines:
        lines.write(f"{context['new_best']['message']}\n")  # type: ignore[typeddict-item]


@dag(schedule=None, catchup=False)
def produces() -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=EXPERIMENT)
    trials = AxGenerateTrialsOperator(task_id="generate", experiment_name=create.output, n=3)
    runs = TorchXRunTrialOperator.partial(
        task_id="run",
        component="axtx.command",
        # Long enough for the task to defer, also on a slow machine: the triggerer's metrics are looked at.
        component_args={"command": ["sh", "-c", "sleep 5", "{x1}", "{x2}"]},
        deferrable=True,
        poke_interval=0.5,
    ).expand(trial=trials.output)
    complete = AxCompleteTrialOperator.partial(
        task_id="complete",
        results=results,
        outlets=[TRIALS],
        on_success_callback=[NewBestTrialNotifier(note, message="trial {{ new_best.trial_index }} of {{ run_id }}")],
        # One after the other: which trial is the best so far is not left to chance.
        max_active_tis_per_dag=1,
    ).expand(run=runs.output)
    complete >> AxBestTrialOperator(task_id="best", experiment_name=create.output, outlets=[BEST])


@dag(schedule=[TRIALS], catchup=False)
def follows_trials() -> None:
    @task
    def seen(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        return [event.extra for event in triggering_asset_events[TRIALS]]

    seen()


@dag(schedule=[BEST], catchup=False)
def follows_best() -> None:
    @task
    def seen(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        return [event.extra for event in triggering_asset_events[BEST]]

    seen()


produces()
follows_trials()
follows_best()
