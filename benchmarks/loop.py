"""Compares ``AxOptimizeOperator`` with Ax's ``Orchestrator`` and ``TorchXRunner`` on the booth experiment."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.booth import EXPERIMENT
from benchmarks.harness import REPEATS, ROOT, Check, Report, Samples, Table, interleaved, timed

POLL_SECONDS = 0.1
MAX_RATIO = 0.9

Trials = list[dict[str, float]]


def through_the_operator(trials: int, folder: Path) -> Trials:
    """Run the experiment with the operator and return its parameterizations."""
    from airflow_provider_axtx.operators.ax import AxOptimizeOperator
    from benchmarks.paths import TaskInstance

    operator = AxOptimizeOperator(
        task_id="tune",
        experiment=EXPERIMENT,
        component="utils.booth",
        max_trials=trials,
        poll_interval=POLL_SECONDS,
        deferrable=False,
    )
    context: Any = {"ti": TaskInstance("tune")}
    operator.execute(context)
    return [dict(trial.parameters) for trial in operator.ax_hook.store.trials(EXPERIMENT["name"])]


def through_the_orchestrator(trials: int, folder: Path) -> Trials:
    """Run the experiment with Ax's Orchestrator, at the same poll interval and with one trial at a time."""
    from ax.metrics.torchx import TorchXMetric
    from ax.orchestration.orchestrator import Orchestrator, OrchestratorOptions
    from ax.runners.torchx import TorchXRunner
    from torchx.components.utils import booth

    from airflow_provider_axtx.optimizer.rebuild import configured_client, new_strategy
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    spec = ExperimentSpec.load(EXPERIMENT)
    _, experiment = configured_client(spec, spec.name)
    tracker = str(folder / "tracker")
    experiment.update_metric(TorchXMetric(name="booth_eval"))
    experiment.runner = TorchXRunner(
        tracker_base=tracker, component=booth, orchestrator="local_cwd", cfg={"log_dir": str(folder / "logs")}
    )
    options = OrchestratorOptions(
        max_pending_trials=1,
        init_seconds_between_polls=POLL_SECONDS,
        min_seconds_before_poll=POLL_SECONDS,
        seconds_between_polls_backoff_factor=1.0,
    )
    orchestrator = Orchestrator(experiment, new_strategy(spec), options)
    orchestrator.run_n_trials(max_trials=trials)
    assert all(trial.status.is_completed for trial in experiment.trials.values())
    return [dict(trial.arm.parameters) for _, trial in sorted(experiment.trials.items())]


#: Both sides import these modules before the measurement starts.
MODULES = (
    "airflow_provider_axtx.operators.ax",
    "airflow_provider_axtx.optimizer.engine",
    "ax.orchestration.orchestrator",
    "ax.runners.torchx",
)
SIDES = {"AxOptimizeOperator": through_the_operator, "Ax Orchestrator": through_the_orchestrator}


def measure(side: str, trials: int, folder: Path) -> dict[str, Any]:
    """Run one side and return the wall time, the time of Ax's generation, and the trials."""
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from ax.utils.common.random import with_rng_seed

    for module in MODULES:
        importlib.import_module(module)
    generated: list[float] = []
    generate = GenerationStrategy.gen

    @functools.wraps(generate)
    def seeded(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        # The Orchestrator has no seed; the operator sets this seed around the same call.
        with with_rng_seed(EXPERIMENT["generation"]["random_seed"]):
            answer = generate(*arguments, **options)
        generated.append(time.perf_counter() - started)
        return answer

    GenerationStrategy.gen = seeded  # type: ignore[method-assign]
    done: list[Trials] = []
    wall = timed(lambda: done.append(SIDES[side](trials, folder)))
    return {"wall": wall, "model": sum(generated), "trials": done[0]}


def _in_own_process(side: str, trials: int, kept: dict[str, list[dict[str, Any]]]) -> float:
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        environ = {**os.environ, "AIRFLOW_HOME": folder, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "benchmarks.loop", side, str(trials), str(answer)]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{side} failed:\n{done.stdout}\n{done.stderr}")
        kept[side].append(json.loads(answer.read_text()))
    return float(kept[side][-1]["wall"])


def _app_seconds() -> float:
    """Return the seconds that the app of one trial takes by itself."""
    from torchx.components.utils import booth

    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        (role,) = booth(x1=1.0, x2=1.0, trial_idx=0, tracker_base=folder).roles
        environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = [role.entrypoint, *role.args]
        return timed(lambda: subprocess.run(command, check=True, capture_output=True, env={**environ, **role.env}))


def run(quick: bool) -> Report:
    """Measure both sides."""
    report = Report("loop", quick)
    trials = 8 if quick else 30
    kept: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    sides = {side: functools.partial(_in_own_process, side, trials, kept) for side in SIDES}
    found = interleaved(sides, 1 if quick else REPEATS)
    app = report.add("app", Samples(tuple(_app_seconds() for _ in range(REPEATS))))
    table = Table(
        f"utils.booth, {trials} trials one after the other; its app alone takes {app.shown()}",
        ["side", "wall time", "generation", "overhead per trial"],
    )
    for side, samples in found.items():
        report.add(f"{side}: wall", samples)
        model = report.add(f"{side}: generation", Samples(tuple(one["model"] for one in kept[side])))
        overhead = (samples.median - model.median) / trials - app.median
        table.rows.append([side, samples.shown(), model.shown(), f"{overhead * 1e3:.0f} ms"])
    report.tables.append(table)
    ours, theirs = (kept[side][0]["trials"] for side in SIDES)
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    report.notes.append(f"{same} of {trials} trials are the same on both sides, bit for bit.")
    report.notes.append(f"Both sides poll their apps every {POLL_SECONDS:g} s. The Orchestrator's apps die with it.")
    medians = [found[side].median for side in SIDES]
    report.checks.append(Check("wall time relative to the Orchestrator's", medians[0] / medians[1], MAX_RATIO))
    return report


if __name__ == "__main__":
    answer = measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).parent)
    Path(sys.argv[3]).write_text(json.dumps(answer))
