"""A command that prints and a function: the tuning task is killed at random moments, nothing is lost or doubled."""

from __future__ import annotations

import json
import multiprocessing
import random
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_axtx.core.function_source import packed, source_of
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher import torchx_launcher
from airflow_provider_axtx.operators.ax import AxOptimizeOperator
from airflow_provider_axtx.optimizer import engine as optimizer
from tests.lifecycle.rig import SPEC
from tests.lifecycle.test_killed import mentions
from tests.operators.conftest import FakeTaskInstance

#: Imported here, so that a forked process need not import them.
PRELOADED = (optimizer, torchx_launcher)
TRIALS, KILLS, PARALLELISM = 8, 12, 2
SCRIPT = 'echo "$1" >> "$2/starts"; sleep 1; echo "step 1 loss=9"; echo "step 2 loss=$3"'


def train(x, folder, report):  # type: ignore[no-untyped-def]
    import os
    import pathlib
    import time

    with pathlib.Path(folder, "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(1)
    report(step=1, loss=9)
    report(step=2, loss=x)


def door(name: str, folder: Path) -> dict[str, Any]:
    """Return the arguments of the operator for one kind of trial."""
    if name == "command":
        words = ["/bin/sh", "-c", SCRIPT, "sh", "{tracker_base}", str(folder), "{x}"]
        return {
            "component": "axtx.command",
            "component_args": {"command": words},
            "metrics": {"loss": {"regex": r"step (?P<step>\d+) loss=(?P<value>\S+)"}},
        }
    function = {"function": packed(source_of(train)), "constants": {"folder": str(folder)}, "report": "report"}
    return {"component": "axtx.function", "component_args": function}


def work(name: str, folder: Path, try_number: int) -> None:
    operator = AxOptimizeOperator(
        task_id="optimize",
        experiment=SPEC,
        max_trials=TRIALS,
        parallelism=PARALLELISM,
        propose_ahead=1,
        poll_interval=0.05,
        scheduler_args={"max_parallel": 10},
        deferrable=False,
        **door(name, folder),
    )
    task: Any = {"ti": FakeTaskInstance("optimize", try_number=try_number, max_tries=100)}
    (folder / "result").write_text(json.dumps(operator.execute(task)))


@pytest.mark.parametrize("name", ["command", "function"])
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path, name: str) -> None:
    store = AxHook().store  # with its tables: many processes are killed, but not in the migration
    moments = [random.uniform(0.0, 0.6) for _ in range(KILLS)]
    print("moments:", moments)
    fork = multiprocessing.get_context("fork")
    for number, moment in enumerate(moments):
        process = fork.Process(target=work, args=(name, tmp_path, number + 1))
        process.start()
        process.join(moment)
        process.kill()
        process.join()
    last = fork.Process(target=work, args=(name, tmp_path, KILLS + 1))
    last.start()
    last.join()
    assert last.exitcode == 0

    result = json.loads((tmp_path / "result").read_text())
    assert (result["n_trials"], result["trials"]) == (TRIALS, {"COMPLETED": TRIALS})
    attempts = store.attempts("loop")
    assert [(attempt.trial_index, attempt.number) for attempt in attempts] == [(index, 1) for index in range(TRIALS)]
    started = Counter((tmp_path / "starts").read_text().split())
    assert sorted(started.values()) == [1] * TRIALS
    for trial in store.trials("loop"):
        steps = {o.step: o.mean for o in store.observations("loop", trial.index)}
        assert steps == {1.0: 9.0, 2.0: trial.parameters["x"], None: trial.parameters["x"]}
    assert [p for p in psutil.pids() if mentions(p, str(tmp_path))] == []
