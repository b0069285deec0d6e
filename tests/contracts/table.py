"""The tables at the end of a run: what passed, what failed, what cannot be, what was not asked for.

One has a row for each case of the contract and a column for each scheduler; the other one a row for each scheduler and
way of waiting, and a column for each way of ending.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.matrix import ENDS, WAITS, Place, reason_against
from tests.contracts.rig import TIMES
from tests.contracts.rigs import RIGS

#: Name under which a test's report carries its place in the table (reports travel between pytest-xdist's processes).
PLACE = "contract"
#: The same for a cell of the matrix, see ``matrix.Place``.
MATRIX_PLACE = "matrix"
_RESULTS: dict[tuple[str, str], str] = {}
_CELLS: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note one outcome."""
    properties = dict(report.user_properties)
    if (cell := properties.get(MATRIX_PLACE)) is not None:
        if report.failed:
            _CELLS[str(cell)] = "FAILED"
        elif report.when == "call":
            _CELLS[str(cell)] = "passed"
    place = properties.get(PLACE)
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
    """Print the tables. A scheduler that was not asked for is named with the command that runs it."""
    if _RESULTS:
        _write_contracts(terminalreporter)
    if _CELLS:
        _write_matrix(terminalreporter)


def _write_contracts(terminalreporter: Any) -> None:
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
    _write_missing(write, {scheduler for _, scheduler in _RESULTS})
    _write_times(write)


def _write_matrix(terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    terminalreporter.section("every way of waiting, every way of ending")
    write(f"{'':<38}" + "".join(f"{end:>13}" for end in ENDS))
    reasons: dict[str, int] = {}
    for scheduler in RIGS:
        for wait in WAITS:
            places = [Place(scheduler, wait, end) for end in ENDS]
            against = {place: reason for place in places if (reason := reason_against(place))}
            for reason in against.values():
                reasons[reason] = reasons.get(reason, 0) + 1
            cells = ["n/a" if place in against else _CELLS.get(str(place), "-") for place in places]
            write(f"{scheduler:<16}{wait!s:<22}" + "".join(f"{cell:>13}" for cell in cells))
    for reason, number in reasons.items():
        write(f"n/a in {number} cells: {reason}")
    write(f"{sum(result == 'passed' for result in _CELLS.values())} of {len(_CELLS)} cells of this run passed")
    _write_missing(write, {cell.partition("/")[0] for cell in _CELLS})


def _write_missing(write: Any, asked_for: set[str]) -> None:
    for name, marker in RIGS.items():
        if name not in asked_for:
            write(f"{name} was not asked for in this run: make {f'engines-{marker}' if marker else 'test-quick'}")


def _write_times(write: Any) -> None:
    for name in RIGS:
        medians = {
            what: sorted(seconds)[len(seconds) // 2] * 1000
            for (scheduler, what), seconds in TIMES.items()
            if scheduler == name
        }
        if medians:
            write(f"{name}: median " + ", ".join(f"{what} {ms:.0f} ms" for what, ms in medians.items()))
