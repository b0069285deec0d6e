"""Prepares data, tunes a model in parallel, trains the best one and publishes it; a second DAG deploys it.

``platform_pipeline`` loads the images, runs an experiment on them in one deferrable task, trains the model with the
best parameters, and publishes the asset ``tuned_digits`` with these parameters in its event. ``deploy_digits`` runs
whenever the asset is updated and reads the parameters from the event.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import Asset, Metadata, dag, task

from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator

COMPONENT = f"{Path(__file__).parent / 'apps' / 'components.py'}:digits"
TUNED = Asset("tuned_digits")

EXPERIMENT = {
    "name": "platform-{{ run_id }}",
    "parameters": [
        {"type": "range", "name": "c", "parameter_type": "float", "bounds": [1e-2, 1e3], "scaling": "log"},
        {"type": "range", "name": "gamma", "parameter_type": "float", "bounds": [1e-4, 1.0], "scaling": "log"},
        {"type": "range", "name": "pixels", "parameter_type": "int", "bounds": [2, 64]},
    ],
    "objective": "accuracy",
    "generation": {"initialization_budget": 4, "initialization_random_seed": 1, "random_seed": 1},
}
SETTINGS: dict[str, Any] = {
    "start_date": pendulum.datetime(2026, 1, 1),
    "catchup": False,
    "tags": ["ax", "torchx"],
    "doc_md": __doc__,
}


@dag(schedule=None, params={"trials": 8, "parallelism": 2}, default_args={"retries": 1}, **SETTINGS)
def platform_pipeline() -> None:
    @task
    def prepare() -> dict[str, int]:
        from apps.digits import data

        train, held_out, _, _ = data()
        return {"train": len(train), "held_out": len(held_out)}

    optimize = AxOptimizeOperator(
        task_id="optimize",
        experiment=EXPERIMENT,
        component=COMPONENT,
        component_args={"kernel": "rbf", "folds": 3},
        max_trials="{{ params.trials }}",
        parallelism="{{ params.parallelism }}",
        max_failure_rate=0.5,
        max_seconds=1800,
        on_stop="cancel",
        trial_retries=1,
        poll_interval=2,
        deferrable=True,
    )

    @task
    def train(tuned: dict[str, Any]) -> dict[str, Any]:
        from apps.digits import held_out_score

        best = tuned["best"]
        score = held_out_score({"kernel": "rbf", **best["parameters"]})
        print(f"Accuracy on held-out images with {best['parameters']}: {score:.4f}")
        return {"experiment": tuned["experiment"], "parameters": best["parameters"], "held_out_accuracy": score}

    @task(outlets=[TUNED])
    def publish(model: dict[str, Any]) -> Any:
        yield Metadata(TUNED, extra=model)

    prepared = prepare()
    # Ends the apps and trials that a failed or aborted DAG run has left open.
    reap = TorchXReapTrialsOperator(task_id="reap").as_teardown(setups=prepared)
    prepared >> optimize >> reap
    publish(train(optimize.output))


@dag(schedule=[TUNED], **SETTINGS)
def deploy_digits() -> None:
    @task
    def deploy(*, triggering_asset_events: dict[Any, Any]) -> dict[str, Any]:
        event = triggering_asset_events[TUNED][-1]
        print(f"Deploying {event.extra['parameters']}, {event.extra['held_out_accuracy']:.4f} on held-out images")
        return dict(event.extra)

    deploy()


platform_pipeline()
deploy_digits()
