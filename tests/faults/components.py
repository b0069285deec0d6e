"""The TorchX component of the fault tests."""

from __future__ import annotations

from pathlib import Path

from torchx import specs


def app(x: float, trial_idx: int, tracker_base: str, folder: str, mode: str = "") -> specs.AppDef:
    """Run ``app.sh``, which reports ``x`` as the metric ``loss``.

    Args:
        x: the parameter
        trial_idx: index of the trial
        tracker_base: where it reports
        folder: folder of the test
        mode: sleep, fail, silent, escape, or nothing
    """
    script = Path(__file__).with_name("app.sh")
    role = specs.Role(
        name="app",
        image="",
        entrypoint="/bin/sh",
        args=[str(script), str(x), str(trial_idx), tracker_base, folder, mode],
        resource=specs.Resource(cpu=1, gpu=0, memMB=16),
    )
    return specs.AppDef(name="app", roles=[role])
