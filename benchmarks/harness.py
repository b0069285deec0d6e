"""Tools for all benchmarks: interleaved measurements, medians and ranges, tables, JSON, the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
#: Each benchmark writes its result into this folder, so that one benchmark can be repeated without the others.
RESULTS = ROOT / ".benchmarks"
REPEATS = 5
_PACKAGES = ("apache-airflow", "ax-platform", "torchx", "torch", "sqlalchemy", "submitit")


@dataclass(frozen=True)
class Samples:
    """Repeated measurements of one side."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def shown(self, unit: str = "s") -> str:
        """Return median and range in a unit of ``_UNITS``."""
        factor, digits = _UNITS[unit]
        low, middle, high = (value * factor for value in (min(self.values), self.median, max(self.values)))
        spread = "" if len(self.values) == 1 else f" ({low:.{digits}f} to {high:.{digits}f})"
        return f"{middle:.{digits}f} {unit}{spread}"


_UNITS = {"s": (1.0, 3), "ms": (1e3, 1), "MB": (1 / 2**20, 1), "kB": (1 / 2**10, 1)}


@dataclass(frozen=True)
class Check:
    """A promise and the measured value.

    :param what: the promise in words.
    :param value: the measured value.
    :param limit: the largest value that keeps the promise, or with ``at_least`` the smallest.
    """

    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        """Return the line for the screen."""
        word = "at least" if self.at_least else "at most"
        return f"{'kept  ' if self.kept else 'MISSED'}  {self.what}: {self.value:.3g} ({word} {self.limit:g})"


@dataclass
class Table:
    """One table of a report."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass
class Report:
    """The result of one benchmark.

    :param figures: raw numbers by name, for the JSON file.
    :param notes: sentences for the reader, for example what was left out and why.
    """

    name: str
    quick: bool = False
    tables: list[Table] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, name: str, samples: Samples) -> Samples:
        """Add the raw values under a name and return the samples."""
        self.figures[name] = list(samples.values)
        return samples

    def text(self) -> str:
        """Return the report as Markdown."""
        parts = [f"## {self.name}{' (quick)' if self.quick else ''}, {self.seconds:.0f} s"]
        parts += [table.markdown() for table in self.tables]
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        parts += ["\n".join(f"    {check.line()}" for check in self.checks)] if self.checks else []
        return "\n\n".join(parts)

    def save(self, folder: Path = RESULTS) -> None:
        """Write ``<name>.json`` atomically."""
        folder.mkdir(exist_ok=True)
        checks = [{**asdict(check), "kept": check.kept} for check in self.checks]
        content = {**asdict(self), "checks": checks, "text": self.text(), "machine": machine()}
        content["finished_at"] = time.strftime("%FT%T%z")
        target = folder / f"{self.name}.json"
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(target)


def machine() -> dict[str, Any]:
    """Return the machine and the package versions of this measurement."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=True),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleaved(sides: Mapping[str, Callable[[], float]], repeats: int = REPEATS) -> dict[str, Samples]:
    """Measure all sides in turns, so that other load on the machine affects all of them.

    :param sides: name -> a function that returns one measurement.
    :param repeats: number of turns; each turn starts with another side.
    """
    names = list(sides)
    values: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            values[name].append(sides[name]())
    return {name: Samples(tuple(found)) for name, found in values.items()}


def in_fresh_process(code: str, *arguments: str, **environ: str) -> Any:
    """Run Python code in a new interpreter and return the JSON value of its last line of output.

    :param code: Python code that prints a JSON value as its last line.
    :param arguments: the ``sys.argv[1:]`` of the new process.
    :param environ: variables to add to the environment.
    """
    # The process writes byte code, as pip does at installation. Otherwise each import would compile this package.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the measured process failed:\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
