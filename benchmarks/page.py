"""Measures the data calls of the page *Experiments* at 1,000 and at 10,000 trials."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from pathlib import Path

from benchmarks.harness import REPEATS, Check, Report, Table, interleaved, timed

MAX_SECONDS = 0.3
_STEPS = 10


def run(quick: bool) -> Report:
    """Measure each data call of the application."""
    report = Report("page", quick)
    table = Table(
        f"Data calls of the page, with {_STEPS} progressive results per trial (seconds on the server)",
        ["trials", "list", "one experiment", "its changes", "learning curves", "bytes of one experiment"],
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        os.environ["AIRFLOW_HOME"] = folder
        for size in (1000,) if quick else (1000, 10_000):
            table.rows.append(_measure(report, size, f"sqlite:///{Path(folder) / f'{size}.db'}"))
    report.tables.append(table)
    slowest = max(sorted(values)[len(values) // 2] for name, values in report.figures.items() if name.endswith("_1000"))
    report.checks.append(Check("seconds of the slowest data call at 1000 trials", slowest, MAX_SECONDS))
    report.notes.append("The page reads all trials once, and afterwards only what has changed.")
    return report


def _measure(report: Report, trials: int, url: str) -> list[str]:
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    from airflow_provider_axtx.plugin.app import create_app
    from airflow_provider_axtx.store.experiments import ExperimentStore
    from airflow_provider_axtx.store.views import ExperimentViews
    from tests.plugin import material

    store = ExperimentStore(url)
    name = material.fill(store, material.SINGLE, trials, steps=_STEPS, open_trials=4)
    since = store.summary(name).last_activity_at
    create_auth_manager()
    app = create_app(lambda conn_id: ExperimentViews(url), lambda conn_id: ExperimentStore(url, create=False))
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="someone", role="admin")
    client = TestClient(app)

    def call(path: str, **parameters: object) -> int:
        answer = client.get(path, params={key: str(value) for key, value in parameters.items()})
        answer.raise_for_status()
        return len(answer.content)

    calls = {
        "list": functools.partial(call, "/api/experiments"),
        "experiment": functools.partial(call, "/api/experiment", name=name),
        "changes": functools.partial(call, "/api/experiment", name=name, since=since),
        "curves": functools.partial(call, "/api/curves", name=name),
    }
    size = calls["experiment"]()
    found = interleaved({key: functools.partial(timed, each) for key, each in calls.items()}, REPEATS)
    shown = [report.add(f"{key}_{trials}", samples).shown() for key, samples in found.items()]
    return [str(trials), *shown, str(size)]
