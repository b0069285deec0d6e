"""The process of ``AxOptimizeOperator`` is killed at random moments while real programs are promoted."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher import torchx_launcher
from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.optimizer import engine as optimizer
from tests.lifecycle.rig import SPEC
from tests.operators.conftest import FakeTaskInstance

#: Imported here, so that a forked process need not import them.
PRELOADED = (optimizer, torchx_launcher)
TRIALS, KILLS = 9, 12
HALVING = {
    "type": "successive_halving",
    "min_resource": 1,
    "reduction_factor": 3,
    "max_resource": 9,
    "promotion": {"argument": "epochs"},
}
#: Goes on from its checkpoint, and writes which epochs it has begun.
TRAIN = """
import os, pathlib, sys, time

x, epochs, begun = sys.argv[1:]
folder = pathlib.Path(os.environ["AXTX_CHECKPOINT_DIR"])
folder.mkdir(parents=True, exist_ok=True)
file = folder / "epoch"
for epoch in range(int(file.read_text()) + 1 if file.exists() else 1, int(epochs) + 1):
    with open(begun, "a") as log:
        log.write(f"{folder.name} {epoch}\\n")
    time.sleep(0.05)
    (folder / "new").write_text(str(epoch))
    (folder / "new").replace(file)
print("loss=" + x)
"""

pytestmark = pytest.mark.thorough


def work(folder: Path, try_number: int) -> None:
    command = [sys.executable, str(folder / "train.py"), "{x}", "{epochs}", str(folder / "begun")]
    operator = AxOptimizeOperator(
        task_id="optimize",
        experiment={**SPEC, "early_stopping": HALVING},
        component="axtx.command",
        component_args={"command": command},
        metrics={"loss": {"regex": r"loss=(\S+)"}},
        max_trials=TRIALS,
        parallelism=2,
        propose_ahead=1,
        poll_interval=0.05,
        scheduler_args={"max_parallel": 10},
        keep_checkpoints="best",
        deferrable=False,
    )
    task: Any = {"ti": FakeTaskInstance("optimize", try_number=try_number, max_tries=100)}
    result = operator.execute(task)
    (folder / "result").write_text(result["stop_reason"])


def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    store = AxHook().store  # with its tables: many processes are killed, but not in the migration
    moments = [random.uniform(0.0, 1.5) for _ in range(KILLS)]
    print("moments:", moments)
    ended = []
    fork = multiprocessing.get_context("fork")
    for number, moment in enumerate(moments):
        process = fork.Process(target=work, args=(tmp_path, number + 1))
        process.start()
        process.join(moment)
        process.kill()
        process.join()
        ended.append(process.exitcode)
    assert -signal.SIGKILL in ended
    last = fork.Process(target=work, args=(tmp_path, KILLS + 1))
    last.start()
    last.join()
    assert last.exitcode == 0

    assert (tmp_path / "result").read_text() == f"max_trials: the experiment has {TRIALS} trials"
    trials, budgets = store.trials("loop"), dict[int, list[float | None]]()
    for attempt in store.attempts("loop"):
        of_trial = budgets.setdefault(attempt.trial_index, [])
        of_trial.append(attempt.budget)
        assert (attempt.number, attempt.app_state) == (len(of_trial), "SUCCEEDED")
    assert all(one in ([1], [1, 3], [1, 3, 9]) for one in budgets.values())
    best = min(trials, key=lambda trial: float(trial.parameters["x"])).index
    assert budgets[best] == [1, 3, 9]
    statuses = {trial.index: trial.status for trial in trials}
    assert statuses == {index: "COMPLETED" if one[-1] == 9 else "EARLY_STOPPED" for index, one in budgets.items()}
    # Each epoch of a trial has run once, over all of its attempts.
    begun = Counter((tmp_path / "begun").read_text().splitlines())
    assert set(begun.values()) == {1}
    assert len(begun) == sum(int(one[-1] or 0) for one in budgets.values())
    assert [pid for pid in psutil.pids() if _mentions(pid, str(tmp_path))] == []


def _mentions(pid: int, text: str) -> bool:
    try:
        return text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
