"""The app of a soak's trials: notes that it was started, works for some seconds, prints its result."""

from __future__ import annotations

import os
import sys
import time


def main(folder: str, tracker_base: str, x: str, seconds: str) -> None:
    """Append the attempt (its own ``tracker_base``) and the process to the file of starts."""
    line = f"{tracker_base} {os.getpid()}\n".encode()
    starts = os.open(f"{folder}/starts", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(starts, line)
    os.close(starts)
    time.sleep(float(seconds))
    print(f"loss={(float(x) - 1) ** 2!r}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
