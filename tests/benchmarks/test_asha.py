"""Successive halving on one seed: the benchmark's own claim."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.asha import BOUNDS, MORE_TRIALS, RULES, Simulation, descent


@pytest.mark.parametrize("rule", [3, 4])
def test_successive_halving_uses_a_third_of_the_steps(rule: int) -> None:
    chance = np.random.default_rng(0)
    lower, upper = np.array(BOUNDS).T
    points = chance.uniform(lower, upper, (MORE_TRIALS, 2))
    curves = descent(points, chance)
    none, halving = (Simulation(RULES[number], points, curves).run() for number in (0, rule))
    assert none[0] >= 3 * halving[0]
    assert halving[1] <= 1.01 * none[1]
