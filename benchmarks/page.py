"""Measures the data calls of the page *Experiments*: at 1,000 and 10,000 trials, and of a list of 1,000 experiments."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import REPEATS, Check, Report, Table, interleaved, timed

#: Seconds until an experiment shows something, and until the list does.
MAX_SECONDS, MAX_LIST_SECONDS = 0.3, 0.1
_STEPS = 10
#: As the page asks: trials of the first answer, and of each further one.
_FIRST, _MORE = 500, 1000
#: Experiments in the list, and trials of each.
_EXPERIMENTS, _TRIALS = 1000, 5


def run(quick: bool) -> Report:
    """Measure each data call of the application."""
    report = Report("page", quick)
    table = Table(
        f"Data calls of the page, with {_STEPS} progressive results per trial (seconds on the server)",
        [
            "trials",
            "first data",
            f"{_MORE} older trials",
            "changes",
            "learning curves",
            "bytes of first data",
            "of changes",
        ],
    )
    lists = Table(
        f"The first page of a list of {_EXPERIMENTS} experiments with {_TRIALS} trials each (seconds on the server)",
        ["", "seconds"],
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        os.environ["AIRFLOW_HOME"] = folder
        # Airflow has no database here, and logs an error for each variable that it looks for there.
        os.environ["AIRFLOW_VAR_AXTX_INSTALLATION"] = "benchmark"
        for size in (1000,) if quick else (1000, 10_000):
            table.rows.append(_measure(report, size, f"sqlite:///{Path(folder) / f'{size}.db'}"))
        lists.rows += _measure_list(report, f"sqlite:///{Path(folder) / 'list.db'}")
    report.tables += [table, lists]

    def median(name: str) -> float:
        values = report.figures[name]
        return sorted(values)[len(values) // 2]

    for size in (1000,) if quick else (1000, 10_000):
        report.checks.append(Check(f"seconds of the first data at {size} trials", median(f"first_{size}"), MAX_SECONDS))
    report.checks.append(Check("seconds of the list", median("list"), MAX_LIST_SECONDS))
    report.notes.append("The page shows the first data, fetches the older trials, then only what has changed.")
    return report


def _client(url: str) -> Callable[..., int]:
    """Return a function that sends a request to an application of its own, and returns the bytes of the answer."""
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from airflow_provider_axtx.plugin.app import create_app
    from airflow_provider_axtx.store.experiments import ExperimentStore
    from airflow_provider_axtx.store.views import ExperimentViews

    create_auth_manager()
    app = create_app(lambda conn_id: ExperimentViews(url), lambda conn_id: ExperimentStore(url, create=False))
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="someone", role="admin")
    client = TestClient(app)

    def call(path: str, **parameters: object) -> int:
        answer = client.get(path, params={key: str(value) for key, value in parameters.items()})
        answer.raise_for_status()
        return len(answer.content)

    return call


def _measure(report: Report, trials: int, url: str) -> list[str]:
    from airflow_provider_axtx.store.experiments import ExperimentStore
    from tests.plugin import material

    store = ExperimentStore(url)
    name = material.fill(store, material.SINGLE, trials, steps=_STEPS, open_trials=4)
    since = store.summary(name).last_activity_at
    call = _client(url)
    # Applications that have not seen the experiment before: nothing of it is cached.
    fresh = [_client(url) for _ in range(2 * REPEATS)]
    calls = {
        "first": lambda: fresh.pop()("/api/experiment", name=name, limit=_FIRST),
        "older": functools.partial(call, "/api/trials", name=name, before=trials - _FIRST, limit=_MORE),
        "changes": functools.partial(call, "/api/experiment", name=name, since=since),
        "curves": functools.partial(call, "/api/curves", name=name),
    }
    sizes = [calls["first"](), calls["changes"]()]
    found = interleaved({key: functools.partial(timed, each) for key, each in calls.items()}, REPEATS)
    shown = [report.add(f"{key}_{trials}", samples).shown() for key, samples in found.items()]
    return [str(trials), *shown, *map(str, sizes)]


def _measure_list(report: Report, url: str) -> list[list[str]]:
    from airflow_provider_axtx.store.experiments import ExperimentStore
    from tests.plugin import material

    store = ExperimentStore(url)
    for number in range(_EXPERIMENTS):
        material.fill(store, {**material.SINGLE, "name": f"experiment-{number}"}, _TRIALS)
    call = _client(url)
    first = timed(functools.partial(call, "/api/experiments"))
    found = interleaved({"list": functools.partial(timed, functools.partial(call, "/api/experiments"))}, REPEATS)
    return [["at first", f"{first:.3f} s"], ["afterwards", report.add("list", found["list"]).shown()]]
