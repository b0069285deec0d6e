"""The best parameters run once more with a larger budget, and trials with some parameters fixed."""

from __future__ import annotations

from typing import Any

from airflow_provider_axtx.operators.ax import (
    AxAttachTrialsOperator,
    AxBestTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.lifecycle.rig import SPEC
from tests.operators.conftest import Execute


def test_the_best_runs_again_with_a_larger_budget(execute: Execute, store: ExperimentStore) -> None:
    def run(trial: dict[str, Any], epochs: int) -> dict[str, Any]:
        operator = TorchXRunTrialOperator(
            task_id=f"run_{trial['experiment']}_{trial['trial_index']}",
            trial=trial,
            component="axtx.command",
            component_args={"command": ["sh", "-c", "echo loss=$1 epochs=$2", "sh", "{x}", str(epochs)]},
            metrics={"loss": {"regex": r"loss=(\S+)"}, "epochs": {"regex": r"epochs=(\d+)"}},
            complete=True,
            poke_interval=0.05,
        )
        outcome: dict[str, Any] = execute(operator)
        return outcome

    for name in ("short", "long"):
        execute(AxCreateExperimentOperator(task_id=f"create_{name}", experiment={**SPEC, "name": name}))
    generate = AxGenerateTrialsOperator(
        task_id="generate", experiment_name="short", n=1, fixed_parameters='{"x": 0.25}'
    )
    trials = [*execute(generate), *execute(AxGenerateTrialsOperator(task_id="free", experiment_name="short"))]
    assert trials[0]["parameters"] == {"x": 0.25}
    for trial in trials:
        run(trial, 2)
    best = execute(AxBestTrialOperator(task_id="best", experiment_name="short"))
    attach = AxAttachTrialsOperator(task_id="attach", experiment_name="long", trials={"parameters": best["parameters"]})
    (again,) = execute(attach)
    outcome = run(again, 200)
    assert (outcome["parameters"], outcome["metrics"]["epochs"]["mean"]) == (best["parameters"], 200.0)
    assert [o.mean for o in store.snapshot("short").observations if o.metric == "epochs"] == [2.0, 2.0]
