"""``python -m benchmarks [NAME ...]``: measures, prints tables, writes ``.benchmarks/<name>.json``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
import warnings

from benchmarks.harness import Report, machine

#: Each in a module of its name with ``run(quick) -> Report``.
BENCHMARKS = ("store", "parse", "imports", "waiting", "local_scheduler", "memory", "loop", "dag")
#: These take longer than three minutes together even when quick.
NOT_QUICK = ("loop", "dag")


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, all by default; return 1 when a promise is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer sizes; all together under three minutes")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    warnings.simplefilter("ignore")  # of the libraries underneath, one for each of Ax's loads
    print(json.dumps(machine(), indent=1), flush=True)
    missed = 0
    default = [name for name in BENCHMARKS if not (options.quick and name in NOT_QUICK)]
    for name in options.names or default:
        started = time.monotonic()
        report: Report = importlib.import_module(f"benchmarks.{name}").run(options.quick)
        report.seconds = time.monotonic() - started
        report.save()
        print(f"\n{report.text()}", flush=True)
        missed += sum(not check.kept for check in report.checks)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
