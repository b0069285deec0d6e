"""Test each combination of Airflow and Python that is supported, each in an environment of its own; print the table.

    python scripts/matrix.py [--quick] [NAME ...]     only these combinations; "--list" prints the names

Each combination is installed into ``.matrix/NAME``, which is kept for the next time. With ``--quick`` the tests that
start a real Airflow are left out. A Python is looked for as ``pythonX.Y`` and among those of pyenv. The table says of a
combination whose Python was not found that it was not run; the command fails then.
"""

from __future__ import annotations

import argparse
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


def run(cell: Cell, tests: str) -> tuple[str, float]:
    """Install and test a combination; return its result and how many seconds it took.

    :param tests: target of the Makefile.
    """
    python = find_python(cell.python)
    if python is None:
        return f"not run: no Python {cell.python} on this machine", 0.0
    started = time.monotonic()
    settings = [f"VENV=.matrix/{cell.name}", f"PYTHON={python}", f"CONSTRAINTS={cell.constraints}"]
    for target in ("install", tests):
        if subprocess.run(["make", "-C", str(ROOT), target, *settings], stdin=subprocess.DEVNULL).returncode:
            return f"failed: make {target}", time.monotonic() - started
    return "passed", time.monotonic() - started


def print_table(results: dict[Cell, tuple[str, float]]) -> None:
    """Print the results as a table in Markdown."""
    print("\n| Airflow | Python | result | seconds |\n|---|---|---|---|")
    for cell, (result, seconds) in results.items():
        print(f"| {cell.airflow} | {cell.python} | {result} | {seconds:.0f} |")


def main(arguments: list[str]) -> int:
    """Run the named combinations, or all of them."""
    known = {cell.name: cell for cell in CELLS}
    parser = argparse.ArgumentParser(description="Test each combination of Airflow and Python that is supported.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a combination; all of them by default")
    parser.add_argument("--quick", action="store_true", help="without the tests that start a real Airflow")
    parser.add_argument("--list", action="store_true", help="print the names")
    given = parser.parse_args(arguments)
    if given.list:
        print(*known, sep="\n")
        return 0
    if unknown := set(given.names) - set(known):
        parser.error(f"there is no combination {', '.join(sorted(unknown))}; the names are {', '.join(known)}")
    tests = "test-versions-quick" if given.quick else "test-versions"
    results = {known[name]: run(known[name], tests) for name in given.names or known}
    print_table(results)
    return 0 if all(result == "passed" for result, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
