"""Measures successive halving against no stopping and against Ax's percentile strategy, on two problems with curves.

``python -m benchmarks.asha`` prints a table over 10 seeds. The trials are simulated, four at a time: each look at the
curves comes after ``LOOK`` steps of each, and the package decides from the recorded facts, as it does for real apps.
All rules try the same points in the same order. The exit code is 1 unless successive halving, with more trials, uses a
third of the steps of no stopping at a median that is better, or worse by at most 1 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.lifecycle.early_stop import hopeless_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.halving import promoting, promotions

STEPS, LOOK, PARALLELISM, TRIALS, MORE_TRIALS = 81, 3, 4, 24, 45
PERCENTILE = {
    "type": "percentile",
    "percentile_threshold": 70,
    "min_progression": 3,
    "min_curves": 2,
    "n_best_trials_to_complete": 1,
}
HALVING = {"type": "successive_halving", "min_resource": 6, "reduction_factor": 4, "max_resource": STEPS}
PROMOTION = {**HALVING, "promotion": {"argument": "steps"}}
#: Learning rate and weight decay, as powers of ten.
BOUNDS = ((-3.0, 0.3), (-6.0, 0.0))

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A rule for stopping, and the number of trials that it is given."""

    name: str
    early_stopping: dict[str, Any] | None
    trials: int


RULES = (
    Rule("none", None, TRIALS),
    Rule("percentile", PERCENTILE, TRIALS),
    Rule("halving", HALVING, TRIALS),
    Rule("halving, more trials", HALVING, MORE_TRIALS),
    Rule("promotion", PROMOTION, TRIALS),
    Rule("promotion, more", PROMOTION, MORE_TRIALS),
)
#: The rule of which the exit code tells.
_CLAIMED = 3


def descent(points: Array, chance: np.random.Generator) -> Array:
    """Return the loss of each point at each step: gradient descent that fits a cubic to a noisy sine."""
    x = np.linspace(-1, 1, 31)
    target = np.sin(3 * x) + chance.normal(0, 0.1, len(x))
    features = x[:, None] ** np.arange(4)
    lr, decay = 10 ** points[:, :1], 10 ** points[:, 1:]
    weights, losses = np.zeros((len(points), 4)), []
    for _ in range(STEPS):
        for _ in range(5):
            gradient = 2 * (weights @ features.T - target) @ features / len(x)
            weights = np.clip(weights - lr * (gradient + decay * weights), -1e3, 1e3)
        losses.append(np.minimum(((weights @ features.T - target) ** 2).mean(axis=1), 10.0))
    return np.array(losses).T


def digits(points: Array, chance: np.random.Generator) -> Array:
    """Return the validation loss of each point at each step: softmax regression on images of digits."""
    from sklearn.datasets import load_digits  # takes a second

    images, labels = load_digits(return_X_y=True)
    order = chance.permutation(len(images))[:450]
    x, wanted = images[order] / 16, np.eye(10)[labels[order]]
    lr, decay = (10 ** points[:, i, None, None] for i in range(2))
    weights, losses = np.zeros((len(points), x.shape[1], 10)), []
    for _ in range(STEPS):
        shares = _softmax(x[:300] @ weights)
        weights -= lr * (x[:300].T @ (shares - wanted[:300]) / 300 + decay * weights)
        shares = _softmax(x[300:] @ weights)
        losses.append(-np.log((shares * wanted[300:]).sum(axis=2) + 1e-9).mean(axis=1))
    return np.array(losses).T


def _softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(axis=2, keepdims=True))
    shares: Array = powers / powers.sum(axis=2, keepdims=True)
    return shares


PROBLEMS: dict[str, Callable[[Array, np.random.Generator], Array]] = {"descent": descent, "digits": digits}


def definition(rule: Rule) -> dict[str, Any]:
    """Return the definition of the experiment as it is stored."""
    parameters = [
        {"type": "range", "name": name, "parameter_type": "float", "bounds": list(bounds)}
        for name, bounds in zip(("lr", "decay"), BOUNDS, strict=True)
    ]
    whole = {"name": "asha", "parameters": parameters, "objective": "-loss", "early_stopping": rule.early_stopping}
    return ExperimentSpec.load(whole).model_dump(mode="json")


class Simulation:
    """One experiment whose trials have the given curves."""

    def __init__(self, rule: Rule, points: Array, curves: Array) -> None:
        self.rule, self.spec, self.points, self.curves = rule, definition(rule), points, curves
        self.reached: dict[int, int] = {}
        self.budget: dict[int, float] = {}
        self.status: dict[int, str] = {}

    def snapshot(self) -> ExperimentSnapshot:
        """Return what the store would have recorded by now."""
        trials = tuple(
            TrialRecord(
                index, f"{index}_0", {"lr": float(self.points[index][0]), "decay": float(self.points[index][1])}, s
            )
            for index, s in self.status.items()
        )
        seen = tuple(
            Observation(index, "loss", float(self.curves[index][step]), None, float(step + 1))
            for index, reached in self.reached.items()
            for step in range(reached)
        )
        return ExperimentSnapshot("asha", "uid", self.spec, None, 0, trials, seen)

    def run(self) -> tuple[int, float]:
        """Return how many steps were run, and the lowest loss of a trial that has come to its end."""
        while live := self._fill():
            for index in live:
                self.reached[index] += LOOK
                if self.reached[index] >= self.budget[index]:
                    self.status[index] = "COMPLETED" if self.reached[index] >= STEPS else "EARLY_STOPPED"
            if self.rule.early_stopping is not None:
                for index in hopeless_trials(self.snapshot()):
                    self.status[index] = "EARLY_STOPPED"
        ended = [index for index, status in self.status.items() if status == "COMPLETED"]
        return sum(self.reached.values()), min(float(self.curves[index][-1]) for index in ended)

    def _fill(self) -> list[int]:
        live = [index for index, status in self.status.items() if status == "RUNNING"]
        free, spec = PARALLELISM - len(live), ExperimentSpec.from_store(self.spec)
        first, again = float(STEPS), list[tuple[int, float]]()
        if free and (rule := promoting(spec)) is not None:
            first, again = rule.budgets[0], promotions(spec, rule, self.snapshot())[:free]
            is_last = len(self.status) == self.rule.trials and "COMPLETED" not in self.status.values()
            if is_last and not live and not again:
                again = promotions(spec, rule, self.snapshot(), is_last=True)
        for index, budget in again:
            self.status[index], self.budget[index] = "RUNNING", budget
        new = range(len(self.status), min(self.rule.trials, len(self.status) + free - len(again)))
        for index in new:
            self.status[index], self.reached[index], self.budget[index] = "RUNNING", 0, first
        return [*live, *(index for index, _ in again), *new]


def compare(problem: str, seed: int) -> list[tuple[int, float]]:
    """Run the experiment of one seed under each rule."""
    chance = np.random.default_rng(seed)
    lower, upper = np.array(BOUNDS).T
    points = chance.uniform(lower, upper, (MORE_TRIALS, 2))
    curves = PROBLEMS[problem](points, chance)
    return [Simulation(rule, points, curves).run() for rule in RULES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    options = parser.parse_args(arguments)
    print(f"{'problem':<10} {'rule':<22} {'trials':>6} {'steps':>8} {'fewer':>6} {'median best':>12}")
    holds = True
    for problem in PROBLEMS:
        results = [compare(problem, seed) for seed in options.seeds]
        steps = [sum(one[rule][0] for one in results) / len(results) for rule in range(len(RULES))]
        best = [statistics.median(one[rule][1] for one in results) for rule in range(len(RULES))]
        for rule, used, value in zip(RULES, steps, best, strict=True):
            print(f"{problem:<10} {rule.name:<22} {rule.trials:>6} {used:>8.0f} {steps[0] / used:>6.1f} {value:>12.4f}")
        holds = holds and steps[0] >= 3 * steps[_CLAIMED] and best[_CLAIMED] <= 1.01 * best[0]
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
