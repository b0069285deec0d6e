"""The tasks of the DAG ``compress_frontier``, one after the other: its frontier is Ax's own from the same data."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.operators.ax import (
    AxAttachTrialsOperator,
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import standing
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.operators.conftest import Execute
from tests.optimizer.frontier import observed_frontier

FILE = Path(__file__).parents[2] / "dags" / "compress_frontier.py"


def run_all(execute: Execute, component: str, trials: list[dict[str, Any]]) -> None:
    for trial in trials:
        run = TorchXRunTrialOperator(
            task_id="run", trial=trial, component=component, poke_interval=0.05, deferrable=False
        )
        outcome = execute(run, map_index=trial["trial_index"])
        completed = execute(AxCompleteTrialOperator(task_id="complete", run=outcome), map_index=trial["trial_index"])
        assert completed["trial_status"] == "COMPLETED", completed["message"]


def ranked(facts: ExperimentSnapshot) -> list[int]:
    completed = completed_trials(facts.trials, facts.observations)
    return list(standing(ExperimentSpec.load(facts.spec), completed).frontier)


@pytest.mark.filterwarnings("ignore")
def test_the_frontier_of_a_constrained_experiment_with_a_baseline_and_attached_trials(
    execute: Execute, store: ExperimentStore
) -> None:
    spec = importlib.util.spec_from_file_location("compress_frontier", FILE)
    assert spec is not None
    assert spec.loader is not None
    dag = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dag)
    experiment = {**dag.EXPERIMENT, "name": "compress"}
    execute(AxCreateExperimentOperator(task_id="create", experiment=experiment, component=dag.COMPONENT))
    # A setting that was measured before: small and slow, so that the constraint has something to exclude.
    measured = {
        "parameters": {"level": 9, "window": 10, "memory": 2},
        "results": {"size": 1.0, "memory": 1.0, "seconds/mean": 100.0, "seconds/sem": 0.5},
    }
    to_run = execute(
        AxAttachTrialsOperator(task_id="attach", experiment_name="compress", trials=[*dag.KNOWN, measured])
    )
    assert [trial["trial_index"] for trial in to_run] == [0, 1, 2]
    run_all(execute, dag.COMPONENT, to_run)
    generate = AxGenerateTrialsOperator(task_id="generate", experiment_name="compress", n=3)
    run_all(execute, dag.COMPONENT, execute(generate))
    facts = store.snapshot("compress")
    assert [t.origin for t in facts.trials] == ["baseline", *["attached"] * 3, *["generated"] * 3]
    frontier = execute(AxBestTrialOperator(task_id="frontier", experiment_name="compress"))
    indexes = [entry["trial_index"] for entry in frontier]
    assert indexes == ranked(facts)
    assert 3 not in indexes
    # Ax's frontier ignores standard errors, and a measured time may lie within one of the bound.
    exact = replace(facts, observations=tuple(replace(one, sem=None) for one in facts.observations))
    assert ranked(exact) == observed_frontier(facts)
