"""Test each combination of Airflow and Python that is supported, each in an environment of its own; print the table.

    python scripts/matrix.py [NAME ...]     only these combinations; "--list" prints the names

Each combination is installed into ``.matrix/NAME``, which is kept for the next time. A Python is looked for as
``pythonX.Y`` and among those of pyenv. A combination whose Python is not found counts as failed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cell:
    """One combination."""

    airflow: str
    python: str
    constraints: str

    @property
    def name(self) -> str:
        """Return what names it on the command line."""
        return f"airflow-{self.airflow}-python-{self.python}"


CELLS = [
    Cell("3.2", "3.11", "constraints-airflow-3.2.txt"),
    Cell("3.3", "3.11", "constraints.txt"),
    Cell("3.3", "3.12", "constraints.txt"),
    Cell("3.3", "3.13", "constraints.txt"),
]


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of that version, or None."""
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "--version"], capture_output=True).returncode == 0:
        return found
    kept = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    return str(kept[-1]) if kept else None


def run(cell: Cell) -> tuple[str, float]:
    """Install and test a combination; return its result and how many seconds it took."""
    python = find_python(cell.python)
    if python is None:
        return f"no python{cell.python} on this machine", 0.0
    started = time.monotonic()
    settings = [f"VENV=.matrix/{cell.name}", f"PYTHON={python}", f"CONSTRAINTS={cell.constraints}"]
    for target in ("install", "test-versions"):
        if subprocess.run(["make", "-C", str(ROOT), target, *settings], stdin=subprocess.DEVNULL).returncode:
            return f"make {target} failed", time.monotonic() - started
    return "passed", time.monotonic() - started


def main(names: list[str]) -> int:
    """Run the named combinations, or all of them."""
    known = {cell.name: cell for cell in CELLS}
    if names == ["--list"]:
        print(*known, sep="\n")
        return 0
    unknown = set(names) - set(known)
    if unknown:
        print(
            f"There is no combination {', '.join(sorted(unknown))}; the names are {', '.join(known)}.", file=sys.stderr
        )
        return 2
    results = {name: run(known[name]) for name in names or known}
    print(f"\n{'Airflow':8} {'Python':8} {'seconds':>8}  result")
    for name, (result, seconds) in results.items():
        print(f"{known[name].airflow:8} {known[name].python:8} {seconds:8.0f}  {result}")
    return 0 if all(result == "passed" for result, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
