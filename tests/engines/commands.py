"""Runs the scripts that bring engines up and down."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

SCRIPTS = Path(__file__).parent


def run_script(name: str, environment: Mapping[str, str], *arguments: str) -> None:
    """Run one of the scripts next to this file; what it said is in the error when it fails."""
    # To a file, not a pipe: daemons that it starts inherit its output and would keep a pipe open.
    log = Path(next(v for k, v in environment.items() if k.endswith("_DIR"))).with_suffix(".script.log")
    with log.open("wb") as output:
        answer = subprocess.run(
            [str(SCRIPTS / name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    said = log.read_text(errors="replace")
    log.unlink()
    if answer.returncode:
        raise RuntimeError(f"{name} failed with exit code {answer.returncode}:\n{said}")
