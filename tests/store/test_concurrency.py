"""Real processes at once, forked from one that has used the store already."""

from __future__ import annotations

import threading

import alembic.command
import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.errors import ExperimentExistsError, StoreConflictError, TrialStateError
from airflow_provider_axtx.core.records import AttemptRecord, Observation, TrialRecord
from airflow_provider_axtx.store import _trial_rows
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import SPEC, add, at_once, begin, experiment, proposal


def test_twenty_processes_open_a_fresh_database(empty_url: str) -> None:
    def work(number: int) -> bool:
        return ExperimentStore(empty_url).create(f"e{number}", SPEC)

    assert alembic.command, "imported once, not in each of the children"
    assert at_once(20, work) == [True] * 20
    assert len(ExperimentStore(empty_url).summaries()) == 20


def test_twenty_processes_complete_trials(store: ExperimentStore) -> None:
    name = experiment(store, 60)

    def work(number: int) -> None:
        for index in range(number, 60, 20):
            store.complete(name, index, status="COMPLETED", observations=[Observation(index, "m", index / 7, 0.1)])

    assert at_once(20, work) == [None] * 20
    facts = store.snapshot(name)
    assert {trial.status for trial in facts.trials} == {"COMPLETED"}
    assert facts.observations == tuple(Observation(index, "m", index / 7, 0.1) for index in range(60))


def test_one_trial_completed_by_many_has_one_outcome(store: ExperimentStore) -> None:
    name = experiment(store)

    def work(number: int) -> TrialRecord:
        return store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "m", float(number % 2))])

    answers = at_once(6, work)
    (kept,) = store.observations(name, 0)
    won = [number for number, answer in enumerate(answers) if isinstance(answer, TrialRecord)]
    assert won == [number for number in range(6) if number % 2 == kept.mean]


@pytest.mark.parametrize("processes", [2, 8])
def test_processes_that_generate_get_distinct_consecutive_indexes(store: ExperimentStore, processes: int) -> None:
    store.create("digits", SPEC)

    def work(number: int) -> list[int]:
        got: list[int] = []
        while len(got) < 3:
            try:
                got.append(add(store, "digits", task=f"task {number}")[0].index)
            except StoreConflictError:
                continue  # as the generating task does: read the facts again
        return got

    answers = at_once(processes, work)
    assert sorted(index for answer in answers for index in answer) == list(range(3 * processes))
    facts = store.snapshot("digits")
    assert facts.version == 3 * processes
    # Each proposal was made from all facts before it.
    assert [trial.arm_name for trial in facts.trials] == [f"{index}_0" for index in range(3 * processes)]
    assert facts.generator_state == {"next": 3 * processes}


def test_a_task_run_twice_at_once_gets_the_same_trials(store: ExperimentStore) -> None:
    store.create("digits", SPEC)

    def work(number: int) -> list[TrialRecord]:
        return store.add_trials("digits", proposal(2), task_key="same", first_slot=0, expected_version=0)

    answers = at_once(6, work)
    assert answers == [store.trials("digits")] * 6
    assert len(answers[0]) == 2


def test_of_processes_that_race_for_an_attempt_one_gets_it(store: ExperimentStore) -> None:
    name = experiment(store)
    answers = at_once(8, lambda _: begin(store, name, expected_attempt=1))
    won = [answer for answer in answers if isinstance(answer, AttemptRecord)]
    assert won == store.attempts(name)
    assert [type(answer) for answer in answers if answer not in won] == [StoreConflictError] * 7


def test_no_run_begins_on_a_trial_that_is_just_being_completed(store: ExperimentStore) -> None:
    name = experiment(store)
    outcome = _trial_rows.checked_outcome(0, "COMPLETED", [], None, None)
    holding, go = threading.Event(), threading.Event()

    def slowly(connection: sa.Connection) -> None:
        _trial_rows.complete(connection, name, 0, outcome, overwrite=False)
        holding.set()
        assert go.wait(30)

    completing = threading.Thread(target=store._db.write, args=("complete", slowly))
    completing.start()
    assert holding.wait(30)
    threading.Timer(0.3, go.set).start()
    with pytest.raises(TrialStateError, match="is COMPLETED"):
        begin(store, name)
    completing.join()
    assert (store.trial(name, 0).status, store.attempts(name)) == ("COMPLETED", [])


def test_processes_that_create_the_same_experiment(store: ExperimentStore) -> None:
    assert sorted(at_once(8, lambda _: store.create("digits", SPEC))) == [False] * 7 + [True]
    refused = at_once(4, lambda number: store.create("digits", {"other": number}))
    assert [type(answer) for answer in refused] == [ExperimentExistsError] * 4


def test_facts_are_of_one_moment_while_others_add(store: ExperimentStore) -> None:
    name = experiment(store)
    done = threading.Event()

    def writer() -> None:
        for _ in range(40):
            add(store, name)
        done.set()

    adding = threading.Thread(target=writer)
    adding.start()
    while not done.is_set():
        facts = store.snapshot(name)
        # experiment() added one trial at version 1, each addition one more.
        assert len(facts.trials) == facts.version
        assert facts.generator_state == {"next": facts.version}
    adding.join()
    assert store.snapshot(name).version == 41


def test_a_parent_goes_on_after_its_children_have_ended(store: ExperimentStore) -> None:
    name = experiment(store, 4)
    for _ in range(3):
        assert at_once(2, lambda _: len(store.trials(name))) == [4, 4]
        assert len(store.trials(name)) == 4


def test_an_experiment_is_removed_whole_or_used_again(store: ExperimentStore) -> None:
    """Tasks add trials, run failed ones again and record results while two processes remove the experiment."""

    def work(number: int) -> object:
        if number == 0:
            return add(store, "digits", task="late")[0].index
        if number == 1:
            return begin(store, "digits", 0, reopen_reason="cleared")
        if number == 2:
            return store.complete("digits", 1, status="COMPLETED", observations=[Observation(1, "m", 1.0)])
        return store.delete("digits", uid, keys)

    outcomes = set()
    for _ in range(4):
        experiment(store, 2)
        attempt = store.record_handle(begin(store, "digits", 0), "local://s/app")
        store.finish_attempt(attempt, "FAILED", "")
        store.complete("digits", 0, status="FAILED")
        store.complete("digits", 1, status="COMPLETED", observations=[Observation(1, "m", 1.0)])
        uid, keys = store.uid("digits"), [attempt.submission_key]
        answers = at_once(5, work)
        used = [not isinstance(answer, Exception) for answer in answers]
        is_gone = not store.summaries()
        outcomes.add(is_gone)
        if is_gone:
            assert used[3] or used[4]
            assert answers[0] is not None and not used[0] and not used[1], answers
            store.create("digits", SPEC)
            assert (store.trials("digits"), store.attempts("digits")) == ([], [])
        else:
            assert used[0] or used[1], answers
            assert [type(answer) for answer in answers[3:]] == [TrialStateError] * 2
            facts = store.snapshot("digits")
            assert [trial.index for trial in facts.trials] == list(range(2 + used[0]))
            for run in store.open_attempts(experiment="digits"):
                store.finish_attempt(store.record_handle(run, "local://s/again"), "CANCELLED", "")
            for trial in store.trials("digits"):
                store.complete("digits", trial.index, status="ABANDONED", overwrite=True)
        store.delete("digits", store.uid("digits"), [run.submission_key for run in store.attempts("digits")])
    print("removed while it was used:", outcomes)
