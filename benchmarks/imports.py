"""Measures what the task of each step of a trial imports and how long it takes."""

from __future__ import annotations

import os
import statistics
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
#: The steps that use Ax: to check a new experiment, and to propose a trial.
ASK_AX = ("create", "generate")


def one_life(*options: str) -> dict[str, dict[str, Any]]:
    """Run the steps of one trial, each in a new interpreter, and return their output."""
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as home:
        environ = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        handover = str(Path(home, "handover.json"))
        return {step: in_fresh_process(_STEP, step, handover, *options, PATH=path, **environ) for step in STEPS}


def run(quick: bool) -> Report:
    """Measure the steps of several trials."""
    report = Report("imports", quick)
    lives = [(one_life(), one_life("warm")) for _ in range(1 if quick else REPEATS)]
    cold, warm = zip(*lives, strict=True)
    parts = tuple(warm[0][STEPS[0]]["parts"])
    loaded = Table(
        "Time of each task, without the start of Airflow",
        ["task", "cold", "warm", "modules loaded when cold", "heavy libraries loaded"],
    )
    where = Table("Where a warm task spends its time", ["task", *parts, "other"])
    for step in STEPS:
        times = (
            report.add(f"{step}_{which}", Samples(tuple(life[step]["seconds"] for life in side)))
            for which, side in (("cold", cold), ("warm", warm))
        )
        last = cold[-1][step]
        heavy = ", ".join(last["heavy"]) or "none"
        loaded.rows.append([step, *(each.shown() for each in times), str(last["modules"]), heavy])
        spent = [statistics.median(life[step]["parts"][part] for life in warm) for part in parts]
        rest = statistics.median(life[step]["seconds"] - sum(life[step]["parts"].values()) for life in warm)
        where.rows.append([step, *(f"{seconds * 1e3:.0f} ms" for seconds in (*spent, rest))])
        if step not in ASK_AX:
            report.checks.append(Check(f"heavy libraries loaded by {step}", len(last["heavy"]), 0))
    report.tables += [loaded, where]
    report.notes.append(
        "Warm: the task starts with the modules that `preload` imports in the executor's parent process. The tasks are "
        "those of the first trial of an experiment."
    )
    return report
