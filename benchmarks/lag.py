"""What it does to the best value found that a proposal knows one result less, over many experiments.

Time is simulated: no app runs, and a proposal takes no time. So there are more experiments than ``regret_ahead`` has,
and the sides differ only in what their proposals know. Proposals come from the product's engine; without proposals
ahead they equal those of an Ax client that is asked in the same order (``tests/optimizer/test_parity.py``).
"""

from __future__ import annotations

import functools
import heapq
import os
import random
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from scipy.stats import mannwhitneyu

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.lifecycle.loop_filling import ahead_by_default
from benchmarks import regret
from benchmarks.functions import FUNCTIONS
from benchmarks.harness import Report, Samples, Table
from benchmarks.regret_ahead import CHECKPOINTS, generation_of

SEEDS = 40
NONE = "none ahead"
#: Side -> how many proposals are ready when a slot becomes free, by the numbers of slots and of results.
SIDES: dict[str, Callable[[int, int], int]] = {
    NONE: lambda slots, results: 0,
    "default": ahead_by_default,
    "one ahead from the start": lambda slots, results: 1,
}
#: Number of slots -> function -> numbers of trials after which the best value is compared.
CASES = {8: CHECKPOINTS, 16: dict.fromkeys(CHECKPOINTS, (32, 56))}


class Simulation:
    """One experiment, of which each trial takes between one and seven units of time, by chance."""

    def __init__(self, name: str, seed: int, slots: int) -> None:
        from airflow_provider_axtx.spec.experiment import ExperimentSpec

        self.name, self.slots, self.durations = name, slots, random.Random(seed)
        spec = ExperimentSpec.load({**regret.experiment(name, seed), "generation": generation_of(seed)})
        self.facts = ExperimentSnapshot(spec.name, "uid", spec.to_json(), None, 0)
        self.running: list[tuple[float, int]] = []

    def propose(self, number: int) -> list[int]:
        """Ask Ax for trials with what is known now, and return their indexes."""
        from airflow_provider_axtx.optimizer import engine

        first, proposal = len(self.facts.trials), engine.propose(self.facts, number)
        new = [
            TrialRecord(index, one.arm_name, one.parameters, "RUNNING", one.generation_node, one.generation)
            for index, one in enumerate(proposal.trials, first)
        ]
        self.facts = replace(self.facts, trials=(*self.facts.trials, *new), generator_state=proposal.generator_state)
        return [one.index for one in new]

    def end_first(self) -> float:
        """Let the trial that ends next end, and return the time."""
        now, index = heapq.heappop(self.running)
        parameters = self.facts.trials[index].parameters
        value = FUNCTIONS[self.name][0]([float(parameters[f"x{i + 1}"]) for i in range(len(parameters))])
        trials = list(self.facts.trials)
        trials[index] = replace(trials[index], status="COMPLETED")
        observations = (*self.facts.observations, Observation(index, "value", value))
        self.facts = replace(self.facts, trials=tuple(trials), observations=observations)
        return now

    def run(self, trials: int, ahead: Callable[[int, int], int]) -> list[float]:
        """Return the values of the trials in order."""
        ready: list[int] = []
        now = 0.0
        while len(self.facts.observations) < trials:
            left = trials - len(self.facts.trials)
            free = min(self.slots - len(self.running), left + len(ready))
            # Ax proposes fewer where its generation strategy waits for results before it goes to its next node.
            while free > len(ready) and (new := self.propose(free - len(ready))):
                ready.extend(new)
            for index in ready[:free]:
                heapq.heappush(self.running, (now + self.durations.uniform(1.0, 7.0), index))
            ready = ready[free:]
            wanted = min(ahead(self.slots, len(self.facts.observations)), trials - len(self.facts.trials)) - len(ready)
            if wanted > 0:
                ready.extend(self.propose(wanted))
            now = self.end_first()
        return [one.mean for one in sorted(self.facts.observations, key=lambda one: one.trial_index)]


def values(slots: int, name: str, side: str, seed: int) -> list[float]:
    """Return the values of one experiment's trials in order."""
    return Simulation(name, seed, slots).run(CASES[slots][name][-1], SIDES[side])


def run(quick: bool) -> Report:
    """Measure all sides with the same seeds."""
    report = Report("lag", quick)
    seeds = range(1 if quick else SEEDS)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for slots, functions in CASES.items():
            table = Table(
                f"Simple regret with {slots} trials at a time in simulated time, {len(seeds)} seeds (with quartiles)",
                ["function", "trials", *SIDES, "p of the default", "p of one ahead from the start"],
            )
            for name, checkpoints in functions.items():
                found = {side: list(pool.map(functools.partial(values, slots, name, side), seeds)) for side in SIDES}
                for trials in checkpoints:
                    regrets = {side: [regret.regret(one, name, trials) for one in found[side]] for side in SIDES}
                    shown, ps = [], []
                    for side, r in regrets.items():
                        report.add(f"{slots} slots, {name}, {trials} trials: {side}", Samples(tuple(r)))
                        low, middle, high = statistics.quantiles(r, n=4) if len(r) > 1 else r * 3
                        shown.append(f"{middle:.4f} ({low:.4f} to {high:.4f})")
                        if side != NONE:
                            ps.append(f"{float(mannwhitneyu(r, regrets[NONE], alternative='greater').pvalue):.2f}")
                    table.rows.append([name, str(trials), *shown, *ps])
            report.tables.append(table)
    report.notes.append(
        "p is the probability of regrets that are at least so much larger than without proposals ahead, if both sides "
        "find equally good values."
    )
    return report
