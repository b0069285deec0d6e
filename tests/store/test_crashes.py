"""SIGKILL around every commit, then the step again: exactly one effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.keys import submission_key
from airflow_provider_axtx.core.records import AttemptRecord, FirstAttempt, Observation
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import IDENTITY, SPEC, begin, experiment, killed_at, proposal

Step = Callable[[ExperimentStore], Any]
#: Never the same twice, so left out of a comparison.
_TIMES = {"requested_at", "submitted_at", "finished_at", "cancel_requested_at", "last_activity_at", "created_at"}


def _run(store: ExperimentStore) -> AttemptRecord:
    run = store.latest_attempt("digits", 0)
    assert run is not None
    return run


def _nothing(_: ExperimentStore) -> None:
    pass


def _begun(store: ExperimentStore) -> None:
    experiment(store)
    begin(store, "digits")


def _submitted(store: ExperimentStore) -> None:
    _begun(store)
    store.record_handle(_run(store), "local://s/app")


def _ended(store: ExperimentStore) -> None:
    _submitted(store)
    store.finish_attempt(_run(store), "FAILED", "")
    store.complete("digits", 0, status="FAILED")


def _uid(store: ExperimentStore) -> str:
    return store.uid("digits") if store.summaries() else "gone"


def _keys(store: ExperimentStore) -> list[str]:
    return [run.submission_key for run in store.attempts("digits")] if store.summaries() else []


def _begin_or_attach(store: ExperimentStore) -> AttemptRecord:
    """What a submitting task does: attach to the run that is there, else begin the first."""
    return store.latest_attempt("digits", 0) or begin(store, "digits", expected_attempt=1)


def _begin_first(store: ExperimentStore) -> list[AttemptRecord]:
    first = FirstAttempt(0, f"/results/{submission_key('digits', store.uid('digits'), 0, 1)}")
    return store.begin_first_attempts("digits", [first], scheduler="local_detached", identity=IDENTITY)


def _lease(store: ExperimentStore) -> None:
    with store.lease("digits", "task", 10.0) as lease:
        assert lease.taken


_CARD = AnalysisCard("Summary", "Summary", "", (), "table", "<p></p>", {"columns": ["loss"], "data": [[0.1]]})
_DONE = [Observation(0, "loss", 0.1), Observation(0, "loss", 0.3, step=1.0)]
STEPS: dict[str, tuple[Step, Step]] = {
    "create": (_nothing, lambda store: store.create("digits", SPEC)),
    "add_trials": (
        experiment,
        lambda store: store.add_trials("digits", proposal(2), task_key="t", first_slot=0, expected_version=1),
    ),
    "begin_attempt": (experiment, _begin_or_attach),
    "begin_first_attempts": (experiment, lambda store: store.attempts("digits") or _begin_first(store)),
    "record_handles": (_begun, lambda store: store.record_handles([(_run(store), "local://s/app")])),
    "record_handle": (_begun, lambda store: store.record_handle(_run(store), "local://s/app")),
    "request_cancel": (_submitted, lambda store: store.request_cancel(_run(store), "timeout")),
    "note_unseen": (_submitted, lambda store: store.note_unseen(_run(store), seen=False)),
    "finish_attempt": (_submitted, lambda store: store.finish_attempt(_run(store), "SUCCEEDED", "")),
    "complete": (_submitted, lambda store: store.complete("digits", 0, status="COMPLETED", observations=_DONE)),
    "finish": (experiment, lambda store: store.finish("digits", "budget spent")),
    "record_progress": (
        _submitted,
        lambda store: store.record_progress("digits", 0, [Observation(0, "loss", 0.5, step=1.0)]),
    ),
    "record_analyses": (experiment, lambda store: store.record_analyses("digits", [_CARD])),
    "pass_to_try": (
        _submitted,
        lambda store: store.pass_to_try(_run(store), replace(_run(store).identity, try_number=9)),
    ),
    "dag_run_generation": (
        experiment,
        lambda store: store.dag_run_generation("here", "dag", "run", started_at=1.0, clear_number=0),
    ),
    "share": (experiment, lambda store: store.share("digits", ("other_*",))),
    "finish_observed": (_submitted, lambda store: store.finish_observed(_run(store), AppObservation("FAILED", "1"))),
    "release": (experiment, _lease),
    "plan": (experiment, lambda store: store.plan("digits", 10)),
    "note_files_removed": (_ended, lambda store: store.note_files_removed("digits", _keys(store))),
    "note_checkpoints_removed": (_ended, lambda store: store.note_checkpoints_removed("digits", _keys(store))),
    "delete": (_ended, lambda store: store.delete("digits", _uid(store), _keys(store))),
}


def recorded(store: ExperimentStore) -> Any:
    """All that the store holds, without times and random ids."""
    if not store.summaries():
        return None
    facts = asdict(store.snapshot("digits"))
    uid = facts.pop("uid")
    runs = [{key: value for key, value in asdict(run).items() if key not in _TIMES} for run in store.attempts("digits")]
    for run in runs:
        assert run.pop("submission_key") in run.pop("tracker_base")
        run["lookup_options"] = sorted(run["lookup_options"] or ())
    summary = {key: value for key, value in asdict(store.summary("digits")).items() if key not in _TIMES}
    facts["ownership"] = store.ownership("digits")
    assert uid
    return facts, runs, summary, [replace(card, created_at=None) for card in store.analyses("digits")]


@pytest.fixture(params=STEPS)
def step(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def expected(step: str, migrated_file: Any, tmp_path: Any) -> tuple[Any, Any]:
    """What an undisturbed store holds before and after the step."""
    before, work = STEPS[step]
    store = ExperimentStore(f"sqlite:///{tmp_path / 'undisturbed.db'}")
    before(store)
    start = recorded(store)
    work(store)
    return start, recorded(store)


def test_killed_before_the_commit(store: ExperimentStore, step: str, expected: tuple[Any, Any]) -> None:
    before, work = STEPS[step]
    before(store)
    killed_at(f"store.before_{step}_commit", lambda: work(store))
    assert recorded(store) == expected[0]
    work(store)
    assert recorded(store) == expected[1]


def test_killed_after_the_commit(store: ExperimentStore, step: str, expected: tuple[Any, Any]) -> None:
    before, work = STEPS[step]
    before(store)
    killed_at(f"store.after_{step}_commit", lambda: work(store))
    assert recorded(store) == expected[1]
    if step != "note_unseen":  # another poll is another poll
        work(store)
    assert recorded(store) == expected[1]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_the_tables_are_made(empty_url: str, moment: str) -> None:
    killed_at(f"store.{moment}_schema_commit", lambda: ExperimentStore(empty_url))
    assert ExperimentStore(empty_url).create("digits", SPEC)
