"""No query of the store reads a whole table, except the overview, which reads an index."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.records import FirstAttempt, Observation
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews
from tests.store.conftest import TABLES, Server
from tests.store.material import IDENTITY, SPEC, add, begin, experiment, proposal


@pytest.fixture
def plans(migrated_file: Path, tmp_path: Path) -> tuple[ExperimentStore, dict[str, list[str]]]:
    """A store, and the plan of each statement that it executes, collected as it goes."""
    path = tmp_path / "store.db"
    path.write_bytes(migrated_file.read_bytes())
    store = ExperimentStore(f"sqlite:///{path}")
    return store, plans_of(store._db)


def plans_of(database: Database) -> dict[str, list[str]]:
    """Return the plan of each statement that is executed from now on, as it goes."""
    collected: dict[str, list[str]] = {}

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if re.match(r"SELECT|UPDATE|DELETE|INSERT", statement):
            asked = cursor.connection.cursor()
            asked.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
            collected[statement] = [row[3] for row in asked]

    sa.event.listen(database._engine, "before_cursor_execute", explain)
    return collected


#: Not in the test: the overview has one of its own, a cleanup reads all experiments anyway, closing asks nothing.
ELSEWHERE = {"summaries", "to_be_deleted", "close"}


def counted(store: ExperimentStore, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the set that the names of the store's methods go into when they are called."""
    called: set[str] = set()

    def wrap(name: str, method: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            called.add(name)
            return method(*arguments, **options)

        return call

    for name in (name for name in dir(ExperimentStore) if not name.startswith("_")):
        monkeypatch.setattr(store, name, wrap(name, getattr(store, name)))
    return called


def exercise(store: ExperimentStore, name: str, index: int = 0) -> None:
    """Call whatever the store can do with one experiment and a trial of it that has no run yet."""
    run = store.record_handle(begin(store, name, index, expected_attempt=1), "local://s/app")
    store.note_unseen(run, seen=False)
    store.request_cancel(run, "why")
    assert (
        store.open_attempts(experiment=name)
        == store.open_attempts(dag_id="dag", run_id="manual__1")
        == store.open_attempts()
    )
    store.finish_attempt(run, "FAILED", "exit 1")
    store.record_progress(name, index, [Observation(index, "m", 1.0, None, 1.0)])
    store.complete(name, index, status="FAILED", observations=[Observation(index, "m", 1.0)])
    begin(store, name, index, reopen_reason="cleared")
    with store.lease(name, "me", 1):
        add(store, name)
    for call in (store.snapshot, store.trials, store.attempts, store.summary, store.uid, store.spec):
        call(name)
    store.observations(name, index)
    store.attempt(name, index, 1)
    store.finish(name, "x")
    store.plan(name, 10)
    store.trial(name, index)
    store.latest_attempt(name, index)
    store.attempts(name, index)
    store.loop(name, "task")
    store.open_trials()
    store.open_trials(dag_run="dag")
    store.open_trials(experiment=name)
    store.requested_by(name, index)
    store.evidence(name, index)
    store.attempt_by_key(run.submission_key)
    store.note_poll_failure(run)
    store.clear_poll_failures(run)
    store.note_started([(run, 1.0)])
    store.pass_to_try(run, replace(run.identity, try_number=run.identity.try_number + 1))
    store.end_attempt(run, AppObservation("FAILED", "exit 1"))
    store.record_app(name, {"component": "c"})
    store.app(name)
    store.share(name, ("other_*",))
    store.ownership(name)
    store.finish_observed(run, AppObservation("FAILED", "exit 1"))
    store.dag_run_generation("", "dag", "manual__1", started_at=1.0, clear_number=0)
    store.loop_of_task("task")
    store.create(name, SPEC)
    store.start_loop(name, "task", max_tries=0)
    store.start_loop(name, "task", max_tries=1)
    store.stop_loop(name, "task", "enough", seen=-1)
    store.record_analyses(name, store.analyses(name))
    (fresh,) = add(store, name, task="dag/run/loop/-1")
    (begun,) = store.begin_first_attempts(name, [FirstAttempt(fresh.index, "/t")], scheduler="s", identity=IDENTITY)
    store.record_handles([(begun, "s://s/new")])
    store.finish_attempt(begun, "SUCCEEDED", "")
    (given_up,) = add(store, name, task="dag/run/loop/-1")
    store.complete(name, given_up.index, status="ABANDONED", reason="task killed")
    assert store.loop_facts(name, "dag/run/loop/-1", asked=[fresh.index], asked_reason="task killed").asked_by
    store.facts_for_proposal(name, "dag/run/loop/-1", 0)
    _steer(store, name, index)
    _remove(store, name)


def _steer(store: ExperimentStore, name: str, index: int) -> None:
    """Call whatever the store can do with what users want of the experiment."""
    store.complete(name, index, status="FAILED")
    for action in (Action.PAUSE, Action.RUN, Action.LIMITS, Action.ARCHIVE):
        store.steer(name, NewChange(action, str(action), "vera", "cli"))
    queued = store.steer(name, NewChange(Action.QUEUE_TRIAL, "1", "vera", "cli", arguments={"parameters": {}}))
    facts = store.snapshot(name)
    store.add_queued_trial(
        queued, proposal(first=90), task_key="dag/run/steer/-1", slot=0, expected_version=facts.version
    )
    again = store.steer(name, NewChange(Action.RETRY_TRIAL, "2", "vera", "cli", trial_index=index))
    store.reopen_trial(again)
    store.settle_change(store.steer(name, NewChange(Action.STOP_TRIAL, "3", "vera", "cli", trial_index=index)), "done")
    changed = NewChange(Action.CHANGE_DEFINITION, "4", "vera", "cli")
    version = store.snapshot(name).version
    store.change_definition(name, changed, {**SPEC, "name": name}, differences=["none"], expected_version=version)
    store.backfill_values(name)
    store.record_explanation(name, store.explanation(name), [], "computed")
    store.explained(name)
    store.last_asked([name])
    store.steering(name)
    store.changes(name)


def _remove(store: ExperimentStore, name: str) -> None:
    """Remove the experiment, after its trials and attempts have ended."""
    keys = [run.submission_key for run in store.attempts(name)]
    store.note_files_removed(name, keys)
    store.note_checkpoints_removed(name, keys)
    for trial in store.trials(name):
        store.complete(name, trial.index, status="ABANDONED", overwrite=True)
    for run in store.open_attempts(experiment=name):
        store.finish_attempt(store.record_handle(run, "local://s/again"), "CANCELLED", "")
    store.delete(name, store.use(name).uid, keys)


def test_every_statement_uses_an_index(
    plans: tuple[ExperimentStore, dict[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, collected = plans
    called = counted(store, monkeypatch)
    exercise(store, experiment(store, 3))
    scans = {statement: plan for statement, plan in collected.items() if any("SCAN axtx" in line for line in plan)}
    assert called == {name for name in dir(ExperimentStore) if not name.startswith("_")} - ELSEWHERE
    assert scans == {}, "these read a whole table"


def test_what_a_page_reads_again_is_found_by_an_index(
    plans: tuple[ExperimentStore, dict[str, list[str]]], tmp_path: Path
) -> None:
    store, _ = plans
    experiment(store, 3)
    views = ExperimentViews(f"sqlite:///{tmp_path / 'store.db'}")
    collected = plans_of(views._db)
    views.experiment("digits", 1.0)
    views.metric_curves("digits", "m", since=1.0, most=5)
    views.curves("digits", 1.0)
    of_trials = [plan for statement, plan in collected.items() if "axtx_runs" in statement]
    assert len(of_trials) == 4
    assert [line for plan in collected.values() for line in plan if "SCAN axtx" in line] == []
    # The attempts of one experiment, not those of the whole store.
    runs = [line for plan in of_trials for line in plan if "axtx_runs" in line]
    assert [line for line in runs if "(experiment=?" not in line] == []


def _seq_scans(rows: list[Any]) -> bool:
    return any("Seq Scan on axtx" in row[0] for row in rows)


def _full_scans(rows: list[Any]) -> bool:
    # A table whose rows nearly all match is read whole although there is an index; what counts is that there is one.
    return any(
        str(table).startswith("axtx") and kind in ("ALL", "index") and possible is None
        for _, _, table, kind, possible, *_ in rows
    )


#: How to have a small table read by its index where there is one, and how a plan shows that there is none.
SERVERS: dict[str, tuple[str, Callable[[list[Any]], bool]]] = {
    "postgresql": ("SET enable_seqscan = off", _seq_scans),
    "mysql": ("SET SESSION max_seeks_for_key = 1", _full_scans),
}


def test_every_statement_uses_an_index_on_a_server(server: Server, server_database: str) -> None:
    store = ExperimentStore(server.url(server_database))
    for name in ("one", "two", "three"):
        experiment(store, 300, name)
    for index in range(40):
        store.finish_attempt(begin(store, "two", index), "SUCCEEDED", "")
        store.complete("two", index, status="COMPLETED", observations=[Observation(index, "m", 1.0)])
    server.execute(f"ANALYZE{' TABLE' * (store._db.backend == 'mysql')} {', '.join(TABLES)}", database=server_database)
    favour, scans = SERVERS[store._db.backend]
    collected: dict[str, bool] = {}

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, many: bool) -> None:
        if re.match(r"SELECT|UPDATE|DELETE", statement) and "axtx_" in statement:
            with cursor.connection.cursor() as asked:
                asked.execute(favour)
                asked.execute(f"EXPLAIN {statement}", parameters[0] if many else parameters)
                collected[statement] = scans(list(asked.fetchall()))

    sa.event.listen(store._db._engine, "before_cursor_execute", explain)
    exercise(store, "one")
    sa.event.remove(store._db._engine, "before_cursor_execute", explain)
    store.close()
    assert len(collected) > 20
    assert [statement for statement, scanned in collected.items() if scanned] == [], "these read a whole table"


def test_the_overview_does_not_read_parameterizations(plans: tuple[ExperimentStore, dict[str, list[str]]]) -> None:
    store, collected = plans
    experiment(store, 3)
    collected.clear()
    store.summaries()
    ((statement, plan),) = collected.items()
    assert "axtx_trials" in statement
    (trials,) = [line for line in plan if "axtx_trials" in line]
    assert "USING COVERING INDEX ix_axtx_trials_experiment_status_updated_at" in trials
