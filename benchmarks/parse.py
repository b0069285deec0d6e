"""Measures the import of DAG files with operators of this package and with empty operators."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection
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
EMPTY_LOOP = f"""{_HEAD}
from airflow.sdk import TaskGroup, task_group
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)), TaskGroup("tune"):
    before = EmptyOperator(task_id="create")
    for k in range(24):
        generate = EmptyOperator(task_id=f"generate_{{k}}")
        @task_group(group_id=f"round_{{k}}")
        def chain(trial):
            EmptyOperator(task_id="run")
        before >> generate
        before = chain.expand(trial=generate.output)
    before >> EmptyOperator(task_id="reap")
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
# The DAG processor forks a process with Airflow imported for each file. The garbage collector is frozen because a full
# collection takes longer than the import and would hit one file or another by chance.
_PARSE = """
import gc, sys, time
import airflow.dag_processing.processor, airflow.sdk
from pathlib import Path
code = compile(Path(sys.argv[1]).read_text(), sys.argv[1], "exec")
gc.collect()
gc.freeze()
started = time.process_time()
exec(code, {"__name__": "dag_file", "__file__": sys.argv[1]})
print(time.process_time() - started)
"""
_FILES = {
    "100 empty operators": EMPTY,
    "100 operators of this package": OPERATORS,
    "50 empty operators in the groups of ax_trial_loop": EMPTY_LOOP,
    "ax_trial_loop, 50 tasks": LOOP,
}
#: DAG with operators of this package -> the same DAG with empty operators.
_SAME = {
    "100 operators of this package": "100 empty operators",
    "ax_trial_loop, 50 tasks": "50 empty operators in the groups of ax_trial_loop",
}
MAX_EXTRA_SECONDS = 0.05


def measure(report: Report, repeats: int, names: Collection[str] = tuple(_FILES)) -> None:
    """Import each DAG file in separate processes."""
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        sides = {}
        for number, name in enumerate(names):
            file = Path(folder, f"dag_{number}.py")
            file.write_text(_FILES[name])
            sides[name] = functools.partial(in_fresh_process, _PARSE, str(file), AIRFLOW_HOME=folder)
            sides[name]()  # writes the byte code that an installed package has
        found = interleaved(sides, repeats)
    table = Table("Import of a DAG file, by a process that has Airflow imported", ["DAG", "time", "more than empty"])
    for name, samples in found.items():
        report.add(name, samples)
        extra = samples.median - found[_SAME[name]].median if name in _SAME else None
        table.rows.append([name, samples.shown("ms"), "-" if extra is None else f"{extra * 1e3:.1f} ms"])
        if extra is not None:
            what = f"seconds that {name} take more than the same DAG of empty operators"
            report.checks.append(Check(what, extra, MAX_EXTRA_SECONDS))
    report.tables.append(table)


def run(quick: bool) -> Report:
    """Measure the import of each DAG file."""
    report = Report("parse", quick)
    measure(report, 3 if quick else 11)
    report.notes.append("Processor time, which does not depend on how busy the machine is.")
    return report
