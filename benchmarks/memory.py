"""Measures the memory of a generating task, of a bare Ax client, and of the supervisor of a local app."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

import psutil

from benchmarks.harness import REPEATS, Check, Report, Table, in_fresh_process, interleaved
from benchmarks.store import NAME, filled

TRIALS = 1000
MAX_RATIO = 1.15
MAX_SUPERVISOR = 12 * 2**20

# Not getrusage, because a process inherits its peak from its parent.
_PEAK = """
lines = dict(line.split(":") for line in open("/proc/self/status"))
print(int(lines["VmHWM"].split()[0]) * 1024)
"""
_OURS = f"""
import sys
from airflow_provider_axtx.lifecycle.generate import generate_trials
from airflow_provider_axtx.store.experiments import ExperimentStore
assert generate_trials(ExperimentStore(sys.argv[1]), {NAME!r}, 1, task_key=f"d/r/{{sys.argv[2]}}/-1").trials
{_PEAK}
"""
_BARE = f"""
import sys
from ax.api.client import Client
assert Client.load_from_json_file(sys.argv[1]).get_next_trials(1)
{_PEAK}
"""
_IMPORT = f"""
from ax.api.client import Client
{_PEAK}
"""


def run(quick: bool) -> Report:
    """Measure peaks in fresh processes."""
    report = Report("memory", quick)
    trials = 100 if quick else TRIALS
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        _generating(report, Path(folder), trials, 1 if quick else REPEATS)
        _supervisor(report, Path(folder))
    return report


def _generating(report: Report, folder: Path, trials: int, repeats: int) -> None:
    from airflow_provider_axtx.optimizer import engine as optimizer

    url = f"sqlite:///{folder / 'store.db'}"
    snapshot = folder / "ax.json"
    optimizer.export_json(filled(url, trials).snapshot(NAME), snapshot)
    tasks = iter(range(repeats))
    found = interleaved(
        {
            "generating task": lambda: in_fresh_process(_OURS, url, str(next(tasks))),
            "bare Ax client": functools.partial(in_fresh_process, _BARE, str(snapshot)),
            "import of Ax alone": functools.partial(in_fresh_process, _IMPORT),
        },
        repeats,
    )
    table = Table(f"Peak memory of a process that generates the next of {trials} trials", ["process", "peak"])
    for name, samples in found.items():
        report.add(name, samples)
        table.rows.append([name, samples.shown("MB")])
    report.tables.append(table)
    ratio = found["generating task"].median / found["bare Ax client"].median
    report.checks.append(Check("peak of a generating task over a bare Ax client's", ratio, MAX_RATIO))
    report.notes.append("The bare client has loaded Ax's JSON snapshot of the same data.")


def _supervisor(report: Report, folder: Path) -> None:
    from benchmarks.local_scheduler import Detached

    side = Detached(folder)
    handles = [side.submit(5.0) for _ in range(2)]
    found = supervisors(folder)
    resident = [float(p.memory_info().rss) for p in found]
    own = [float(p.memory_full_info().uss) for p in found]
    assert len(resident) == len(handles), found
    table = Table("The supervisor of a running app", ["memory", "largest"])
    table.rows.append(["resident", f"{max(resident) / 2**20:.1f} MB"])
    table.rows.append(["not shared with other processes", f"{max(own) / 2**20:.1f} MB"])
    report.tables.append(table)
    report.figures["supervisor"] = resident
    report.checks.append(Check("bytes resident for each running app", max(resident), MAX_SUPERVISOR))
    while side.ended(handles) < len(handles):
        psutil.wait_procs(found, timeout=0.1)


def supervisors(folder: Path) -> list[psutil.Process]:
    """Return the supervisors of the apps below a folder.

    The process from which a supervisor detaches has the same command line and ends at once, and so has the supervisor's
    child until it calls exec. Therefore the second of two listings counts. The apps must run for some seconds.
    """
    psutil.wait_procs(_of_supervisors(folder), timeout=1.0)
    return _of_supervisors(folder)


def _of_supervisors(folder: Path) -> list[psutil.Process]:
    processes = psutil.process_iter(["cmdline", "ppid"])
    of_folder = [process for process in processes if _is_forked(process.info["cmdline"] or [], str(folder))]
    # The process that forks them is this one's child.
    return [process for process in of_folder if process.info["ppid"] != os.getpid()]


def _is_forked(command: list[str], folder: str) -> bool:
    return any(word.endswith("spawner.py") for word in command) and any(folder in word for word in command)
