"""The app of the early-stopping benchmark fits a cubic to a sine and reports a progressive result for each epoch.

It uses only the standard library, so that ``python -S -I curve_fit.py ...`` starts in hundredths of a second. A small
learning rate or a strong weight decay ends on a plateau early; a large learning rate diverges. The benchmark starts
each epoch, as if epochs were long, so that the number of saved epochs does not depend on how busy the machine is.
"""

import json
import math
import os
import sys
import time

POINTS = [i / 15 - 1 for i in range(31)]
TARGETS = [math.sin(3 * x) for x in POINTS]
DIVERGED = 10.0


def loss_of(weights: list[float]) -> float:
    """Return the mean squared error, at most ``DIVERGED``."""
    errors = [sum(w * x**k for k, w in enumerate(weights)) - y for x, y in zip(POINTS, TARGETS, strict=True)]
    loss = sum(e * e for e in errors) / len(errors) if all(abs(w) < 1e6 for w in weights) else math.inf
    return min(loss, DIVERGED)


def epoch(weights: list[float], lr: float, decay: float, updates: int = 20) -> list[float]:
    """Return the weights after ``updates`` steps of gradient descent."""
    for _ in range(updates):
        if not all(abs(w) < 1e6 for w in weights):
            break
        gradient = [0.0] * len(weights)
        for x, y in zip(POINTS, TARGETS, strict=True):
            error = sum(w * x**k for k, w in enumerate(weights)) - y
            for k in range(len(weights)):
                gradient[k] += 2 * error * x**k / len(POINTS)
        weights = [w - lr * (g + decay * w) for w, g in zip(weights, gradient, strict=True)]
    return weights


def write(path: str, loss: float) -> None:
    """Write a result atomically, in the format of TorchX's ``FsspecResultTracker``."""
    with open(f"{path}.part", "w", encoding="utf-8") as file:  # noqa: PTH123 - without pathlib it starts faster
        json.dump({"loss": loss}, file)
    os.replace(f"{path}.part", path)  # noqa: PTH105


def main() -> None:
    """Fit the curve, report each epoch, and report the result."""
    lr, decay = float(sys.argv[1]), float(sys.argv[2])
    base, trial, epochs = sys.argv[3], sys.argv[4], int(sys.argv[5])
    os.makedirs(f"{base}/{trial}.steps", exist_ok=True)  # noqa: PTH103
    weights = [0.0, 0.0, 0.0, 0.0]
    for number in range(1, epochs + 1):
        while not os.path.exists(f"{base}/{trial}.epochs/{number}"):  # noqa: PTH110
            time.sleep(0.005)
        weights = epoch(weights, lr, decay)
        write(f"{base}/{trial}.steps/{number}", loss_of(weights))
    write(f"{base}/{trial}", loss_of(weights))


if __name__ == "__main__":
    main()
