"""Trials of one second in many slots: ``AxOptimizeOperator`` beside Ax's Orchestrator, Ray Tune and Optuna.

Each side runs the same app, a shell that sleeps and writes its result, and asks for parameters at random (Sobol or
uniform). Each measurement has a process of its own, in which a first small experiment has warmed it up.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import importlib
import json
import math
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchx import specs

from benchmarks import others
from benchmarks.harness import REPEATS, ROOT, Check, Report, Samples, Table, interleaved

APP_SECONDS = 1.0
#: Slots -> number of trials, and the largest wall time over the ideal.
SIZES = {8: (64, 1.15), 16: (160, 1.3), 32: (256, 2.0)}
MAX_CPU_SECONDS = 0.025
POLL_SECONDS = 0.1
#: Seconds between two polls of the operator: the end of a local app wakes it in any case.
WOKEN_SECONDS = 1.0
OURS, AX = "AxOptimizeOperator", "Ax Orchestrator"


def sleeper(x: float, trial_idx: int, tracker_base: str, seconds: float = APP_SECONDS) -> specs.AppDef:
    """Sleep, then report.

    Args:
        x: the parameter
        trial_idx: index of the trial
        tracker_base: where to report
        seconds: how long to sleep
    """
    command = ["-c", others.APP, "sh", str(seconds), tracker_base, str(trial_idx), str(x)]
    resource = specs.Resource(cpu=1, gpu=0, memMB=100)
    return specs.AppDef("sleeper", roles=[specs.Role("sleeper", "", entrypoint="sh", args=command, resource=resource)])


def experiment(name: str, generation: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the experiment's definition."""
    return {
        "name": name,
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
        "objective": "-loss",
        "generation": generation or {"method": "random_search", "initialization_random_seed": 7, "random_seed": 7},
    }


def through_the_operator(slots: int, trials: int, seconds: float, folder: Path) -> None:
    """Run trials with the operator in this process."""
    from airflow_provider_axtx.operators.ax import AxOptimizeOperator
    from benchmarks.paths import TaskInstance

    task_id = f"tune-{trials}"
    operator = AxOptimizeOperator(
        task_id=task_id,
        experiment=experiment(task_id),
        component=sleeper,
        component_args={"seconds": seconds},
        scheduler_args={"max_parallel": 2 * slots},
        max_trials=trials,
        parallelism=slots,
        poll_interval=WOKEN_SECONDS,
        deferrable=False,
    )
    context: Any = {"ti": TaskInstance(task_id)}
    assert operator.execute(context)["trials"] == {"COMPLETED": trials}


def through_the_orchestrator(slots: int, trials: int, seconds: float, folder: Path) -> None:
    """Run trials with Ax's Orchestrator in this process."""
    from ax.metrics.torchx import TorchXMetric
    from ax.orchestration.orchestrator import Orchestrator, OrchestratorOptions
    from ax.runners.torchx import TorchXRunner

    from airflow_provider_axtx.optimizer.rebuild import configured_client, new_strategy
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    spec = ExperimentSpec.load(experiment(f"tune-{trials}"))
    _, of_ax = configured_client(spec, spec.name)
    tracker = str(folder / f"tracker-{trials}")
    of_ax.update_metric(TorchXMetric(name="loss"))
    of_ax.runner = TorchXRunner(
        tracker_base=tracker,
        component=sleeper,
        component_const_params={"seconds": seconds},
        orchestrator="local_cwd",
        cfg={"log_dir": str(folder / "logs")},
    )
    options = OrchestratorOptions(
        max_pending_trials=slots,
        init_seconds_between_polls=POLL_SECONDS,
        min_seconds_before_poll=POLL_SECONDS,
        seconds_between_polls_backoff_factor=1.0,
    )
    Orchestrator(of_ax, new_strategy(spec), options).run_n_trials(max_trials=trials)
    assert all(trial.status.is_completed for trial in of_ax.trials.values())


#: Both sides import these modules before the measurement starts.
MODULES = (
    "airflow_provider_axtx.operators.ax",
    "airflow_provider_axtx.optimizer.engine",
    "ax.orchestration.orchestrator",
    "ax.runners.torchx",
)
SIDES = {OURS: through_the_operator, AX: through_the_orchestrator}


def measure(side: str, slots: int, trials: int, folder: Path, profile: Path | None = None) -> dict[str, float]:
    """Return wall time, CPU time of this process, and the store's transactions, each for all trials."""
    for module in MODULES:
        importlib.import_module(module)
    run = SIDES[side]
    run(2, 3, 0.0, folder)
    transactions = _count_transactions()
    profiler = cProfile.Profile()
    wall, cpu, before = time.perf_counter(), time.process_time(), transactions[0]
    if profile is not None:
        profiler.enable()
    run(slots, trials, APP_SECONDS, folder)
    if profile is not None:
        profiler.disable()
        with profile.open("w") as file:
            pstats.Stats(profiler, stream=file).sort_stats("tottime").print_stats(60).sort_stats(
                "cumulative"
            ).print_stats(120)
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "transactions": transactions[0] - before,
    }


def transactions(slots: int, trials: int, folder: Path) -> float:
    """Return the transactions for each trial of an experiment whose apps take no time.

    What a task does once is left out: a longer experiment is compared with a shorter one.
    """
    counted = _count_transactions()
    totals = []
    for number in (trials, 2 * trials):
        before = counted[0]
        through_the_operator(slots, number, 0.0, folder)
        totals.append(counted[0] - before)
    return (totals[1] - totals[0]) / trials


def _count_transactions() -> list[int]:
    import sqlalchemy as sa

    counted = [0]

    def note(_: Any) -> None:
        counted[0] += 1

    sa.event.listen(sa.Engine, "begin", note)
    return counted


def in_own_process(side: str, slots: int, trials: int) -> dict[str, float]:
    """Measure one side in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        environ = {**os.environ, "AIRFLOW_HOME": folder, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        answer = Path(folder, "answer.json")
        if side in SIDES:
            command = [sys.executable, "-m", "benchmarks.short", side]
        else:
            command = [others.python(), str(Path(others.__file__)), side]
        done = subprocess.run(
            [*command, str(slots), str(trials), str(answer)],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{side} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        measured: dict[str, float] = json.loads(answer.read_text())
    return measured


@contextmanager
def _busy_core() -> Iterator[None]:
    """Keep the first core busy."""
    code = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _compare_on_a_busy_machine(report: Report, slots: int, trials: int, repeats: int) -> None:
    with _busy_core():
        sides = {side: functools.partial(_wall, side, slots, trials) for side in SIDES}
        found = interleaved(sides, repeats)
    ideal = math.ceil(trials / slots) * APP_SECONDS
    table = Table(f"The same beside a busy loop on one core: {slots} slots", ["side", "wall time", "over the ideal"])
    for side, samples in found.items():
        report.add(f"{side}, {slots} slots, busy core: wall", samples)
        table.rows.append([side, samples.shown(), f"{samples.median / ideal:.2f}"])
    report.tables.append(table)
    ratio = found[OURS].median / found[AX].median
    report.checks.append(Check(f"wall time over the Orchestrator's, {slots} slots, busy core", ratio, 1.0))


def _wall(side: str, slots: int, trials: int) -> float:
    return in_own_process(side, slots, trials)["wall"]


def _compare(report: Report, slots: int, trials: int, most: float, sides: list[str], repeats: int) -> None:
    kept: dict[str, list[dict[str, float]]] = {side: [] for side in sides}

    def once(side: str) -> float:
        kept[side].append(in_own_process(side, slots, trials))
        return kept[side][-1]["wall"]

    measured = {side: functools.partial(once, side) for side in sides}
    found = interleaved({side: measured.pop(side) for side in SIDES}, repeats)
    # Once: Ray Tune takes four minutes for 32 slots on two cores, and nothing here is promised about it.
    found |= interleaved(measured, 1)
    ideal = math.ceil(trials / slots) * APP_SECONDS
    table = Table(
        f"{trials} trials of {APP_SECONDS:g} s in {slots} slots; the ideal is {ideal:g} s",
        ["side", "wall time", "over the ideal", "own CPU per trial", "transactions per trial"],
    )
    for side, samples in found.items():
        report.add(f"{side}, {slots} slots: wall", samples)
        cpu = report.add(f"{side}, {slots} slots: CPU", Samples(tuple(one["cpu"] / trials for one in kept[side])))
        counted = kept[side][-1].get("transactions", 0) / trials
        table.rows.append(
            [
                side,
                samples.shown(),
                f"{samples.median / ideal:.2f}",
                cpu.shown("ms"),
                f"{counted:.1f}" if counted else "",
            ]
        )
    report.tables.append(table)
    ours = found[OURS].median
    report.checks.append(Check(f"wall time over the ideal, {slots} slots", ours / ideal, most))
    report.checks.append(Check(f"wall time over the Orchestrator's, {slots} slots", ours / found[AX].median, 1.0))
    cpu_seconds = Samples(tuple(one["cpu"] / trials for one in kept[OURS])).median
    report.checks.append(Check(f"own CPU seconds per trial, {slots} slots", cpu_seconds, MAX_CPU_SECONDS))


def run(quick: bool) -> Report:
    """Measure all sides in turns."""
    report = Report("short", quick)
    sides = [OURS, AX]
    if others.install():
        sides += others.SIDES
        report.notes.append("Ray Tune and Optuna are measured once for each number of slots.")
    else:
        report.notes.append("Ray Tune and Optuna could not be installed and were left out.")
    for slots, (trials, most) in SIZES.items():
        if not quick or slots == min(SIZES):
            _compare(report, slots, trials, most, sides, 1 if quick else REPEATS)
            _compare_on_a_busy_machine(report, slots, trials, 1 if quick else REPEATS)
    report.notes.append(
        "The apps of Ax's Orchestrator, Ray Tune and Optuna die with the process that started them, and nothing is "
        "recorded before an app is started. CPU is that of the process that runs the loop, without its apps."
    )
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=list(SIDES))
    parser.add_argument("slots", type=int)
    parser.add_argument("trials", type=int)
    parser.add_argument("answer", type=Path)
    parser.add_argument("--profile", type=Path)
    given = parser.parse_args()
    answer = measure(given.side, given.slots, given.trials, given.answer.parent, given.profile)
    given.answer.write_text(json.dumps(answer))
