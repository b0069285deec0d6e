"""What a DAG file of this package costs the dag processor, against the same DAG of empty operators."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from benchmarks.harness import Check, Report, Table, in_fresh_process, interleaved

_HEAD = """
import datetime
from airflow.sdk import DAG
"""
EMPTY = f"""{_HEAD}
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    before = None
    for k in range(100):
        task = EmptyOperator(task_id=f"task_{{k}}")
        if before:
            before >> task
        before = task
"""
OPERATORS = f"""{_HEAD}
from airflow_provider_axtx.operators.ax import AxCompleteTrialOperator, AxGenerateTrialOperator
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    before = None
    for k in range(25):
        trial = AxGenerateTrialOperator(task_id=f"generate_{{k}}", experiment_name="booth")
        run = TorchXSubmitTrialOperator(task_id=f"submit_{{k}}", trial=trial.output, component="utils.booth")
        ended = TorchXTrialSensor(task_id=f"wait_{{k}}", run=run.output)
        done = AxCompleteTrialOperator(task_id=f"complete_{{k}}", run=ended.output)
        if before:
            before >> trial
        before = done
"""
LOOP = f"""{_HEAD}
from airflow_provider_axtx.task_groups import ax_trial_loop
EXPERIMENT = {{
    "name": "booth",
    "parameters": [
        {{"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]}},
        {{"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]}},
    ],
    "objective": "-booth_eval",
}}
with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ax_trial_loop("tune", experiment=EXPERIMENT, component="utils.booth", rounds=24)
"""
# The dag processor forks a process for each file, with Airflow imported.
_PARSE = """
import sys, time
import airflow.dag_processing.processor, airflow.sdk
from pathlib import Path
code = compile(Path(sys.argv[1]).read_text(), sys.argv[1], "exec")
started = time.perf_counter()
exec(code, {"__name__": "dag_file", "__file__": sys.argv[1]})
print(time.perf_counter() - started)
"""
_FILES = {
    "100 empty operators": EMPTY,
    "100 operators of this package": OPERATORS,
    "ax_trial_loop, 98 tasks": LOOP,
}
MAX_EXTRA_SECONDS = 0.05


def measure(report: Report, repeats: int) -> Table:
    """Import each DAG file in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        sides = {}
        for number, (name, code) in enumerate(_FILES.items()):
            file = Path(folder, f"dag_{number}.py")
            file.write_text(code)
            sides[name] = functools.partial(in_fresh_process, _PARSE, str(file), AIRFLOW_HOME=folder)
        found = interleaved(sides, repeats)
    base = found["100 empty operators"].median
    table = Table("Import of a DAG file, by a process that has Airflow imported", ["DAG", "time", "more than empty"])
    for name, samples in found.items():
        report.add(name, samples)
        table.rows.append([name, samples.shown("ms"), f"{(samples.median - base) * 1e3:.1f} ms"])
    return table


def run(quick: bool) -> Report:
    """Measure the import of each DAG file."""
    report = Report("parse", quick)
    report.tables.append(measure(report, 5 if quick else 11))
    ours, empty = (report.figures[name] for name in ("100 operators of this package", "100 empty operators"))
    extra = sorted(ours)[len(ours) // 2] - sorted(empty)[len(empty) // 2]
    report.checks.append(Check("seconds more than 100 empty operators", extra, MAX_EXTRA_SECONDS))
    return report
