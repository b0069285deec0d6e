"""The TorchX component of the fault tests."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from torchx import specs


def app(x: float, folder: str, trial_idx: int, tracker_base: str, behaviours: str = "good") -> specs.AppDef:
    """Run an app that waits until the file ``go`` lies in a folder.

    Args:
        x: the parameter, reported as the loss
        folder: where it leaves a line when it starts
        trial_idx: index of the trial, passed by the provider
        tracker_base: where to report, passed by the provider
        behaviours: what the app does in the end, a word for each trial; the last one holds for all later ones
    """
    _hold(Path(folder))
    words = behaviours.split("-")
    behaviour = words[min(trial_idx, len(words) - 1)]
    script = str(Path(__file__).with_name("app.py"))
    args = ["-I", "-S", script, folder, str(trial_idx), tracker_base, str(x), behaviour]
    return specs.AppDef(
        name="app", roles=[specs.Role(name="app", image="", entrypoint=sys.executable, args=args, num_replicas=1)]
    )


def _hold(folder: Path) -> None:
    """Stay here, inside the submitting task, as long as there is a file ``hold``: a component may be slow to build."""
    deadline = time.monotonic() + 700
    while (folder / "hold").exists():
        (folder / "held").touch()
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody removed {folder / 'hold'}")
        time.sleep(0.1)
