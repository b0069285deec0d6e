"""What the task of each step of a trial's life imports, and what that costs it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import REPEATS, Check, Report, Samples, Table, in_fresh_process
from benchmarks.paths import STEPS

_STEP = """
import runpy, sys
sys.argv = ["paths", *sys.argv[1:]]
runpy.run_module("benchmarks.paths", run_name="__main__")
"""
#: The steps that ask Ax: once to check a new experiment, and for each trial.
ASK_AX = ("create", "generate")


def one_life() -> dict[str, dict[str, Any]]:
    """Let a trial live once, each step in an interpreter of its own; return what each printed."""
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as home:
        environ = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        handover = str(Path(home, "handover.json"))
        return {step: in_fresh_process(_STEP, step, handover, PATH=path, **environ) for step in STEPS}


def run(quick: bool) -> Report:
    """Measure the steps of some trials."""
    report = Report("imports", quick)
    lives = [one_life() for _ in range(1 if quick else REPEATS)]
    table = Table(
        "The work of each task, without Airflow's own start",
        ["task", "first in a process", "again", "modules loaded", "of Ax, PyTorch and their like"],
    )
    for step in STEPS:
        first, second = (
            report.add(f"{step}_{which}", Samples(tuple(life[step][which] for life in lives)))
            for which in ("first", "second")
        )
        last = lives[-1][step]
        table.rows.append(
            [step, first.shown(), second.shown(), str(last["modules"]), ", ".join(last["heavy"]) or "none"]
        )
        if step not in ASK_AX:
            report.checks.append(Check(f"heavy libraries loaded by {step}", len(last["heavy"]), 0))
    report.tables.append(table)
    report.notes.append("'again' is what a task costs whose executor's parent has preloaded (warm workers).")
    return report
