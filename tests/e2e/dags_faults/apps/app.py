"""The app of the fault tests: counts its start, waits until it is let go, reports. Standard library only, for speed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

#: Longer than all tests take that share a cluster; an app that is never let go ends by itself.
WAIT_SECONDS = 3600


def main(folder: str, trial: str, tracker_base: str, x: str, behaviour: str) -> int:
    """Leave ``trial pid`` in ``folder/starts``, wait for ``folder/go`` or ``folder/go-TRIAL``, then behave as told."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with Path(folder, "starts").open("a") as starts:
        starts.write(f"{trial} {os.getpid()}\n")
    print("waiting to be let go", flush=True)
    deadline = time.monotonic() + WAIT_SECONDS
    while not (Path(folder, "go").exists() or Path(folder, f"go-{trial}").exists()):
        if time.monotonic() > deadline:
            print("no test let this app go", file=sys.stderr)
            return 3
        time.sleep(0.1)
    print("was let go", flush=True)
    if behaviour == "exits":
        print("the training data is missing", file=sys.stderr)
        return 1
    texts = {"nan": '{"loss": NaN}', "garbage": "<html>502 Bad Gateway</html>", "good": json.dumps({"loss": float(x)})}
    result = Path(tracker_base, trial)
    result.parent.mkdir(parents=True, exist_ok=True)
    if behaviour in texts:
        result.write_text(texts[behaviour])
    elif behaviour == "folder":
        result.mkdir()
    elif behaviour == "symlink":
        result.symlink_to(result)
    elif behaviour == "fifo":
        os.mkfifo(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
