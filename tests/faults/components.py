"""The TorchX component of the fault tests."""

from __future__ import annotations

from pathlib import Path

from torchx import specs


def app(x: float, trial_idx: int, tracker_base: str, folder: str) -> specs.AppDef:
    """Run ``app.sh``, which reports ``x`` as the metric ``loss``.

    Args:
        x: the parameter
        trial_idx: index of the trial
        tracker_base: where it reports
        folder: folder of the test; the file mode-TRIAL in it says sleep, fail, silent or escape, if it is there
    """
    told = Path(folder, f"mode-{trial_idx}")
    mode = told.read_text() if told.exists() else ""
    script = Path(__file__).with_name("app.sh")
    role = specs.Role(
        name="app",
        image="",
        entrypoint="/bin/sh",
        args=[str(script), str(x), str(trial_idx), tracker_base, folder, mode],
        resource=specs.Resource(cpu=1, gpu=0, memMB=16),
    )
    return specs.AppDef(name="app", roles=[role])
