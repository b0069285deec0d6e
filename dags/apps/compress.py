"""An app that compresses a text with zlib and reports the size, the memory and the time."""

from __future__ import annotations

import argparse
import json
import statistics
import time
import zlib

from torchx.runtime.tracking import FsspecResultTracker

REPEATS = 5


def text() -> bytes:
    """Return a text of half a megabyte with a medium compression ratio."""
    numbers, state = [], 1
    for _ in range(60_000):
        state = state * 6364136223846793005 % 2**64
        numbers.append(str(state >> 44))
    return json.dumps(numbers).encode()


def measure(level: int, window: int, memory: int) -> dict[str, float]:
    """Return size and memory in kB, and the mean seconds of a compression with their standard error."""
    data, seconds, size = text(), [], 0
    for _ in range(REPEATS):
        started = time.process_time()
        compressor = zlib.compressobj(level, zlib.DEFLATED, window, memory)
        size = len(compressor.compress(data) + compressor.flush())
        seconds.append(time.process_time() - started)
    return {
        "size": size / 1024,
        "memory": (2 ** (window + 2) + 2 ** (memory + 9)) / 1024,  # as zlib documents it
        "seconds/mean": statistics.mean(seconds),
        "seconds/sem": statistics.stdev(seconds) / REPEATS**0.5,
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser()
    for name in ("level", "window", "memory", "trial-idx"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--tracker-base", required=True)
    options = parser.parse_args()
    results = measure(options.level, options.window, options.memory)
    FsspecResultTracker(options.tracker_base)[options.trial_idx] = results
    print(results)


if __name__ == "__main__":
    main()
