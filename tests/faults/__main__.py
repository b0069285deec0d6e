"""``python -m tests.faults``: kills every victim at every point, prints the table; exit code 1 unless all is zero."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

# One thread for each library: forked children inherit no thread pool.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.engines.postgres import PostgresServer
from tests.faults import cuts, thousand
from tests.faults.cases import (
    Case,
    Profile,
    Result,
    Templates,
    cases_of,
    preload,
    profile,
    run_case,
    stopping_cases,
    supervisor_cases,
    unpassed,
)
from tests.faults.scenarios import SCENARIOS, SCRIPTS, Scenario
from tests.faults.shapes import SHAPES

#: Points that no victim passes here, and the test that kills a process there.
ELSEWHERE = {
    **dict.fromkeys(
        (
            *("steering.before_add", "steering.after_add", "steering.after_reopen"),
            *("definition.before_change", "definition.after_change"),
            *("explain.before_compute", "explain.before_record", "explain.after_record"),
        ),
        "tests/lifecycle/test_steering.py",
    ),
    **{
        f"store.{moment}_{step}_commit": "tests/store/test_steering.py"
        for step in ("steer", "settle_change", "add_queued_trial", "reopen_trial")
        for moment in ("before", "after")
    },
    **{
        f"store.{moment}_{step}_commit": "tests/lifecycle/test_steering.py"
        for step in ("change_definition", "record_explanation")
        for moment in ("before", "after")
    },
    **{
        f"store.{moment}_{step}_commit": "tests/store/test_crashes.py"
        for step in (
            "finish",
            "finish_attempt",
            "plan",
            "release",
            "record_progress",
            "record_analyses",
            "pass_to_try",
            "dag_run_generation",
            "note_files_removed",
            "delete",
            "share",
        )
        for moment in ("before", "after")
    },
    "attach.before_record": "tests/lifecycle/test_attach.py",
    "attach.after_record": "tests/lifecycle/test_attach.py",
    **dict.fromkeys(
        ("cleanup.after_app", "cleanup.after_tracker", "cleanup.after_files", "local.after_trash"),
        "tests/lifecycle/test_cleanup.py",
    ),
    "early.after_progress": "tests/lifecycle/test_early_stop.py",
    "early.after_cancelled": "tests/lifecycle/test_early_stop.py",
}


#: Made before the pool, whose processes are forks: a server cannot be pickled.
_databases: list[cuts.Databases] = []


def _run_cut(victim: str, cut: cuts.Cut | None, keep: Path | None = None) -> tuple[Result, dict[str, int]]:
    return _databases[0].run(victim, cut, keep)


def main() -> int:
    """Run it; return the exit code."""
    options = _options()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="axtx-faults-templates-") as folder:
        preload(Path(folder))
        templates = Templates(Path(folder))
        server = PostgresServer()
        try:
            server.start()
            _databases.append(cuts.Databases(server))
            results, profiles = _run_all(options, templates)
        finally:
            server.remove()
    missing = set() if options.only else unpassed(profiles) - ELSEWHERE.keys()
    good = _print_table(results, missing, time.monotonic() - started)
    return 0 if good and thousand.main() else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--repeat", type=int, default=1, help="kills at each point")
    parser.add_argument("--randoms", type=int, default=3, help="kills of each victim at random lines, and moments")
    parser.add_argument("--packets", type=int, default=4, help="cuts of each victim's connection at random packets")
    parser.add_argument("--outage", type=float, default=30.0, help="seconds for which the database goes away")
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time")
    parser.add_argument("--seed", type=int, default=None, help="of the random kills")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the worlds in which something was wrong")
    parser.add_argument("--only", action="append", help="victims whose name contains this; may be given several times")
    options = parser.parse_args()
    options.seed = random.randrange(10**6) if options.seed is None else options.seed
    return options


def _run_all(options: argparse.Namespace, templates: Templates) -> tuple[list[Result], list[Profile]]:
    chance = random.Random(options.seed)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("fork")) as pool:

        def run(jobs: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> Iterator[tuple[int, Any]]:
            futures = {pool.submit(work, *given): number for number, (work, given) in enumerate(jobs)}
            for done, future in enumerate(as_completed(futures), 1):
                _progress(done, len(futures))
                for result in _results_in(future.result()):
                    # At once: the table comes when all has ended.
                    _tell(result, sys.stderr)
                yield futures[future], future.result()

        def is_wanted(scenario: Scenario) -> bool:
            return any(part in scenario.name for part in options.only or [""])

        wanted = [scenario for scenario in (*SCENARIOS, *SCRIPTS, *SHAPES) if is_wanted(scenario)]
        victims = [victim for victim in cuts.VICTIMS if is_wanted(cuts.scenario(victim))]
        first = dict(run([(profile, (templates, scenario)) for scenario in wanted]))
        sent = dict(run([(_run_cut, (victim, None)) for victim in victims]))
        cases: list[Case] = []
        for number, scenario in enumerate(wanted):
            cases += cases_of(scenario, first[number][0], repeat=options.repeat, randoms=options.randoms, chance=chance)
        if any(scenario.supervisors for scenario in wanted):
            cases += supervisor_cases(4 * options.randoms, chance)
        cases += [case for case in stopping_cases(options.randoms, chance) if is_wanted(case.scenario)]
        jobs: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
            (run_case, (templates, c, options.keep)) for c in cases
        ]
        for number, victim in enumerate(victims):
            chosen = cuts.cuts_of(sent[number][1], packets=options.packets, chance=chance)
            jobs += [(_run_cut, (victim, cut, options.keep)) for cut in chosen]
        # The outages first: they take long and no processor.
        jobs = [
            (_run_cut, (victim, cuts.Cut("COMMIT", 2, "after_commit", options.outage), options.keep))
            for victim in victims
            if victim in ("submit", "wait")
        ] + jobs
        played = dict(run(jobs))
    results = [result for _, found in first.values() for result in found] + [result for result, _ in sent.values()]
    results += [r[0] if isinstance(r, tuple) else r for _, r in sorted(played.items())]
    return results, [made for made, _ in first.values()]


def _progress(done: int, of: int) -> None:
    if sys.stderr.isatty() or done % 50 == 0:
        print(f"{done} of {of}", file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n", flush=True)


def _results_in(answer: Any) -> list[Result]:
    """Return the results in what a process of the pool answers, whichever work it has done."""
    if isinstance(answer, Result):
        return [answer]
    first, second = answer
    return second if isinstance(first, Profile) else [first]


def _tell(result: Result, stream: TextIO) -> None:
    for found in result.findings:
        print(f"{result.victim}, {result.point}: {found}", file=stream, flush=True)


_COLUMNS = ("runs", "kills", "cuts", "lost", "doubled", "left", "open", "wrong")


def _print_table(results: list[Result], missing: set[str], seconds: float) -> bool:
    rows: dict[tuple[str, str], list[int]] = {}
    for result in results:
        row = rows.setdefault((result.victim, result.point), [0] * len(_COLUMNS))
        counted = (result.lost, result.doubled, result.left, result.open, result.wrong)
        values = (1, result.kills, result.cuts, *counted)
        rows[result.victim, result.point] = [a + b for a, b in zip(row, values, strict=True)]
    wide = [max(len(key[i]) for key in rows) for i in (0, 1)]
    heads = " ".join(f"{name:>7}" for name in _COLUMNS)
    print(f"{'victim':<{wide[0]}}  {'killed at':<{wide[1]}}  {heads}")
    for (victim, point), row in sorted(rows.items(), key=lambda item: item[0][0]):
        print(f"{victim:<{wide[0]}}  {point:<{wide[1]}}  {' '.join(f'{value:>7}' for value in row)}")
    totals = [sum(column) for column in zip(*rows.values(), strict=True)]
    print(f"{'all':<{wide[0]}}  {'':<{wide[1]}}  {' '.join(f'{value:>7}' for value in totals)}")
    hit = sum(1 for row in rows.values() if row[1] or row[2])
    print(f"{hit} points x victims, {totals[1]} kills, {totals[2]} cut connections, {seconds:.0f} s")
    for result in results:
        _tell(result, sys.stdout)
    if missing:
        print(f"crash points that no victim has passed: {', '.join(sorted(missing))}")
    return not missing and not any(totals[3:])


if __name__ == "__main__":
    sys.exit(main())
