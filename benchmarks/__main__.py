"""``python -m benchmarks [NAME ...]``: measures, prints tables, writes ``.benchmarks/<name>.json``.

Several benchmarks run one after the other, each in its own process. A benchmark that fails does not stop the next one.
The exit code is 1 when a benchmark fails or misses a promise.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
import warnings
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Report, machine

#: Each name is a module with a function ``run(quick) -> Report``.
BENCHMARKS = (
    "store",
    "scale",
    "parse",
    "imports",
    "waiting",
    "local_scheduler",
    "memory",
    "page",
    "loop",
    "short",
    "busy",
    "long",
    "regret_ahead",
    "lag",
    "dag",
)
#: These take more than three minutes even with ``--quick``.
NOT_QUICK = ("loop", "busy", "long", "regret_ahead", "lag", "dag")
DOCS = ROOT / "docs" / "performance.md"
_BEGIN, _END = "<!-- results -->\n", "<!-- end of results -->\n"


def _run(name: str, quick: bool) -> int:
    warnings.simplefilter("ignore")  # each load of Ax's storage warns
    started = time.monotonic()
    report: Report = importlib.import_module(f"benchmarks.{name}").run(quick)
    report.seconds = time.monotonic() - started
    report.save()
    print(f"\n{report.text()}", flush=True)
    return 0 if all(check.kept for check in report.checks) else 1


def _run_each(names: list[str], quick: bool) -> int:
    print(json.dumps(machine(), indent=1), flush=True)
    options = ["--quick"] if quick else []
    codes = [
        subprocess.run([sys.executable, "-m", "benchmarks", name, *options], cwd=ROOT).returncode for name in names
    ]
    if bad := [name for name, code in zip(names, codes, strict=True) if code]:
        print(f"\nfailed or missed a promise: {', '.join(bad)}; repeat with: python -m benchmarks {' '.join(bad)}")
    return 1 if bad else 0


def _write_docs() -> None:
    """Put the latest results into the documentation; a benchmark without new ones keeps those that are there."""
    before, _, rest = DOCS.read_text().partition(_BEGIN)
    shown, _, after = rest.partition(_END)
    # By the first word: a quick variant is one of the same benchmark, and was once dropped.
    sections = {part.split(",")[0].split()[0]: f"### {part.strip()}" for part in shown.split("### ")[1:]}
    for name in BENCHMARKS:
        if (file := RESULTS / f"{name}.json").exists():
            sections[name] = _section(json.loads(file.read_text()))
    text = "\n\n".join(sections[name] for name in BENCHMARKS if name in sections)
    DOCS.write_text(f"{before}{_BEGIN}\n{text}\n\n{_END}{after}")


def _section(result: dict[str, Any]) -> str:
    """Return the result's tables below a heading and a line that tells when and on what it was measured."""
    on = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in on["packages"].items())
    where = (
        f"Measured on {on['date']}: {on['cores']} cores ({on['processor']}), {on['memory_gb']:g} GB, "
        f"Python {on['python']}; {versions}."
    )
    heading, _, tables = str(result["text"]).partition("\n")
    return f"#{heading}\n\n{where}\n\n{tables.strip()}"


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="fewer sizes; all benchmarks together take less than three minutes"
    )
    parser.add_argument(
        "--docs", action="store_true", help="run nothing; copy the latest results into the documentation"
    )
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if options.docs:
        _write_docs()
        return 0
    if len(options.names) == 1:
        return _run(options.names[0], options.quick)
    default = [name for name in BENCHMARKS if not (options.quick and name in NOT_QUICK)]
    return _run_each(options.names or default, options.quick)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
