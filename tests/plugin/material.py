"""Experiments in a store, made quickly through the store's own methods."""

from __future__ import annotations

import math
import random
from typing import Any

from airflow_provider_axtx.core.keys import dag_run_key, task_key
from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.store.experiments import ExperimentStore

SINGLE: dict[str, Any] = {
    "name": "digits",
    "description": "A classifier of handwritten digits",
    "parameters": [
        {"type": "range", "name": "c", "parameter_type": "float", "bounds": [1e-2, 1e3], "scaling": "log"},
        {"type": "range", "name": "pixels", "parameter_type": "int", "bounds": [2, 64], "scaling": "linear"},
        {
            "type": "choice",
            "name": "kernel",
            "parameter_type": "str",
            "values": ["rbf", "sigmoid"],
            "is_ordered": False,
        },
    ],
    "objective": "accuracy",
    "outcome_constraints": ["seconds <= 50"],
}
SEVERAL: dict[str, Any] = {**SINGLE, "name": "tradeoff", "objective": "accuracy, -seconds", "outcome_constraints": []}
DAG, RUN = "tune_digits", "manual__2026-01-01T00:00:00+00:00"


def fill(
    store: ExperimentStore,
    spec: dict[str, Any],
    n: int,
    *,
    dag_id: str = DAG,
    open_trials: int = 0,
    steps: int = 0,
    seed: int = 1,
    metrics: tuple[str, ...] = (),
) -> str:
    """Create an experiment with n trials: most completed, every 17th failed, the last ones still running.

    :param metrics: metrics of random values, besides ``accuracy`` and ``seconds``.
    """
    name, chance = str(spec["name"]), random.Random(seed)
    store.create(name, spec, ax_version="1.3.1")
    trials = tuple(
        ProposedTrial(
            f"{i}_0",
            {
                "c": 10 ** chance.uniform(-2, 3),
                "pixels": chance.randint(2, 64),
                "kernel": chance.choice(["rbf", "sigmoid"]),
            },
            "Sobol" if i < 5 else "MBM",
            {"type": "RUN"},
        )
        for i in range(n)
    )
    key = task_key(dag_run_key(dag_id, RUN), "tune.generate_0", -1)
    records = store.add_trials(name, Proposal(trials, {"n": n}), task_key=key, first_slot=0, expected_version=0)
    for record in records:
        identity = TaskIdentity(dag_id, RUN, "tune.round_0.submit", record.index, 1, 0, "torchx_default")
        attempt = store.begin_attempt(
            name, record.index, scheduler="local_detached", identity=identity, tracker_root="/results"
        )
        attempt = store.record_handle(attempt, f"local_detached://torchx/{attempt.submission_key}")
        if record.index >= n - open_trials:
            continue
        if record.index % 17 == 16:
            store.finish_attempt(attempt, "FAILED", "exit code 1")
            store.complete(name, record.index, status="FAILED", reason="exit code 1: <b>out of memory</b>")
            continue
        store.finish_attempt(attempt, "SUCCEEDED", "")
        observed = _observed(record.index, record.parameters, steps)
        observed += [Observation(record.index, metric, chance.random()) for metric in metrics]
        store.complete(name, record.index, status="COMPLETED", observations=observed)
    return name


def _observed(index: int, parameters: dict[str, Any], steps: int) -> list[Observation]:
    closeness = abs(math.log10(parameters["c"]) - 1) / 4 + abs(parameters["pixels"] - 30) / 80
    accuracy = 0.98 - closeness * 0.6 - (0.08 if parameters["kernel"] == "sigmoid" else 0.0)
    seconds = 5 + parameters["pixels"] * 0.9 + math.log10(parameters["c"]) * 2
    curve = [Observation(index, "accuracy", accuracy * (1 - 0.8 ** (s + 1)), None, float(s)) for s in range(steps)]
    return [*curve, Observation(index, "accuracy", accuracy, 0.004), Observation(index, "seconds", seconds)]
