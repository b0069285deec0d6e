"""The read-only views, on every database."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard
from airflow_provider_axtx.core.completed import CompletedTrial
from airflow_provider_axtx.core.errors import (
    ExperimentNotFoundError,
    SchemaVersionError,
    StoreNotFoundError,
    StoreUnavailableError,
)
from airflow_provider_axtx.core.records import Observation, Proposal, TaskIdentity
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import HEAD_REVISION, VERSION_TABLE, experiments
from airflow_provider_axtx.store.views import (
    OUTAGE_SECONDS,
    ExperimentViews,
    ListFilter,
    Owners,
    RememberedOutageError,
    _Outages,
)
from tests.store.material import IDENTITY, SPEC, add, begin, experiment, proposal


@pytest.fixture
def views(store_url: str) -> ExperimentViews:
    return ExperimentViews(store_url)


@pytest.fixture
def store(store_url: str) -> ExperimentStore:
    return ExperimentStore(store_url)


def test_an_experiment_as_a_whole(store: ExperimentStore, views: ExperimentViews) -> None:
    experiment(store, 3)
    for index in (1, 2):
        begin(store, "digits", index)
    steps = [Observation(1, "loss", 0.5, None, 1.0), Observation(1, "loss", 0.25, 0.1)]
    store.complete("digits", 1, status="COMPLETED", observations=steps)
    store.plan("digits", 9)
    view = views.experiment("digits")
    assert [(t.record.index, len(t.attempts), len(t.observations)) for t in view.trials] == [
        (0, 0, 0),
        (1, 1, 1),
        (2, 1, 0),
    ]
    assert (view.has_curves, view.line.summary.planned_trials) == (True, 9)
    assert views.curves("digits") == steps[:1]
    assert views.completed("digits") == [CompletedTrial(1, {"loss": (0.25, 0.1)}, view.trials[1].record.arm_name)]
    assert views.line("digits") == view.line
    assert views.owners("digits") == Owners(frozenset({IDENTITY.dag_id}), is_shared=False)
    assert views.dag_ids() == {IDENTITY.dag_id}


def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends(store: ExperimentStore, views: ExperimentViews) -> None:
    experiment(store, 2)
    for index, length in enumerate((100, 7)):
        store.record_progress("digits", index, [Observation(index, "loss", 1.0, None, step) for step in range(length)])
    thinned = views.metric_curves("digits", "loss", most=10)
    assert [step for step, _ in thinned[1]] == list(range(7))
    assert [step for step, _ in thinned[0]] == [0, *range(9, 100, 10)]


@pytest.mark.parametrize(("origin", "counts"), [("attached", False), ("baseline", True), ("generated", False)])
def test_the_baseline_is_known_while_it_runs(
    store: ExperimentStore, views: ExperimentViews, origin: str, counts: bool
) -> None:
    store.create("digits", SPEC)
    first, second = proposal(2).trials
    both = (replace(first, origin=origin), replace(second, arm_name=first.arm_name))
    store.add_trials("digits", Proposal(both, None), task_key="task", first_slot=0, expected_version=0)
    store.complete("digits", 1, status="COMPLETED", observations=[Observation(1, "loss", 0.5)])
    assert [(trial.index, trial.is_baseline) for trial in views.completed("digits")] == [(1, counts)]


def test_the_time_of_the_explanation_is_told_apart_from_that_of_the_analyses(
    store: ExperimentStore, views: ExperimentViews
) -> None:
    def times() -> tuple[bool, bool]:
        view = views.experiment("digits")
        return view.analysed_at is not None, view.explained_at is not None

    experiment(store)
    assert times() == (False, False)
    store.record_explanation(
        "digits", [AnalysisCard("Model", "Model", "", (), EXPLANATION, "", {"completed": 3})], [], ""
    )
    assert times() == (False, True)
    store.record_analyses("digits", [AnalysisCard("Summary", "Summary", "", (), "table", "", {})])
    assert times() == (True, True)


def test_only_what_is_open_or_has_changed_is_read_again(store: ExperimentStore, views: ExperimentViews) -> None:
    experiment(store, 3)
    for index in range(2):
        store.complete("digits", index, status="FAILED", reason="x")
    since = views.experiment("digits").trials[1].updated_at
    assert [trial.record.index for trial in views.experiment("digits", since).trials] == [1, 2]
    assert [trial.record.index for trial in views.experiment("digits", since + 1).trials] == [2]


def test_the_end_of_an_attempt_that_outlives_its_trial_is_read_again(
    store: ExperimentStore, views: ExperimentViews
) -> None:
    experiment(store, 4)
    lasting, ended, *_ = (begin(store, "digits", index) for index in range(3))
    store.finish_attempt(ended, "SUCCEEDED", "")
    for index in range(4):
        store.complete("digits", index, status="EARLY_STOPPED" if index == 0 else "COMPLETED")
    store.finish_attempt(store.latest_attempt("digits", 2), "SUCCEEDED", "")

    def read(since: float) -> dict[int, list[bool]]:
        found = views.experiment("digits", since).trials
        return {trial.record.index: [run.finished_at is None for run in trial.attempts] for trial in found}

    later = time.time() + 1
    assert read(later) == {0: [True]}
    store.finish_attempt(lasting, "CANCELLED", "")
    assert read(later) == {}
    finished = store.latest_attempt("digits", 0).finished_at
    assert finished is not None
    assert read(finished) == {0: [False]}


def test_the_latest_activity_comes_first(store: ExperimentStore, views: ExperimentViews) -> None:
    for name in ("a", "b", "c"):
        experiment(store, 1, name)
    add(store, "b")
    store.complete("a", 0, status="FAILED", reason="x")
    assert names(views) == ["a", "b", "c"]


def names(views: ExperimentViews, **wanted: Any) -> list[str]:
    """Return the names on the list."""
    lines, total = views.page(ListFilter(**wanted))
    assert total == len(lines)
    return [line.summary.name for line in lines]


def test_the_list_is_searched_and_paged(store: ExperimentStore, views: ExperimentViews) -> None:
    for name in ("Exp-1", "exp-2", "other+1", "other_1"):
        experiment(store, 1, name)
    assert set(names(views, search="EXP")) == {"Exp-1", "exp-2"}
    assert names(views, search="%") == []
    assert names(views, search="r_1") == ["other_1"]
    lines, total = views.page(limit=2, offset=1)
    assert ([line.summary.name for line in lines], total) == (names(views)[1:3], 4)
    assert views.page(limit=2, offset=9) == ([], 4)


def test_an_experiment_with_a_hidden_dag_is_left_out(store: ExperimentStore, views: ExperimentViews) -> None:
    for name, dag_ids in {"mine": ["mine"], "both": ["mine", "hidden"], "outside": [""]}.items():
        experiment(store, len(dag_ids), name)
        for index, dag_id in enumerate(dag_ids):
            begin(store, name, index, identity=replace(IDENTITY, dag_id=dag_id))
    store.create("untouched", SPEC, created_by=replace(IDENTITY, dag_id="mine"))
    store.create("hidden one", SPEC, created_by=replace(IDENTITY, dag_id="creator"))
    store.create("notebook", SPEC, created_by=TaskIdentity())
    assert views.dag_ids() == {"mine", "hidden", "creator"}
    assert views.owners("both").dag_ids == {"mine", "hidden"}
    assert views.owners("outside") == views.owners("notebook") == Owners(frozenset(), is_shared=False)
    assert views.owners("hidden one").dag_ids == {"creator"}
    assert set(names(views)) == {"mine", "both", "outside", "untouched", "hidden one", "notebook"}
    hidden = {"hidden", "creator"}
    assert set(names(views, hidden_dags=hidden)) == {"mine", "outside", "untouched", "notebook"}
    assert set(names(views, hidden_dags=hidden, with_unowned=False)) == {"mine", "untouched"}


def test_the_dags_of_another_airflow_are_not_those_of_this_one(store: ExperimentStore, views: ExperimentViews) -> None:
    there, here = (replace(IDENTITY, installation=one) for one in ("there", "here"))
    store.create("theirs", SPEC, created_by=there)
    store.create("ours", SPEC, created_by=here)
    experiment(store, 2, "shared")
    for index, identity in enumerate((there, here)):
        begin(store, "shared", index, identity=identity)
    assert views.owners("theirs", "here") == Owners(frozenset(), is_shared=True)
    assert views.owners("ours", "here") == Owners(frozenset({"dag"}), is_shared=False)
    assert views.owners("shared", "here") == Owners(frozenset({"dag"}), is_shared=True)
    assert set(names(views, installation="here")) == {"theirs", "ours", "shared"}
    assert names(views, installation="here", with_unowned=False) == ["ours"]
    assert names(views, installation="here", hidden_dags={"dag"}) == ["theirs"]
    assert views.experiments_of("dag", IDENTITY.run_id, "here") == ["shared"]
    assert views.experiments_of("dag", IDENTITY.run_id, "there") == ["shared"]
    assert views.experiments_of("dag", IDENTITY.run_id, "elsewhere") == []


def test_a_reader_creates_neither_a_file_nor_tables(empty_url: str) -> None:
    path = Path(empty_url.removeprefix("sqlite:///"))
    with pytest.raises(StoreNotFoundError):
        ExperimentViews(empty_url)
    assert not path.exists()
    if empty_url.startswith("sqlite"):
        path.touch()
        with pytest.raises(StoreNotFoundError):
            ExperimentViews(empty_url)
        assert path.stat().st_size == 0
    assert ExperimentStore(empty_url).summaries() == []
    assert ExperimentViews(empty_url).page() == ([], 0)


def test_a_reader_cannot_write(store_url: str) -> None:
    database = Database(store_url, 0, reader=True)
    with pytest.raises(StoreUnavailableError, match=r"read.?only|READ ONLY"):
        database.write("test", lambda connection: connection.execute(sa.update(experiments).values(version=1)))


def test_an_older_schema_is_not_upgraded_by_a_reader(store: ExperimentStore, store_url: str) -> None:
    def set_version(version: str) -> None:
        statement = sa.text(f"UPDATE {VERSION_TABLE} SET version_num = :version").bindparams(version=version)
        store._db.write("test", lambda connection: connection.execute(statement))

    set_version("0000")
    try:
        with pytest.raises(SchemaVersionError, match="has version 0000"):
            ExperimentViews(store_url)
    finally:
        set_version(HEAD_REVISION)
    assert ExperimentViews(store_url).page() == ([], 0)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_store_that_does_not_answer_is_left_alone_for_a_minute(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("airflow_provider_axtx.store.views.time.monotonic", lambda: now)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://ax:secret@127.0.0.1:{silent.getsockname()[1]}/axtx"
        began = time.perf_counter()
        with pytest.raises(StoreUnavailableError):
            ExperimentViews(url)
        assert 1 < time.perf_counter() - began < 5
        began, now = time.perf_counter(), now + OUTAGE_SECONDS - 1
        with pytest.raises(RememberedOutageError, match=r"asked again in 1 s") as remembered:
            ExperimentViews(url)
        assert time.perf_counter() - began < 0.1
        assert "secret" not in str(remembered.value)
        now += 1
        with pytest.raises(StoreUnavailableError) as asked:
            ExperimentViews(url)
        assert not isinstance(asked.value, RememberedOutageError)


def test_a_read_that_takes_too_long_is_no_outage(store: ExperimentStore, store_url: str) -> None:
    """On SQLite nothing waits for a reader; there the statement fails at once."""
    experiment(store, 1)
    sleep = {"postgresql": "SELECT pg_sleep(60)", "mysql": "SELECT SLEEP(60)"}.get(
        store._db.backend, "SELECT nothing()"
    )
    views = ExperimentViews(store_url)
    with pytest.raises(StoreUnavailableError):
        views._read(lambda connection: connection.execute(sa.text(sleep)).all())
    assert views.page()[1] == 1


def test_a_process_whose_connections_are_all_in_use_is_no_outage(store: ExperimentStore, store_url: str) -> None:
    experiment(store, 1)
    views = ExperimentViews(store_url)

    def use_all(connection: sa.Connection) -> list[Any]:
        # The pool gives no more than ten at a time to a process.
        used = [connection.engine.connect() for _ in range(9)]
        try:
            return views.page()[0]
        finally:
            for one in used:
                one.close()

    if store._db.backend == "sqlite":
        assert views._db.read(use_all)  # there is no limit
    else:
        with pytest.raises(StoreUnavailableError, match="QueuePool limit"):
            views._db.read(use_all)
    assert views.page()[1] == 1


def test_one_thread_asks_a_store_again_and_the_others_wait_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("airflow_provider_axtx.store.views.time.monotonic", lambda: now)
    outages = _Outages()
    outages.note("url", answered=False)
    now += OUTAGE_SECONDS
    outages.check("url", "shown")
    with pytest.raises(RememberedOutageError, match="asked again in 60 s"):
        outages.check("url", "shown")
    outages.note("url", answered=True)
    outages.check("url", "shown")


def test_the_experiments_of_a_dag_run(store: ExperimentStore, views: ExperimentViews) -> None:
    experiment(store, 1, "asked")
    experiment(store, 0, "ran")
    add(store, "ran", task="another/run/generate/-1")
    begin(store, "ran")
    assert views.experiments_of("dag", "run") == []  # a DAG run is known by the key that names.dag_run_key makes
    assert views.experiments_of(IDENTITY.dag_id, IDENTITY.run_id) == ["ran"]


def test_what_does_not_exist(views: ExperimentViews) -> None:
    for read in (views.line, views.experiment, views.curves):
        with pytest.raises(ExperimentNotFoundError, match="nothing"):
            read("nothing")
