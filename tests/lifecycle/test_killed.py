"""The process of ``AxOptimizeOperator`` is killed at random moments: one result, every trial, each app once."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher import torchx_launcher
from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.optimizer import engine as optimizer
from tests.lifecycle.rig import SPEC
from tests.operators.conftest import FakeTaskInstance

#: Imported here, so that a forked process need not import them.
PRELOADED = (optimizer, torchx_launcher)
COMPONENT = f"{Path(__file__).with_name('components.py')}:app"
TRIALS, KILLS, PARALLELISM = 20, 20, 2
#: The apps alone take TRIALS / PARALLELISM times this, which is more than all moments together.
APP_SECONDS = 1.0


def work(folder: Path, try_number: int) -> None:
    operator = AxOptimizeOperator(
        task_id="optimize",
        experiment=SPEC,
        component=COMPONENT,
        component_args={"folder": str(folder), "seconds": APP_SECONDS},
        max_trials=TRIALS,
        parallelism=PARALLELISM,
        propose_ahead=1,
        poll_interval=0.05,
        scheduler_args={"max_parallel": 10},
        deferrable=False,
    )
    task: Any = {"ti": FakeTaskInstance("optimize", try_number=try_number, max_tries=100)}
    result = operator.execute(task)
    with (folder / "results").open("a") as file:
        file.write(json.dumps(result) + "\n")


def test_twenty_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    store = AxHook().store  # with its tables: many processes are killed, but not in the migration
    moments = [random.uniform(0.0, 0.45) for _ in range(KILLS)]
    print("moments:", moments)
    fork = multiprocessing.get_context("fork")
    for number, moment in enumerate(moments):
        process = fork.Process(target=work, args=(tmp_path, number + 1))
        process.start()
        process.join(moment)
        process.kill()
        process.join()
        assert process.exitcode == -9
    last = fork.Process(target=work, args=(tmp_path, KILLS + 1))
    last.start()
    last.join()
    assert last.exitcode == 0

    (line,) = (tmp_path / "results").read_text().splitlines()
    result = json.loads(line)
    assert (result["n_trials"], result["trials"]) == (TRIALS, {"COMPLETED": TRIALS})
    assert result["stop_reason"] == f"max_trials: the experiment has {TRIALS} trials"
    trials, runs = store.trials("loop"), store.attempts("loop")
    assert [trial.index for trial in trials] == list(range(TRIALS))
    assert [(run.trial_index, run.number) for run in runs] == [(index, 1) for index in range(TRIALS)]
    started = Counter((tmp_path / "starts").read_text().split())
    assert started == Counter(run.submission_key for run in runs)
    assert result["best"]["parameters"]["x"] == min(trial.parameters["x"] for trial in trials)
    assert [p for p in psutil.pids() if mentions(p, str(tmp_path))] == []


def mentions(pid: int, text: str) -> bool:
    try:
        return text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
