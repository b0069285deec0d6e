"""Frozen databases of each schema revision: ``released/<revision>.sql`` and what a store read from it, ``.json``.

Written once for a revision, when it is about to be released, and never again::

    python -m tests.store.releases

The SQL is an SQLite dump, tables and rows. It is what users have on their disks: a later version has to upgrade it.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import HEAD_REVISION
from tests.store.material import SPEC, add, begin, experiment

FOLDER = Path(__file__).parent / "released"


def revisions() -> list[str]:
    """Return the revisions that have a frozen database, oldest first."""
    return sorted(file.stem for file in FOLDER.glob("*.sql"))


def frozen_sql(revision: str) -> str:
    """Return the statements that make the database of that revision, with its rows."""
    return (FOLDER / f"{revision}.sql").read_text()


def frozen_content(revision: str) -> dict[str, Any]:
    """Return what a store of that revision read from it."""
    content: dict[str, Any] = json.loads((FOLDER / f"{revision}.json").read_text())
    return content


def content(store: ExperimentStore) -> dict[str, Any]:
    """Return all that the store holds, as JSON gives it back."""
    found = {}
    for summary in store.summaries():
        facts = store.snapshot(summary.name)
        found[summary.name] = {
            "facts": asdict(facts),
            "summary": asdict(summary),
            "runs": [asdict(run) for run in store.attempts(summary.name)],
            "analyses": [asdict(card) for card in store.analyses(summary.name)],
            "changes": [asdict(change) for change in store.changes(summary.name)],
            "evidence": [store.evidence(summary.name, trial.index) for trial in facts.trials],
        }
    loaded: dict[str, Any] = json.loads(json.dumps(found))
    return loaded


def differences(frozen: Any, found: Any, where: str = "") -> Iterator[str]:
    """Say what of the frozen content is not found; a later version may know more than was frozen."""
    if isinstance(frozen, dict) and isinstance(found, dict):
        for key, value in frozen.items():
            yield from differences(value, found.get(key, "<missing>"), f"{where}/{key}")
    elif isinstance(frozen, list) and isinstance(found, list) and len(frozen) == len(found):
        for number, (one, other) in enumerate(zip(frozen, found, strict=True)):
            yield from differences(one, other, f"{where}/{number}")
    elif frozen != found:
        yield f"{where}: frozen {frozen!r}, found {found!r}"


def _fill(store: ExperimentStore) -> None:
    """Record trials of every status, and values that are easily harmed."""
    name = experiment(store, 6, "Dígits 100 +~.:@=,x")
    done = store.record_handle(begin(store, name, 0), "slurm://torchx/17")
    store.finish_attempt(done, "SUCCEEDED", "")
    seen = [
        Observation(0, "loss", 0.1 + 0.2, 5e-324),
        Observation(0, "loss", 1 / 3, None, step=1.0),
        Observation(0, "Loss", 1.7976931348623157e308),
    ]
    store.complete(name, 0, status="COMPLETED", observations=seen)
    lost = store.record_handle(begin(store, name, 1), "local_docker://torchx/a")
    store.note_unseen(lost, seen=False)
    store.finish_attempt(lost, "FAILED", "lost:\nthe container is gone \\ '", is_infrastructure_failure=True)
    begin(store, name, 1, expected_attempt=2)
    cancelled = store.record_handle(begin(store, name, 2), "local_detached://torchx/b")
    store.request_cancel(cancelled, "timeout after 60 s")
    store.finish_attempt(cancelled, "CANCELLED", "")
    store.complete(name, 2, status="ABANDONED", reason="timeout after 60 s")
    store.complete(name, 3, status="FAILED", reason="loss is NaN", evidence={"loss/mean": "NaN"})
    store.record_handle(begin(store, name, 4), "kubernetes://torchx/trials:c")
    add(store, "digits" if store.create("digits", SPEC) else "", 2, task="dag/manual__2/generate/-1")
    store.plan("digits", 10)
    store.finish("digits", "search space exhausted")
    store.dag_run_generation("", "dag", "manual__2", started_at=1700000000.25, clear_number=1)
    store.record_app("digits", {"component": "utils.booth", "component_args": {}, "scheduler": "slurm"})
    store.start_loop("digits", "dag/manual__2/tune/-1", max_tries=2)
    store.stop_loop("digits", "dag/manual__2/tune/-1", "max_trials: the experiment has 2 trials")
    pause = NewChange(Action.PAUSE, "3f-☃", "Vera ' \\", "page", "the cluster is needed\nelsewhere")
    store.steer("digits", pause)
    queued = store.steer(
        "digits", NewChange(Action.QUEUE_TRIAL, "4", "vera", "cli", arguments={"parameters": {"x": 0.1}})
    )
    store.settle_change(queued, "trial 2")
    table = {"columns": ["trial_index", "loss"], "data": [[0, 0.1 + 0.2], [1, None]]}
    store.record_analyses("digits", [AnalysisCard("Summary", "Dígits", "", ("All",), "table", "<p>☃ '1'</p>", table)])


def main() -> None:
    """Freeze a database of the newest revision."""
    script = FOLDER / f"{HEAD_REVISION}.sql"
    if script.exists():
        sys.exit(f"{script} is frozen: a released database never changes. Delete it if {HEAD_REVISION} is unreleased.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        store = ExperimentStore(f"sqlite:///{file}")
        _fill(store)
        with sqlite3.connect(file) as connection:
            script.write_text("\n".join(connection.iterdump()) + "\n")
        script.with_suffix(".json").write_text(json.dumps(content(store), indent=1) + "\n")
    print(f"wrote {script} and {script.with_suffix('.json').name}", file=sys.stderr)


if __name__ == "__main__":
    main()
