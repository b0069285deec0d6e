"""The contract of experiments: creation, facts, summaries, the end, the lease."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from airflow_provider_axtx.core.errors import (
    ExperimentExistsError,
    ExperimentNotFoundError,
    InvalidInputError,
    StoreUnavailableError,
)
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.store import _experiment_rows
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import SPEC, add, at_once, experiment


def test_create_then_resume(store: ExperimentStore) -> None:
    assert store.create("digits", SPEC, ax_version="1.3.1") is True
    assert store.create("digits", SPEC) is False
    facts = store.snapshot("digits")
    assert (facts.name, facts.spec, facts.version, facts.generator_state) == ("digits", SPEC, 0, None)
    assert facts.trials == () and facts.observations == () and len(facts.uid) == 32
    assert (store.uid("digits"), store.spec("digits")) == (facts.uid, facts.spec)


def test_a_spec_with_tuples_is_the_same_after_its_way_through_json(store: ExperimentStore) -> None:
    store.create("digits", {"bounds": (0.1, 1e-300)})
    assert store.create("digits", {"bounds": (0.1, 1e-300)}) is False


def test_fail_if_it_exists(store: ExperimentStore) -> None:
    store.create("digits", SPEC, if_exists="fail")
    with pytest.raises(ExperimentExistsError, match="'digits' exists already"):
        store.create("digits", SPEC, if_exists="fail")


def test_another_definition_is_refused_with_the_fields_that_differ(store: ExperimentStore) -> None:
    store.create("digits", SPEC)
    with pytest.raises(ExperimentExistsError) as caught:
        store.create("digits", {**SPEC, "objective": "accuracy", "extra": 1})
    assert 'objective: stored "-loss", given "accuracy"' in str(caught.value)
    assert "extra: stored null, given 1" in str(caught.value)
    assert "parameters" not in caught.value.message
    assert store.snapshot("digits").spec == SPEC


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a ", "a/b", "a\\b", "a\nb", "a\x00b", "..", ".", "\ud800", "x" * 101, "a\u2028b"]
)
def test_unusable_names(store: ExperimentStore, name: str) -> None:
    with pytest.raises(InvalidInputError, match="name cannot be"):
        store.create(name, SPEC)
    assert store.summaries() == []


@pytest.mark.parametrize("name", ["x" * 100, "Überwachung 1", "a.b:c", "数字"])
def test_usable_names(store: ExperimentStore, name: str) -> None:
    store.create(name, SPEC)
    assert store.snapshot(name).name == name


def test_names_differ_by_case(store: ExperimentStore) -> None:
    assert store.create("Digits", SPEC) and store.create("digits", {"other": 1})


def test_an_unknown_if_exists_is_refused(store: ExperimentStore) -> None:
    with pytest.raises(InvalidInputError, match="if_exists cannot be 'replace'"):
        store.create("digits", SPEC, if_exists="replace")  # type: ignore[arg-type]


def test_unknown_experiments(store: ExperimentStore) -> None:
    for call in (
        lambda: store.snapshot("nope"),
        lambda: store.trials("nope"),
        lambda: store.trial("nope", 0),
        lambda: store.summary("nope"),
        lambda: store.finish("nope", "why"),
        lambda: store.attempts("nope"),
        lambda: store.complete("nope", 0, status="FAILED"),
        lambda: store.lease("nope", "me", 1).__enter__(),
    ):
        with pytest.raises(ExperimentNotFoundError, match="no experiment 'nope'"):
            call()


def test_facts_hold_everything_in_order(store: ExperimentStore) -> None:
    name = experiment(store, 3)
    for index in (2, 0):
        store.complete(
            name,
            index,
            status="COMPLETED",
            observations=[
                Observation(index, "b", 1.0),
                Observation(index, "Z", 2.0, 0.5),
                Observation(index, "b", 3.0, None, 10.0),
                Observation(index, "b", 4.0, None, 2.0),
            ],
        )
    facts = store.snapshot(name)
    assert [trial.index for trial in facts.trials] == [0, 1, 2]
    assert [trial.status for trial in facts.trials] == ["COMPLETED", "CANDIDATE", "COMPLETED"]
    assert facts.generator_state == {"next": 3}
    seen = [(o.trial_index, o.metric, o.step) for o in facts.observations]
    each = [("Z", None), ("b", 2.0), ("b", 10.0), ("b", None)]
    assert seen == [(index, *rest) for index in (0, 2) for rest in each]
    assert store.observations(name, 2) == list(facts.observations[4:])


def test_summaries(store: ExperimentStore) -> None:
    before = time.time()
    store.create("b", SPEC, ax_version="1.3.1")
    add(store, "b", 3)
    store.complete("b", 0, status="FAILED", reason="exit 1")
    store.create("B", SPEC)
    first, second = store.summaries()
    assert (first.name, first.trial_counts, first.stop_reason) == ("B", {}, None)
    assert first.last_activity_at == first.created_at
    assert (second.name, second.trial_counts, second.ax_version) == ("b", {"CANDIDATE": 2, "FAILED": 1}, "1.3.1")
    assert before <= second.created_at < second.last_activity_at <= time.time()
    assert store.summary("b") == second


def test_the_first_end_stays(store: ExperimentStore) -> None:
    name = experiment(store)
    assert store.finish(name, "search space exhausted") == "search space exhausted"
    assert store.finish(name, "max_trials") == "search space exhausted"
    assert store.summary(name).stop_reason == "search space exhausted"


def test_lease_keeps_another_waiting_until_it_is_released(store: ExperimentStore) -> None:
    name = experiment(store)
    got = threading.Event()

    def other() -> None:
        with store.lease(name, "second", 60) as lease:
            assert lease.taken
            got.set()

    with store.lease(name, "first", 60) as lease:
        assert lease.taken
        waiting = threading.Thread(target=other)
        waiting.start()
        assert not got.wait(0.3)
    assert got.wait(30)
    waiting.join()


def test_lease_is_not_waited_for_beyond_its_time(store: ExperimentStore) -> None:
    name = experiment(store)
    with store.lease(name, "first", 60), store.lease(name, "second", 0.2) as lease:
        assert not lease.taken
    with store.lease(name, "third", 5) as lease:
        assert lease.taken


def test_lease_of_a_dead_owner_expires_and_its_retry_does_not_wait(store: ExperimentStore) -> None:
    name = experiment(store)
    store.lease(name, "dead", 0.5).__enter__()
    with store.lease(name, "dead", 0.5) as lease:
        assert lease.taken
    store.lease(name, "dead", 0.5).__enter__()
    with store.lease(name, "other", 30) as lease:
        assert lease.taken


def test_a_lease_that_cannot_be_given_back_fails_nothing(
    store: ExperimentStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailableError("The database is away.", fix="start it.")

    name = experiment(store)
    with store.lease(name, "first", 0.5):
        # What was done under it is recorded; only then the database goes away.
        monkeypatch.setattr(_experiment_rows, "release_lease", away)
    assert "was not released and will expire: The database is away." in caplog.text
    with store.lease(name, "second", 30) as lease:
        assert lease.taken


def test_an_expired_lease_is_not_released_for_its_new_owner(store: ExperimentStore) -> None:
    name = experiment(store)
    with store.lease(name, "slow", 0.1):
        second = store.lease(name, "quick", 30)
        assert second.__enter__().taken
    with store.lease(name, "third", 0.2) as lease:
        assert not lease.taken
    second.__exit__(None, None, None)


def test_lease_is_released_when_the_work_fails(store: ExperimentStore) -> None:
    name = experiment(store)
    with pytest.raises(ZeroDivisionError), store.lease(name, "first", 60):
        _ = 1 / 0
    with store.lease(name, "second", 0.2) as lease:
        assert lease.taken


def test_lease_is_held_by_one_process_at_a_time(store: ExperimentStore) -> None:
    name = experiment(store)

    def work(number: int) -> tuple[float, float]:
        with store.lease(name, f"task {number}", 60) as lease:
            assert lease.taken
            start = time.monotonic()
            store.trials(name)
            return start, time.monotonic()

    spans = sorted(at_once(4, work))
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start
