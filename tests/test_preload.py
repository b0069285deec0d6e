"""Warm workers: only where tasks are forked, and what was imported before the fork works after it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_provider_axtx.preload import forks_tasks

AIRFLOW = "/usr/bin/airflow"


@pytest.mark.parametrize(
    ("command", "executor", "expected"),
    [
        (["scheduler"], "LocalExecutor", True),
        (["scheduler", "--skip-serve-logs"], "LocalExecutor", True),
        (["scheduler"], "CeleryExecutor,LocalExecutor", True),
        (["scheduler"], "my.executors.OwnLocalExecutor", True),
        (["scheduler"], "CeleryExecutor", False),
        (["celery", "worker", "-q", "gpu"], "CeleryExecutor", True),
        (["celery", "flower"], "CeleryExecutor", False),
        (["api-server"], "LocalExecutor", False),
        (["dag-processor"], "LocalExecutor", False),
        (["triggerer"], "LocalExecutor", False),
        (["standalone"], "LocalExecutor", False),
        (["tasks", "test", "scheduler"], "LocalExecutor", False),
        ([], "LocalExecutor", False),
    ],
)
def test_only_the_parent_of_forked_tasks_is_warmed(command: list[str], executor: str, expected: bool) -> None:
    assert forks_tasks([AIRFLOW, *command], executor) is expected


def test_a_process_that_does_not_fork_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: "spawn")
    assert not forks_tasks([AIRFLOW, "scheduler"], "LocalExecutor")


# The parent preloads as the scheduler does; its child fits a model in several threads, as a generating task does.
FORK = """
import os, sys, threading
sys.argv = ["airflow", "scheduler"]
descriptors = set(os.listdir("/proc/self/fd"))
from airflow_provider_axtx.preload import preload
assert preload()
assert threading.enumerate() == [threading.main_thread()]
left_open = set(os.listdir("/proc/self/fd")) - descriptors
assert not left_open, [os.readlink(f"/proc/self/fd/{n}") for n in left_open]
modules = set(sys.modules)
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
import tempfile
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.store.experiments import ExperimentStore
spec = ExperimentSpec.load({
    "name": "e", "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
    "objective": "-loss", "generation": {"initialization_budget": 3, "random_seed": 1}})
with tempfile.TemporaryDirectory() as folder:
    store = ExperimentStore(f"sqlite:///{folder}/store.db")
    create_experiment(store, spec, if_exists="fail")
    for n in range(5):
        (trial,) = generate_trials(store, "e", 1, task_key=f"dag/run/generate_{n}/-1").trials
        store.complete("e", n, status="COMPLETED", observations=[Observation(n, "loss", trial.parameters["x"], 0.01)])
    assert store.trial("e", 4).generation_node == "MBM"
assert not {name for name in set(sys.modules) - modules if name.partition(".")[0] in ("ax", "botorch", "torchx")}
"""


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_forked_task_generates_with_what_its_parent_imported(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=600)


OTHER_PROCESS = """
import sys
sys.argv = ["airflow", sys.argv[1]]
from airflow_provider_axtx.preload import preload
assert not preload()
heavy = {"ax", "torch", "torchx"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize("command", ["api-server", "triggerer"])
def test_other_processes_import_nothing(command: str) -> None:
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, command], check=True, timeout=600)
