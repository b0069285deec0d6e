"""TorchX components of the example DAGs."""

from __future__ import annotations

import sys
from pathlib import Path

from torchx import specs


def digits(
    pixels: int,
    c: float,
    gamma: float,
    kernel: str,
    trial_idx: int,
    tracker_base: str,
    folds: int = 5,
    cpus: int = 1,
) -> specs.AppDef:
    """Cross-validate a classifier of handwritten digits.

    Args:
        pixels: number of principal components that are kept of the 64 pixels
        c: regularisation parameter of the support vector machine
        gamma: coefficient of the kernel
        kernel: rbf or sigmoid
        trial_idx: index of the trial, passed by the provider
        tracker_base: where to report, passed by the provider
        folds: number of cross-validation folds
        cpus: number of CPUs to ask the scheduler for
    """
    values = {"pixels": pixels, "c": c, "gamma": gamma, "kernel": kernel, "folds": folds}
    options = [text for name, value in values.items() for text in (f"--{name}", str(value))]
    return specs.AppDef(
        name="digits",
        roles=[
            specs.Role(
                name="trainer",
                image="",
                entrypoint=sys.executable,
                args=[
                    str(Path(__file__).with_name("digits.py")),
                    *options,
                    f"--trial-idx={trial_idx}",
                    f"--tracker-base={tracker_base}",
                ],
                env={"OMP_NUM_THREADS": str(cpus)},
                resource=specs.Resource(cpu=cpus, gpu=0, memMB=1024),
            )
        ],
    )


def compress(level: int, window: int, memory: int, trial_idx: int, tracker_base: str) -> specs.AppDef:
    """Compress a text with zlib.

    Args:
        level: compression level
        window: binary logarithm of the window size
        memory: memory level of the compression state
        trial_idx: index of the trial, passed by the provider
        tracker_base: where to report, passed by the provider
    """
    values = {"level": level, "window": window, "memory": memory, "trial-idx": trial_idx, "tracker-base": tracker_base}
    script = str(Path(__file__).with_name("compress.py"))
    role = specs.Role(
        name="compressor",
        image="",
        entrypoint=sys.executable,
        args=[script, *[f"--{name}={value}" for name, value in values.items()]],
        resource=specs.Resource(cpu=1, gpu=0, memMB=512),
    )
    return specs.AppDef(name="compress", roles=[role])
