"""A task that submits to a scheduler of one host says so where other tasks may run on other hosts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_axtx.operators._new_trials import warn_of_other_hosts

SEVERAL = "CeleryExecutor,team:KubernetesExecutor"


@pytest.mark.parametrize(
    ("executor", "scheduler", "queue", "count"),
    [
        (SEVERAL, "local_detached", "default", 1),
        (SEVERAL, "local_docker", "default", 1),
        (SEVERAL, "local_detached", "gpu-host-1", 0),
        (SEVERAL, "slurm", "default", 0),
        ("LocalExecutor", "local_detached", "default", 0),
    ],
)
def test_it_is_said_before_a_trial_runs(
    executor: str, scheduler: str, queue: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    said: list[str] = []
    task: Any = SimpleNamespace(
        queue=queue, log=SimpleNamespace(warning=lambda text, *words: said.append(text % words))
    )
    warn_of_other_hosts(task, scheduler)
    assert len(said) == count
    assert all("CeleryExecutor, KubernetesExecutor" in text and "queue of its own" in text for text in said)
