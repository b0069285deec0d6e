"""What a proposal costs in the course of a long experiment with the model, one trial after the other in one process."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from benchmarks.functions import FUNCTIONS
from benchmarks.harness import Report, Table
from benchmarks.regret import experiment

TRIALS = 500
#: Proposals of which the median is shown.
WINDOW = 25


def proposals(trials: int) -> list[float]:
    """Return the seconds of each proposal of an experiment on Hartmann6."""
    from airflow_provider_axtx.optimizer import engine as optimizer
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    spec = ExperimentSpec.load(experiment("hartmann6", 7))
    facts = ExperimentSnapshot(spec.name, "uid", spec.to_json(), None, 0)
    seconds = []
    for index in range(trials):
        started = time.perf_counter()
        proposal = optimizer.propose(facts, 1)
        seconds.append(time.perf_counter() - started)
        (new,) = proposal.trials
        value = FUNCTIONS["hartmann6"][0]([float(new.parameters[f"x{i + 1}"]) for i in range(6)])
        trial = TrialRecord(index, new.arm_name, new.parameters, "COMPLETED", new.generation_node, new.generation)
        facts = replace(
            facts,
            trials=(*facts.trials, trial),
            observations=(*facts.observations, Observation(index, "value", value)),
            generator_state=proposal.generator_state,
        )
    return seconds


def run(quick: bool) -> Report:
    """Measure one experiment."""
    report = Report("long", quick)
    trials = 50 if quick else TRIALS
    seconds = proposals(trials)
    report.figures["seconds of each proposal"] = seconds
    table = Table(f"Seconds for a proposal on Hartmann6, {trials} trials", ["trials before it", "median", "largest"])
    for first in range(0, trials, max(WINDOW, trials // 10)):
        part = seconds[first : first + WINDOW]
        table.rows.append([str(first), f"{statistics.median(part):.2f} s", f"{max(part):.2f} s"])
    report.tables.append(table)
    return report
