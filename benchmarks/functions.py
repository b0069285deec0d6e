"""The app of ``benchmarks.regret`` evaluates a test function; it uses only the standard library, to start fast."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

_HARTMANN_ALPHA = (1.0, 1.2, 3.0, 3.2)
_HARTMANN_A = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_HARTMANN_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def branin(x: list[float]) -> float:
    """Return Branin's function; its minimum is 0.397887."""
    a, b = x
    valley = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10


def hartmann6(x: list[float]) -> float:
    """Return Hartmann's function of six variables; its minimum is -3.32237."""
    inner = [
        sum(weight * (value - place) ** 2 for weight, value, place in zip(row, x, places, strict=True))
        for row, places in zip(_HARTMANN_A, _HARTMANN_P, strict=True)
    ]
    return -sum(alpha * math.exp(-distance) for alpha, distance in zip(_HARTMANN_ALPHA, inner, strict=True))


#: Name -> function, bounds of its variables, its minimum.
FUNCTIONS = {
    "branin": (branin, [(-5.0, 10.0), (0.0, 15.0)], 0.397887),
    "hartmann6": (hartmann6, [(0.0, 1.0)] * 6, -3.32237),
}


def main(name: str, tracker_base: str, trial: str, seconds: str, *x: str) -> None:
    """Sleep, then report the value and the start and end times of the app."""
    started = time.time()
    time.sleep(float(seconds))
    base = Path(tracker_base)
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / ".result"
    temporary.write_text(json.dumps({"value": FUNCTIONS[name][0]([float(value) for value in x])}))
    temporary.replace(base / trial)
    (base / "times").write_text(json.dumps([started, time.time()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
