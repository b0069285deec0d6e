"""An ordinary script, the trial of the door ``axtx.script``: it prints its parameter, and reports to no tracker."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def main() -> None:
    """Say that it has started, do what the trial's mode wants, print the loss."""
    x, trial_index, tracker_base, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    told = folder / f"mode-{trial_index}"
    mode = told.read_text() if told.exists() else ""
    with (folder / "starts").open("a") as file:
        file.write(f"{tracker_base.name} {os.getpid()}\n")
    if mode == "sleep":
        time.sleep(600)
    # A task that waits for it sees it run: the points that it passes then are the same in each play.
    time.sleep(0.5)
    while not (folder / "gate").exists():
        time.sleep(0.02)
    if mode == "fail":
        sys.exit(3)
    if mode != "silent":
        print(f"loss={x}")


if __name__ == "__main__":
    main()
