"""The TorchX component of the kill tests."""

from __future__ import annotations

from pathlib import Path

from torchx import specs


def app(x: float, trial_idx: int, tracker_base: str, folder: str, seconds: float = 0.0) -> specs.AppDef:
    """Run ``app.sh``, which reports ``x`` as the metric ``loss``.

    Args:
        x: the parameter
        trial_idx: index of the trial
        tracker_base: where it reports
        folder: where it says that it has started
        seconds: how long it takes
    """
    script = str(Path(__file__).with_name("app.sh"))
    args = [script, str(x), str(trial_idx), tracker_base, folder, str(seconds)]
    role = specs.Role(
        name="app", image="", entrypoint="/bin/sh", args=args, resource=specs.Resource(cpu=1, gpu=0, memMB=16)
    )
    return specs.AppDef(name="app", roles=[role])
