"""Measures how long it takes to add a completed trial, with this store and with Ax's own persistence."""

from __future__ import annotations

import functools
import logging
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, Proposal, ProposedTrial
from airflow_provider_axtx.store.experiments import ExperimentStore
from benchmarks.harness import Check, Report, Table, interleaved, timed

NAME = "bench"
#: With more trials each step of Ax's sides takes minutes.
AX_LIMIT = 1000
_DIMENSIONS = 6
SPEC: dict[str, Any] = {
    "name": NAME,
    "parameters": [
        {"type": "range", "name": f"x{i}", "parameter_type": "float", "bounds": [0.0, 1.0]} for i in range(_DIMENSIONS)
    ],
    "objective": "-loss",
    "generation": {"method": "random_search", "initialization_random_seed": 1, "random_seed": 1},
}
_TASK = "dag/run/generate/-1"

#: Adds one completed trial and returns the object that could generate the next one.
Step = Callable[[], Any]


def parameters(index: int) -> dict[str, Any]:
    """Return the parameterization of a trial."""
    draw = random.Random(index)
    return {f"x{i}": draw.random() for i in range(_DIMENSIONS)}


def loss(index: int) -> float:
    """Return the value that the trial's app would report."""
    return sum(parameters(index).values()) / 7


def filled(url: str, trials: int) -> ExperimentStore:
    """Return a store whose experiment has this many completed trials and the generator state that Ax would leave."""
    from airflow_provider_axtx.optimizer import engine as optimizer

    store = ExperimentStore(url)
    store.create(NAME, SPEC)
    rows = tuple(ProposedTrial(f"{i}_0", parameters(i), "Sobol", {"generator_key": "Sobol"}) for i in range(trials - 1))
    store.add_trials(NAME, Proposal(rows, None), task_key=_TASK, first_slot=0, expected_version=0)
    facts = store.snapshot(NAME)
    proposal = optimizer.propose(facts, 1)
    store.add_trials(NAME, proposal, task_key=_TASK, first_slot=trials - 1, expected_version=facts.version)
    for index in range(trials):
        complete_one(store, index)
    return store


def our_step(store: ExperimentStore) -> Step:
    """Return the step on this store: two small transactions, then reading and rebuilding what Ax needs."""
    from airflow_provider_axtx.optimizer.rebuild import rebuild

    facts = store.snapshot(NAME)

    def step() -> Any:
        nonlocal facts
        complete_one(store, add_one(store, facts))
        facts = store.snapshot(NAME)
        return rebuild(facts)

    return step


def add_one(store: ExperimentStore, facts: ExperimentSnapshot) -> int:
    """Record one more trial, as a generating task does after it has read the snapshot; return its index."""
    index = len(facts.trials)
    proposed = ProposedTrial(f"{index}_0", parameters(index), "Sobol", {"generator_key": "Sobol"})
    proposal = Proposal((proposed,), facts.generator_state)
    (added,) = store.add_trials(NAME, proposal, task_key=_TASK, first_slot=index, expected_version=facts.version)
    return added.index


def complete_one(store: ExperimentStore, index: int) -> None:
    """Record the trial's outcome as a completing task does."""
    store.complete(NAME, index, status="COMPLETED", observations=[Observation(index, "loss", loss(index), 0.01)])


def json_step(store: ExperimentStore, path: Path) -> Step:
    """Return the step on Ax's JSON snapshot: saving and loading."""
    from ax.api.client import Client

    from airflow_provider_axtx.optimizer import engine as optimizer

    client, index = optimizer.client(store.snapshot(NAME)), len(store.trials(NAME))

    def step() -> Any:
        nonlocal client, index
        _complete_one(client, index)
        client.save_to_json_file(str(path))
        client = Client.load_from_json_file(str(path))
        index += 1
        return client

    return step


def sql_step(store: ExperimentStore, url: str) -> Step:
    """Return the step on Ax's SQL storage, which saves every change by itself: loading."""
    from ax.api.client import Client
    from ax.api.configs import StorageConfig
    from ax.storage.sqa_store.db import create_all_tables, get_engine, init_engine_and_session_factory
    from ax.storage.sqa_store.save import save_experiment, save_generation_strategy

    from airflow_provider_axtx.optimizer.rebuild import rebuild

    # Ax has one session factory per process, which keeps the first URL unless it is forced to take another.
    init_engine_and_session_factory(url=url, force_init=True)
    create_all_tables(get_engine())
    rebuilt, index = rebuild(store.snapshot(NAME)), len(store.trials(NAME))
    save_experiment(rebuilt.experiment)
    save_generation_strategy(rebuilt.strategy)
    config = StorageConfig(url=url)
    client = Client.load_from_database(NAME, config)

    def step() -> Any:
        nonlocal client, index
        _complete_one(client, index)
        client = Client.load_from_database(NAME, config)
        index += 1
        return client

    return step


def _complete_one(client: Any, index: int) -> None:
    attached = client.attach_trial(parameters(index))
    client.complete_trial(attached, raw_data={"loss": (loss(index), 0.01)})


@contextmanager
def postgres_databases() -> Iterator[Callable[[], str] | None]:
    """Yield a function that creates an empty PostgreSQL database and returns its URL, or None without PostgreSQL."""
    from tests.engines.postgres import PostgresServer, find_programs

    try:
        find_programs()
    except RuntimeError:
        yield None
        return
    server = PostgresServer()
    try:
        server.start()
        yield lambda: server.url(server.new_database())
    finally:
        server.remove()


def run(quick: bool) -> Report:
    """Measure the step with growing numbers of trials."""
    report = Report("store", quick)
    sizes = (10, 100, 1000) if quick else (10, 100, 400, 1000, 5000)
    ax_limit = 10 if quick else AX_LIMIT
    logging.getLogger("ax").setLevel(logging.WARNING)
    table = Table(
        "Time to add a completed trial, until another process could generate the next one (without model fitting)",
        ["trials", "this, SQLite", "this, PostgreSQL", "Ax JSON", "Ax SQL (SQLite)", "JSON / this", "SQL / this"],
    )
    report.tables.append(table)
    with ExitStack() as stack:
        new_database = stack.enter_context(postgres_databases())
        for size in sizes:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="axtx-bench-")))
            table.rows.append(_measure(report, size, folder, new_database, with_ax=size <= ax_limit))
    if new_database is None:
        report.notes.append("PostgreSQL left out: its server programs are not installed.")
    if any(size > ax_limit for size in sizes):
        why = "in the quick run" if quick else "because each of its steps takes minutes"
        report.notes.append(f"Ax above {ax_limit} trials left out {why}.")
    report.notes.append(
        "Ax starts from the same data, without the model state of each generator run that it would have saved, which "
        "favours Ax. Its SQL storage runs on SQLite because its stock tables fail on PostgreSQL."
    )
    report.checks += _checks(report)
    return report


def _measure(
    report: Report, size: int, folder: Path, new_database: Callable[[], str] | None, *, with_ax: bool
) -> list[str]:
    store = filled(f"sqlite:///{folder / 'ours.db'}", size)
    steps = {"sqlite": our_step(store)}
    if new_database is not None:
        steps["postgresql"] = our_step(filled(new_database(), size))
    if with_ax:
        steps["ax_json"] = json_step(store, folder / "ax.json")
        steps["ax_sql"] = sql_step(store, f"sqlite:///{folder / 'ax.db'}")
    for step in steps.values():
        step()
    found = interleaved({name: functools.partial(timed, step) for name, step in steps.items()})
    for name, samples in found.items():
        report.add(f"{name}_{size}", samples)
    ours = found["sqlite"].median
    shown = [found[name].shown() if name in found else "-" for name in ("sqlite", "postgresql", "ax_json", "ax_sql")]
    ratios = [f"{found[name].median / ours:.0f}x" if name in found else "-" for name in ("ax_json", "ax_sql")]
    return [str(size), *shown, *ratios]


def _checks(report: Report) -> Iterator[Check]:
    def median(name: str) -> float:
        return statistics.median(report.figures[name])

    if "ax_json_1000" in report.figures:
        for side in ("json", "sql"):
            ratio = median(f"ax_{side}_1000") / median("sqlite_1000")
            yield Check(f"times faster than Ax {side.upper()} at 1000 trials", ratio, 50, at_least=True)
    for side in ("sqlite", "postgresql"):
        if f"{side}_1000" in report.figures:
            ratio = median(f"{side}_1000") / median(f"{side}_100")
            yield Check(f"cost at 1000 trials over that at 100, {side}", ratio, 6)
