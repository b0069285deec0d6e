"""The table scheduler x case at the end of a run: what passed, what failed, what cannot be, what was not asked for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.rigs import RIGS, TIMES

#: Name under which a test's report carries its place in the table (reports travel between pytest-xdist's processes).
PLACE = "contract"
_RESULTS: dict[tuple[str, str], str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note one outcome."""
    place = dict(report.user_properties).get(PLACE)
    if place is None:
        return
    case, scheduler = str(place).split("/")
    before = _RESULTS.get((case, scheduler))
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _RESULTS[case, scheduler] = f"n/a: {reason.removeprefix('Skipped: ')}"
    elif report.failed:
        _RESULTS[case, scheduler] = "FAILED"
    elif report.when == "call" and before is None:
        _RESULTS[case, scheduler] = "passed"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table. A scheduler that was not asked for is named with the command that runs it."""
    if not _RESULTS:
        return
    write = terminalreporter.write_line
    cases = list(dict.fromkeys(case for case, _ in _RESULTS))
    width = max(map(len, cases)) + 2
    terminalreporter.section("scheduler contracts")
    write(" " * width + "".join(f"{name:>16}" for name in RIGS))
    for case in cases:
        cells = [_RESULTS.get((case, name), "-") for name in RIGS]
        write(f"{case:<{width}}" + "".join(f"{'n/a' if cell.startswith('n/a') else cell:>16}" for cell in cells))
    for (case, name), result in _RESULTS.items():
        if result.startswith("n/a"):
            write(f"{name} has no {case}: {result.removeprefix('n/a: ')}")
    for name, marker in RIGS.items():
        if not any(scheduler == name for _, scheduler in _RESULTS):
            write(f"{name} was not asked for in this run: make {f'engines-{marker}' if marker else 'test-quick'}")
    _write_times(write)


def _write_times(write: Any) -> None:
    for name in RIGS:
        medians = {
            what: sorted(seconds)[len(seconds) // 2] * 1000
            for (scheduler, what), seconds in TIMES.items()
            if scheduler == name
        }
        if medians:
            write(f"{name}: median " + ", ".join(f"{what} {ms:.0f} ms" for what, ms in medians.items()))
