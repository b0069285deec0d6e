"""How much of its slots' time an experiment with the model uses: apps of 30 seconds that sleep, generation included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import short
from benchmarks.harness import ROOT, Check, Report, Table

APP_SECONDS = 30.0
#: Slots -> number of trials.
SIZES = {4: 40, 16: 160, 32: 192}
LEAST_SHARE = {4: 0.97, 16: 0.97}


def share(slots: int, trials: int, seconds: float, folder: Path) -> float:
    """Run an experiment and return the share of slot time in which an app runs.

    It is counted from the first start until the last start: at the end slots drain, which says nothing about refilling.
    """
    from airflow_provider_axtx.operators.ax import AxOptimizeOperator
    from benchmarks.paths import TaskInstance

    # With fewer of them than slots, slots would wait for their results.
    generation = {"initialization_budget": slots, "initialization_random_seed": 7, "random_seed": 7}
    operator = AxOptimizeOperator(
        task_id="busy",
        experiment=short.experiment("busy", generation),
        component=short.sleeper,
        component_args={"seconds": seconds},
        scheduler_args={"max_parallel": 2 * slots},
        max_trials=trials,
        parallelism=slots,
        poll_interval=short.WOKEN_SECONDS,
        deferrable=False,
    )
    context: Any = {"ti": TaskInstance("busy")}
    operator.execute(context)
    spans = [(one.started_at or 0.0, one.ended_at or 0.0) for one in operator.ax_hook.store.attempts("busy")]
    first, last = min(start for start, _ in spans), max(start for start, _ in spans)
    used = sum(min(end, last) - start for start, end in spans)
    return used / (slots * (last - first))


def _in_own_process(slots: int, trials: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        environ = {**os.environ, "AIRFLOW_HOME": folder, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "benchmarks.busy", str(slots), str(trials), str(seconds), str(answer)]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{slots} slots failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return float(json.loads(answer.read_text()))


def run(quick: bool) -> Report:
    """Measure each number of slots."""
    report = Report("busy", quick)
    table = Table(
        f"Apps of {APP_SECONDS:g} s that sleep, proposed by the model", ["slots", "trials", "slot time in use"]
    )
    for slots, trials in SIZES.items():
        if quick and slots > min(SIZES):
            continue
        used = _in_own_process(slots, trials, APP_SECONDS)
        report.figures[f"{slots} slots"] = used
        table.rows.append([str(slots), str(trials), f"{used:.1%}"])
        if slots in LEAST_SHARE:
            report.checks.append(Check(f"share of slot time in use, {slots} slots", used, LEAST_SHARE[slots], True))
    report.tables.append(table)
    report.notes.append("From the first start of an app until the last one, the time of generation included.")
    return report


if __name__ == "__main__":
    _, given_slots, given_trials, given_seconds, answer_file = sys.argv
    found = share(int(given_slots), int(given_trials), float(given_seconds), Path(answer_file).parent)
    Path(answer_file).write_text(json.dumps(found))
