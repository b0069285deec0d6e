"""The TorchX components of the tests with real processes."""

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


def epochs(x: float, trial_idx: int, tracker_base: str, checkpoint_dir: str, folder: str) -> specs.AppDef:
    """Run ``epochs.sh``: twenty epochs with a checkpoint after each.

    Args:
        x: the parameter
        trial_idx: index of the trial
        tracker_base: where it reports
        checkpoint_dir: where its checkpoints are
        folder: where it writes which epochs it has begun
    """
    script = str(Path(__file__).with_name("epochs.sh"))
    args = [script, str(trial_idx), tracker_base, checkpoint_dir, folder]
    role = specs.Role(
        name="app", image="", entrypoint="/bin/sh", args=args, resource=specs.Resource(cpu=1, gpu=0, memMB=16)
    )
    return specs.AppDef(name="app", roles=[role])


def budgeted(x: float, epochs: int, trial_idx: int, tracker_base: str, folder: str) -> specs.AppDef:
    """Ask for an app that goes as far as it is told; only a fake scheduler runs it.

    Args:
        x: the parameter
        epochs: how far it goes
        trial_idx: index of the trial
        tracker_base: where it reports
        folder: not used
    """
    args = ["", str(x), str(trial_idx), tracker_base, folder, str(epochs)]
    role = specs.Role(
        name="app", image="", entrypoint="/bin/sh", args=args, resource=specs.Resource(cpu=1, gpu=0, memMB=16)
    )
    return specs.AppDef(name="app", roles=[role])
