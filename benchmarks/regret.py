"""Compares the best trials of ``AxOptimizeOperator`` with those of a plain Ax client with the same seeds.

``python -m benchmarks.regret`` prints the median simple regret over the seeds, and how busy four slots are with trials
of uneven length. The exit code is 1 when a claim does not hold. ``--keep FILE`` keeps the measurements of earlier
calls, so that the seeds can run one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from torchx import specs

from benchmarks.functions import FUNCTIONS
from benchmarks.paths import TaskInstance

#: Function -> numbers of trials at which the regret is compared; the last one is the number of trials that run.
CHECKPOINTS = {"branin": (20, 25), "hartmann6": (20, 30)}
PARALLELISM = 4


def function(
    trial_idx: int,
    tracker_base: str,
    name: str,
    slow: float,
    x1: float,
    x2: float,
    x3: float = 0,
    x4: float = 0,
    x5: float = 0,
    x6: float = 0,
) -> specs.AppDef:
    """Evaluate a test function.

    Args:
        trial_idx: index of the trial
        tracker_base: where to report
        name: which function
        slow: seconds that the shortest trial takes; the longest takes seven times this
        x1: variable
        x2: variable
        x3: variable
        x4: variable
        x5: variable
        x6: variable
    """
    x = [x1, x2, x3, x4, x5, x6][: len(FUNCTIONS[name][1])]
    seconds = slow * (1 + trial_idx * 5 % 7)
    arguments = [name, tracker_base, trial_idx, seconds, *x]
    app = str(Path(__file__).with_name("functions.py"))
    role = specs.Role(
        name="function",
        image="",
        entrypoint=sys.executable,
        args=["-S", "-I", app, *map(str, arguments)],
        resource=specs.Resource(cpu=1, gpu=0, memMB=100),
    )
    return specs.AppDef(name="function", roles=[role])


def experiment(name: str, seed: int) -> dict[str, Any]:
    """Return the experiment's definition."""
    return {
        "name": f"{name}-{seed}",
        "parameters": [
            {"type": "range", "name": f"x{i + 1}", "parameter_type": "float", "bounds": list(bounds)}
            for i, bounds in enumerate(FUNCTIONS[name][1])
        ],
        "objective": "-value",
        "generation": {"initialization_random_seed": seed, "random_seed": seed},
    }


def optimize(
    name: str,
    seed: int,
    trials: int,
    *,
    parallelism: int = 1,
    slow: float = 0.0,
    propose_ahead: int | None = None,
    generation: dict[str, Any] | None = None,
) -> Any:
    """Run an experiment with the operator in this process and return its store."""
    from airflow_provider_axtx.operators.ax import AxOptimizeOperator

    operator = AxOptimizeOperator(
        task_id=f"{name}-{seed}",
        experiment={**experiment(name, seed), **({"generation": generation} if generation else {})},
        component=function,
        component_args={"name": name, "slow": slow},
        scheduler_args={"max_parallel": 2 * parallelism},
        max_trials=trials,
        parallelism=parallelism,
        propose_ahead=propose_ahead,
        poll_interval=0.05,
        deferrable=False,
    )
    context: Any = {"ti": TaskInstance(f"{name}-{seed}")}
    operator.execute(context)
    return operator.ax_hook.store


def through_the_operator(name: str, seed: int) -> list[float]:
    """Return the value of each trial of the operator, in order."""
    trials = CHECKPOINTS[name][-1]
    facts = optimize(name, seed, trials).snapshot(f"{name}-{seed}")
    values = {seen.trial_index: seen.mean for seen in facts.observations if seen.metric == "value"}
    return [values[index] for index in range(trials)]


def through_the_client(name: str, seed: int) -> list[float]:
    """Return the value of each trial of a plain Ax client, in order."""
    from ax.api.client import Client
    from ax.api.configs import RangeParameterConfig

    client = Client(random_seed=seed)
    bounds = enumerate(FUNCTIONS[name][1])
    client.configure_experiment(
        [RangeParameterConfig(name=f"x{i + 1}", parameter_type="float", bounds=b) for i, b in bounds]
    )
    client.configure_optimization("-value")
    client.configure_generation_strategy(initialization_random_seed=seed)
    values = []
    for _ in range(CHECKPOINTS[name][-1]):
        ((index, parameters),) = client.get_next_trials(max_trials=1).items()
        value = FUNCTIONS[name][0]([float(parameters[f"x{i + 1}"]) for i in range(len(parameters))])
        client.complete_trial(index, raw_data={"value": value})
        values.append(value)
    return values


def utilisation(trials: int = 20, slow: float = 2.0) -> float:
    """Return the share of slot time in which an app runs, from the first to the last submission, without generation.

    The lengths of the trials are ``slow`` times 1, 6, 4, 2, 7, 5, 3, and so on.
    """
    from airflow_provider_axtx.optimizer import engine as optimizer

    generating: list[tuple[float, float]] = []
    propose = optimizer.propose

    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.time()
        proposal = propose(*arguments, **options)
        generating.append((started, time.time()))
        return proposal

    optimizer.propose = timed
    try:
        store = optimize("branin", 1000, trials, parallelism=PARALLELISM, slow=slow)
    finally:
        optimizer.propose = propose
    attempts = store.attempts("branin-1000")
    apps = [json.loads(Path(attempt.tracker_base, "times").read_text()) for attempt in attempts]
    # The start, when slots fill up, and the end, when they drain, say nothing about refilling.
    start, end = sorted(begin for begin, _ in apps)[PARALLELISM - 1], max(begin for begin, _ in apps)
    edges = sorted({start, end, *(t for span in (*apps, *generating) for t in span if start < t < end)})
    busy = total = 0.0
    for left, right in pairwise(edges):
        middle = (left + right) / 2
        if not any(begin <= middle < finish for begin, finish in generating):
            busy += (right - left) * sum(begin <= middle < finish for begin, finish in apps)
            total += (right - left) * PARALLELISM
    return busy / total


def regret(values: Sequence[float], name: str, trials: int) -> float:
    """Return the simple regret after ``trials`` trials."""
    return min(values[:trials]) - FUNCTIONS[name][2]


def measure(seeds: Sequence[int], keep: Path | None) -> dict[str, Any]:
    """Measure what the file does not contain yet; return all values by function and seed."""
    found: dict[str, Any] = json.loads(keep.read_text()) if keep is not None and keep.exists() else {}
    for name in CHECKPOINTS:
        for seed in seeds:
            key = f"{name} {seed}"
            if key not in found:
                found[key] = {"operator": through_the_operator(name, seed), "client": through_the_client(name, seed)}
                print(f"{key}: equal values: {found[key]['operator'] == found[key]['client']}", flush=True)
                if keep is not None:
                    keep.write_text(json.dumps(found))
    return found


def report(found: dict[str, Any]) -> bool:
    """Print the table and return whether the operator is never worse than the client."""
    print(f"{'function':>10} {'trials':>6} {'seeds':>5} {'operator':>9} {'client':>9}  median simple regret")
    good = True
    for name, checkpoints in CHECKPOINTS.items():
        of_name = [values for key, values in found.items() if key.split()[0] == name]
        for trials in checkpoints if of_name else ():
            medians = [
                statistics.median(regret(values[side], name, trials) for values in of_name)
                for side in ("operator", "client")
            ]
            print(f"{name:>10} {trials:>6} {len(of_name):>5} {medians[0]:>9.4f} {medians[1]:>9.4f}")
            good &= medians[0] <= medians[1] + 1e-9
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--no-utilisation", action="store_true")
    options = parser.parse_args(arguments)
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="axtx-regret-")
    good = report(measure(options.seeds, options.keep))
    if not options.no_utilisation:
        busy = utilisation()
        print(f"{PARALLELISM} slots, trials of uneven length: {busy:.1%} busy outside generation")
        good &= busy >= 0.9
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
