"""The app of the fault tests: leaves a line when it starts, waits until it is let go, reports. Standard library only."""

from __future__ import annotations

import json
import os
import sys
import time

WAIT_SECONDS = 600


def main(folder: str, trial: str, tracker_base: str, x: str, behaviour: str) -> int:
    """Leave ``trial pid`` in ``folder/starts``, wait for ``folder/go``, then behave as told."""
    with open(os.path.join(folder, "starts"), "a") as starts:
        starts.write(f"{trial} {os.getpid()}\n")
    deadline = time.monotonic() + WAIT_SECONDS
    while not os.path.exists(os.path.join(folder, "go")):
        if time.monotonic() > deadline:
            print("nobody let this app go", file=sys.stderr)
            return 3
        time.sleep(0.1)
    if behaviour == "exits":
        print("the training data is missing", file=sys.stderr)
        return 1
    texts = {"nan": '{"loss": NaN}', "garbage": "<html>502 Bad Gateway</html>", "good": json.dumps({"loss": float(x)})}
    if behaviour in texts:
        os.makedirs(tracker_base, exist_ok=True)
        with open(os.path.join(tracker_base, trial), "w") as result:
            result.write(texts[behaviour])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
