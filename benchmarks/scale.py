"""Measures a store with 50,000 trials, and 50 processes that complete trials at once while 1,000 trials wait."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_axtx.core.records import FirstAttempt, Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import observations, runs, trials
from benchmarks import store as one
from benchmarks.harness import REPEATS, ROOT, Check, Report, Samples, Table, timed

TRIALS = 50_000
#: Trials that wait and processes that complete them; each process completes its share.
WAITING, PROCESSES = 1000, 50
#: Seconds of a step of the store, and of the longest wait of a process that completes a trial.
MAX_STEP, MAX_WAIT = 1.0, 1.0
_TASK = TaskIdentity("dag", "run", "optimize", -1)
_KEY = "dag/run/optimize/-1"
_AT_ONCE = 500


def filled(url: str, number: int, *, running: int = 0) -> ExperimentStore:
    """Return a store whose experiment has this many trials, of which the last ``running`` have not ended."""
    store = ExperimentStore(url)
    store.create(one.NAME, one.SPEC)
    for first in range(0, number, _AT_ONCE):
        _add(store, first, min(_AT_ONCE, number - first), version=first // _AT_ONCE)
    if number > running:
        _end_all_but(store, url, running, number)
    return store


def _add(store: ExperimentStore, first: int, number: int, version: int) -> None:
    """Add trials as a loop does, and the first attempt of each, which has an app."""
    rows = tuple(
        ProposedTrial(f"{index}_0", one.parameters(index), "Sobol", {"generator_key": "Sobol"})
        for index in range(first, first + number)
    )
    store.add_trials(one.NAME, Proposal(rows, None), task_key=_KEY, first_slot=first, expected_version=version)
    _begin(store, range(first, first + number))


def _begin(store: ExperimentStore, indexes: range) -> None:
    firsts = [FirstAttempt(index, f"/results/{index}", 1, 0) for index in indexes]
    store.begin_first_attempts(one.NAME, firsts, scheduler="local_detached", identity=_TASK, lookup_options={}, host="")


def _end_all_but(store: ExperimentStore, url: str, running: int, number: int) -> None:
    """Complete the first trial, and copy its end to the others in a few statements: single calls take minutes."""
    one.complete_one(store, 0)
    now, last = time.time(), number - running
    columns = [column for column in observations.c if column.name not in ("experiment", "trial_index")]
    others = sa.and_(trials.c.trial_index.between(1, last - 1), observations.c.trial_index == 0)
    both = trials.join(observations, observations.c.experiment == trials.c.experiment)
    copied = sa.select(trials.c.experiment, trials.c.trial_index, *columns).select_from(both).where(others)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        names = ["experiment", "trial_index", *(column.name for column in columns)]
        connection.execute(observations.insert().from_select(names, copied))
        ended = {"status": "COMPLETED", "completed_at": now}
        connection.execute(trials.update().where(trials.c.trial_index < last).values(ended))
        times = {"submitted_at": now - 2, "started_at": now - 2, "ended_at": now - 1, "finished_at": now}
        app = {"app_handle": "local_detached://torchx/app", "app_state": "SUCCEEDED"}
        connection.execute(runs.update().where(runs.c.trial_index < last).values({**times, **app}))
    engine.dispose()


def _step(store: ExperimentStore) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the parts of a step of a loop that ends a trial and begins the next one, in order."""
    facts = store.snapshot(one.NAME)
    number = len(facts.trials)
    yield "what a loop reads in its first step", lambda: store.loop_facts(one.NAME, _KEY)
    yield "what a loop reads in each step", lambda: store.loop_facts(one.NAME, _KEY, known_slots=number)
    yield "all that Ax needs is read", lambda: store.snapshot(one.NAME)
    yield "the next trial and its attempt are recorded", lambda: _add(store, number, 1, facts.version)
    yield "the end of a trial is recorded", lambda: one.complete_one(store, number)


def _measure_steps(report: Report, folder: Path) -> Table:
    store = filled(f"sqlite:///{folder / 'large.db'}", TRIALS)
    found: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for name, part in _step(store):
            found.setdefault(name, []).append(timed(part))
    table = Table(f"An experiment of {TRIALS:,} trials on SQLite", ["part of a step", "time"])
    for name, values in found.items():
        table.rows.append([name, report.add(name, Samples(tuple(values))).shown()])
    whole = sum(statistics.median(values) for name, values in found.items() if "first step" not in name)
    report.checks.append(Check(f"seconds of the store's part of a step at {TRIALS:,} trials", whole, MAX_STEP))
    return table


#: A process of the crowd: says that it is ready, waits for a line, completes its trials, prints how long each took.
_COMPLETES = """
import json, sys, time
from airflow_provider_axtx.store.experiments import ExperimentStore
from benchmarks import store as one
url, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = ExperimentStore(url)
store.summary(one.NAME)
print("ready", flush=True)
sys.stdin.readline()
seconds = []
for index in range(first, last):
    began = time.perf_counter()
    one.complete_one(store, index)
    seconds.append(time.perf_counter() - began)
print(json.dumps(seconds))
"""


def crowd(url: str) -> tuple[list[float], dict[str, Any]]:
    """Let many processes complete all trials of an experiment at once, beside a triggerer in which as many wait.

    :return: the seconds of each completion, and the figures of the triggerer.
    """
    store, share = filled(url, WAITING, running=WAITING), WAITING // PROCESSES
    command = [sys.executable, "-c", _COMPLETES, url]
    triggerer = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.waiting", str(WAITING), "10", ""], cwd=ROOT, stdout=subprocess.PIPE
    )
    processes = [
        subprocess.Popen(
            [*command, str(first), str(first + share)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(0, WAITING, share)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    seconds: list[float] = []
    for process in processes:
        seconds += json.loads(process.communicate()[0])
    answer, _ = triggerer.communicate()
    facts = store.snapshot(one.NAME)
    assert [trial.status for trial in facts.trials] == ["COMPLETED"] * WAITING
    assert [seen.mean for seen in facts.observations] == [one.loss(index) for index in range(WAITING)]
    figures: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return seconds, figures


def _measure_crowd(report: Report, url: str) -> Table:
    seconds, triggerer = crowd(url)
    samples = report.add("completions", Samples(tuple(seconds)))
    table = Table(
        f"{PROCESSES} processes complete {WAITING} trials at once on PostgreSQL; as many wait in a triggerer",
        ["", "seconds"],
    )
    table.rows += [
        ["one completion", samples.shown()],
        ["longest block of the triggerer's event loop", f"{triggerer['lag']:.3f} s"],
    ]
    report.checks.append(Check("seconds of the longest completion", max(seconds), MAX_WAIT))
    return table


def run(quick: bool) -> Report:
    """Measure the large store, then the crowd."""
    report = Report("scale", quick)
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder, ExitStack() as stack:
        if not quick:
            report.tables.append(_measure_steps(report, Path(folder)))
        new_database = stack.enter_context(one.postgres_databases())
        if new_database is None:
            report.notes.append("PostgreSQL is not installed: the processes that complete at once were left out.")
        else:
            report.tables.append(_measure_crowd(report, new_database()))
    report.notes.append("Ax's own time is left out: it makes objects of all trials before it proposes the next one.")
    return report
