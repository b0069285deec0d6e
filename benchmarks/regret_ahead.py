"""What proposing ahead does to the best value that is found, at equal numbers of trials and eight trials at a time.

Eight is the smallest parallelism at which the operator proposes a trial ahead by default, from 32 results on. The sides
are the operator without proposals ahead and as it is by default, Ax's Orchestrator at the same parallelism, and random
search as the floor. Each run has a process of its own.
"""

from __future__ import annotations

import functools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scipy.stats import mannwhitneyu

from benchmarks import regret
from benchmarks.harness import ROOT, Check, Report, Samples, Table

DEFAULT, ORCHESTRATOR = "operator, default", "Ax Orchestrator"
PARALLELISM = 8
#: Numbers of trials after which the best value is compared: before anything is proposed ahead, and well after.
CHECKPOINTS = {"branin": (25, 56), "hartmann6": (30, 56)}
#: Seconds that the shortest app takes; the longest takes seven times this. All take longer than a proposal, as an app
#: that is worth a model does. Shorter ones end while their side waits for Ax, and the slower side knows more results.
SLOW = 4.0
SEEDS = 10
#: Probability, by a one-sided Mann-Whitney test, of regrets that differ so much from the Orchestrator's if both sides
#: find equally good values. The operator is worse where it is lower.
SIGNIFICANT = 0.05


def generation_of(seed: int) -> dict[str, Any]:
    """Return how trials are generated: no ``random_seed``, which the Orchestrator does not heed.

    With it, Ax draws the same numbers for each proposal of the operator.
    """
    return {"initialization_random_seed": seed}


def through_the_operator(name: str, seed: int, ahead: int | None, *, random: bool = False) -> list[float]:
    """Return the values of the operator's trials in order."""
    generation = generation_of(seed) | ({"method": "random_search"} if random else {})
    store = regret.optimize(
        *(name, seed, CHECKPOINTS[name][-1]),
        parallelism=PARALLELISM,
        slow=SLOW,
        propose_ahead=ahead,
        generation=generation,
    )
    seen = store.snapshot(f"{name}-{seed}").observations
    return [one.mean for one in sorted(seen, key=lambda one: one.trial_index) if one.metric == "value"]


def through_the_orchestrator(name: str, seed: int) -> list[float]:
    """Return the values of the trials of Ax's Orchestrator in order."""
    from ax.metrics.torchx import TorchXMetric
    from ax.orchestration.orchestrator import Orchestrator, OrchestratorOptions
    from ax.runners.torchx import TorchXRunner

    from airflow_provider_axtx.optimizer.rebuild import configured_client, new_strategy
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    spec = ExperimentSpec.load({**regret.experiment(name, seed), "generation": generation_of(seed)})
    _, experiment = configured_client(spec, spec.name)
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        experiment.update_metric(TorchXMetric(name="value"))
        experiment.runner = TorchXRunner(
            tracker_base=f"{folder}/tracker",
            component=regret.function,
            component_const_params={"name": name, "slow": SLOW},
            orchestrator="local_cwd",
            cfg={"log_dir": f"{folder}/logs"},
        )
        options = OrchestratorOptions(
            max_pending_trials=PARALLELISM,
            init_seconds_between_polls=0.05,
            min_seconds_before_poll=0.05,
            seconds_between_polls_backoff_factor=1.0,
        )
        Orchestrator(experiment, new_strategy(spec), options).run_n_trials(max_trials=CHECKPOINTS[name][-1])
        values = experiment.lookup_data().df
        return [float(value) for value in values[values["metric_name"] == "value"].sort_values("trial_index")["mean"]]


SIDES: dict[str, Callable[[str, int], list[float]]] = {
    "operator, none ahead": functools.partial(through_the_operator, ahead=0),
    DEFAULT: functools.partial(through_the_operator, ahead=None),
    ORCHESTRATOR: through_the_orchestrator,
    "random search": functools.partial(through_the_operator, ahead=0, random=True),
}


def _in_own_process(side: str, name: str, seed: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        environ = {**os.environ, "AIRFLOW_HOME": folder, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        answer = Path(folder, "answer.json")
        command = [sys.executable, "-m", "benchmarks.regret_ahead", side, name, str(seed), str(answer)]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{side} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        values: list[float] = json.loads(answer.read_text())
        return values


def run(quick: bool) -> Report:
    """Measure all sides with the same seeds."""
    report = Report("regret_ahead", quick)
    table = Table(
        f"Simple regret with {PARALLELISM} trials at a time, over {1 if quick else SEEDS} seeds",
        ["function", "trials", *SIDES, "p of the default"],
    )
    for name, checkpoints in CHECKPOINTS.items():
        # What is compared are values, not times, and most of the time all apps sleep.
        with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as threads:
            asked = {
                side: [threads.submit(_in_own_process, side, name, seed) for seed in range(1 if quick else SEEDS)]
                for side in SIDES
            }
            found = {side: [answer.result() for answer in answers] for side, answers in asked.items()}
        for trials in checkpoints:
            regrets = {side: [regret.regret(one, name, trials) for one in values] for side, values in found.items()}
            samples = {
                side: report.add(f"{name}, {trials} trials: {side}", Samples(tuple(r))) for side, r in regrets.items()
            }
            shown = [f"{statistics.median(r):.4f} ({min(r):.4f} to {max(r):.4f})" for r in regrets.values()]
            p = float(mannwhitneyu(regrets[DEFAULT], regrets[ORCHESTRATOR], alternative="greater").pvalue)
            table.rows.append([name, str(trials), *shown, f"{p:.2f}"])
            report.checks.append(Check(f"p of the default, {name}, {trials} trials", p, SIGNIFICANT, at_least=True))
            # Within the spread of the Orchestrator's own runs: medians of ten seeds vary more than the sides differ.
            most = statistics.quantiles(regrets[ORCHESTRATOR], n=4)[2] if len(regrets[ORCHESTRATOR]) > 1 else math.inf
            report.checks.append(
                Check(f"median regret by default, {name}, {trials} trials", samples[DEFAULT].median, most)
            )
    report.tables.append(table)
    return report


if __name__ == "__main__":
    _, given_side, given_name, given_seed, answer_file = sys.argv
    Path(answer_file).write_text(json.dumps(SIDES[given_side](given_name, int(given_seed))))
