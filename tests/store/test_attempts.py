"""The contract of runs: the write-ahead row, the handle, the cancel intent, the end."""

from __future__ import annotations

import time

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import (
    InvalidInputError,
    StoreConflictError,
    TrialNotFoundError,
    TrialStateError,
)
from airflow_provider_axtx.core.keys import submission_key
from airflow_provider_axtx.core.records import AttemptRecord, FirstAttempt, Observation, TrialEnd
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import IDENTITY, SPEC, add, begin, experiment


def ended(store: ExperimentStore, name: str, app_state: str = "FAILED") -> AttemptRecord:
    """One attempt of trial 0 from beginning to end."""
    run = store.record_handle(begin(store, name), "local://s/app")
    return store.finish_attempt(run, app_state, "exit 1")


def test_begin_writes_everything_ahead(store: ExperimentStore) -> None:
    name, before = experiment(store), time.time()
    run = begin(store, name, expected_attempt=1)
    key = submission_key(name, store.snapshot(name).uid, 0, 1)
    assert (run.experiment, run.trial_index, run.number, run.submission_key) == (name, 0, 1, key)
    assert (run.scheduler, run.tracker_base, run.identity) == ("local_detached", f"/results/{key}", IDENTITY)
    assert before <= run.requested_at <= time.time()
    assert (run.app_handle, run.submitted_at, run.finished_at, run.app_state, run.unseen_polls) == (None,) * 4 + (0,)
    assert store.trial(name, 0).status == "STAGED"
    assert store.latest_attempt(name, 0) == store.attempt_by_key(key) == store.attempt(name, 0, 1) == run
    assert store.attempts(name) == store.attempts(name, 0) == store.open_attempts() == [run]


def test_a_literal_tracker_base_is_kept(store: ExperimentStore) -> None:
    name = experiment(store)
    assert begin(store, name, tracker_base="s3://bucket/x/").tracker_base == "s3://bucket/x/"


def test_begin_needs_a_place_for_results(store: ExperimentStore) -> None:
    name = experiment(store)
    with pytest.raises(InvalidInputError, match="tracker_base or tracker_root"):
        begin(store, name, tracker_root=None)
    assert (store.attempts(name), store.trial(name, 0).status) == ([], "CANDIDATE")


def test_no_runs_yet(store: ExperimentStore) -> None:
    name = experiment(store)
    assert store.latest_attempt(name, 0) is None
    assert store.attempt_by_key("nope") is None
    assert (store.attempts(name), store.open_attempts()) == ([], [])
    with pytest.raises(TrialNotFoundError):
        begin(store, name, 7)
    with pytest.raises(TrialNotFoundError, match=r"Trial 0 .* has no attempt 1"):
        store.attempt(name, 0, 1)


def test_one_unfinished_run_for_a_trial(store: ExperimentStore) -> None:
    name = experiment(store)
    begin(store, name, expected_attempt=1)
    with pytest.raises(StoreConflictError, match=r"next attempt .* is 2, not 1"):
        begin(store, name, expected_attempt=1)
    for expected in (None, 2):
        with pytest.raises(TrialStateError, match=r"Attempt 1 .* has not ended"):
            begin(store, name, expected_attempt=expected)
    assert len(store.attempts(name)) == 1


def test_the_next_attempt(store: ExperimentStore) -> None:
    name = experiment(store)
    first = ended(store, name)
    assert store.trial(name, 0).status == "RUNNING"
    second = begin(store, name, expected_attempt=2)
    assert second.number == 2
    assert second.submission_key != first.submission_key
    assert second.tracker_base != first.tracker_base
    assert store.trial(name, 0).status == "RUNNING"
    assert store.latest_attempt(name, 0) == second
    assert store.attempts(name, 0) == [first, second]
    with pytest.raises(StoreConflictError):
        begin(store, name, expected_attempt=9)


@pytest.mark.parametrize("status", ["COMPLETED", "EARLY_STOPPED", "FAILED", "ABANDONED"])
def test_a_terminal_trial_is_not_run_again_by_itself(store: ExperimentStore, status: str) -> None:
    name = experiment(store)
    store.complete(name, 0, status=status)
    with pytest.raises(TrialStateError, match=f"is {status} and cannot be run again"):
        begin(store, name)
    assert store.attempts(name) == []


@pytest.mark.parametrize("status", ["FAILED", "ABANDONED"])
def test_reopening(store: ExperimentStore, status: str) -> None:
    name = experiment(store)
    ended(store, name)
    store.complete(name, 0, status=status, reason="node lost", observations=[Observation(0, "m", 1.0, step=1)])
    run = begin(store, name, reopen_reason="task cleared")
    trial = store.trial(name, 0)
    assert (run.number, trial.status) == (2, "STAGED")
    assert trial.reason == f"reopened (was {status}: node lost): task cleared"
    assert store.observations(name, 0) == []
    assert store.complete(name, 0, status="COMPLETED").reason is None


@pytest.mark.parametrize("status", ["COMPLETED", "EARLY_STOPPED"])
def test_a_result_is_never_reopened(store: ExperimentStore, status: str) -> None:
    name = experiment(store)
    store.complete(name, 0, status=status, observations=[Observation(0, "m", 1.0)])
    with pytest.raises(TrialStateError):
        begin(store, name, reopen_reason="cleared")
    assert store.observations(name, 0) == [Observation(0, "m", 1.0)]


def test_the_handle_is_recorded_once(store: ExperimentStore) -> None:
    name = experiment(store)
    run = begin(store, name)
    known = store.record_handle(run, "local://s/app")
    assert known.app_handle == "local://s/app"
    assert known.submitted_at is not None and known.submitted_at >= run.requested_at
    assert store.trial(name, 0).status == "RUNNING"
    assert store.record_handle(run, "local://s/app") == known
    with pytest.raises(TrialStateError, match="'local://s/app' already, not 'local://s/other'"):
        store.record_handle(run, "local://s/other")
    assert store.latest_attempt(name, 0) == known


def test_a_late_handle_leaves_a_terminal_trial_alone(store: ExperimentStore) -> None:
    name = experiment(store)
    run = begin(store, name)
    store.complete(name, 0, status="ABANDONED", reason="deadline")
    assert store.record_handle(run, "local://s/app").app_handle == "local://s/app"
    assert store.trial(name, 0).status == "ABANDONED"


def test_an_app_submitted_after_its_run_was_ended_is_to_be_cancelled(store: ExperimentStore) -> None:
    name = experiment(store)
    run = begin(store, name)
    store.finish_attempt(run, "CANCELLED", "never submitted")
    late = store.record_handle(run, "local://s/app")
    assert (late.app_handle, late.finished_at, late.app_state) == ("local://s/app", None, None)
    assert late.cancel_requested_at is not None
    assert late.cancel_reason == "submitted after the run had been ended (never submitted)"
    assert store.open_attempts() == [late] == [store.record_handle(run, "local://s/app")]


def test_the_first_cancel_reason_stays(store: ExperimentStore) -> None:
    run = begin(store, experiment(store))
    first = store.request_cancel(run, "task killed")
    assert first.cancel_requested_at is not None and first.cancel_reason == "task killed"
    assert store.request_cancel(run, "timeout") == first


def test_a_finished_run_is_not_cancelled(store: ExperimentStore) -> None:
    run = ended(store, experiment(store))
    assert store.request_cancel(run, "timeout") == run
    assert run.cancel_requested_at is None


def test_unseen_polls_are_counted_in_a_row(store: ExperimentStore) -> None:
    run = begin(store, experiment(store))
    seen = (False, False, True, True, False, False, False)
    assert [store.note_unseen(run, one) for one in seen] == [1, 2, 0, 0, 1, 2, 3]
    latest = store.attempt_by_key(run.submission_key)
    assert latest is not None and latest.unseen_polls == 3


def test_the_first_end_of_a_run_stays(store: ExperimentStore) -> None:
    run = ended(store, experiment(store))
    assert (run.app_state, run.message) == ("FAILED", "exit 1")
    assert run.finished_at is not None
    assert store.finish_attempt(run, "SUCCEEDED", "", is_infrastructure_failure=True) == run
    assert run.is_infrastructure_failure is False
    assert store.open_attempts() == []


def test_an_end_through_no_fault_of_the_app_is_marked(store: ExperimentStore) -> None:
    run = begin(store, experiment(store))
    lost = store.finish_attempt(run, "FAILED", "node lost", is_infrastructure_failure=True)
    assert lost.is_infrastructure_failure is True
    assert store.latest_attempt(run.experiment, 0) == lost


def test_an_end_that_another_attempt_follows_keeps_the_times_that_the_scheduler_tells(store: ExperimentStore) -> None:
    run = begin(store, experiment(store))
    seen = AppObservation("FAILED", "node lost", is_infrastructure_failure=True, started_at=10.5, ended_at=20.25)
    ended = store.finish_observed(run, seen)
    assert (ended.app_state, ended.message, ended.is_infrastructure_failure) == ("FAILED", "node lost", True)
    assert (ended.started_at, ended.ended_at) == (10.5, 20.25)
    assert begin(store, run.experiment).number == 2


@pytest.mark.parametrize("state", ["RUNNING", "UNKNOWN", "PENDING", "COMPLETED", ""])
def test_a_run_ends_only_in_a_terminal_app_state(store: ExperimentStore, state: str) -> None:
    run = begin(store, experiment(store))
    with pytest.raises(InvalidInputError, match="cannot end"):
        store.finish_attempt(run, state, "")


def test_open_runs_by_experiment_and_dag_run(store: ExperimentStore) -> None:
    first, second = experiment(store, 2, "a"), experiment(store, 1, "b")
    one, two = begin(store, first, 0), begin(store, first, 1)
    other = begin(store, second, 0)
    store.finish_attempt(two, "SUCCEEDED", "")
    assert store.open_attempts() == [one, other]
    assert store.open_attempts(experiment="b") == [other]
    assert store.open_attempts(dag_id="dag", run_id="manual__1") == [one, other]
    assert store.open_attempts(dag_id="dag", run_id="manual__2") == []
    assert store.open_attempts(dag_id="other") == []


def test_equal_names_in_two_stores_have_other_keys(
    store: ExperimentStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = ExperimentStore(f"sqlite:///{tmp_path_factory.mktemp('other') / 'x.db'}")
    keys = set()
    for each in (store, other):
        each.create("digits", SPEC)
        add(each, "digits")
        keys.add(begin(each, "digits").submission_key)
    assert len(keys) == 2


def test_first_attempts_begin_together_or_not_at_all(store: ExperimentStore) -> None:
    name = experiment(store, 3)
    first = [FirstAttempt(index, f"/results/{index}", cpus=index) for index in (2, 0)]
    begun = store.begin_first_attempts(name, first, scheduler="slurm", identity=IDENTITY, host="here")
    assert [(one.trial_index, one.number, one.cpus, one.host) for one in begun] == [
        (2, 1, 2, "here"),
        (0, 1, 0, "here"),
    ]
    assert begun == [store.attempt(name, 2, 1), store.attempt(name, 0, 1)]
    assert [trial.status for trial in store.trials(name)] == ["STAGED", "CANDIDATE", "STAGED"]
    with pytest.raises(StoreConflictError):
        store.begin_first_attempts(
            name, [FirstAttempt(1, "/r"), FirstAttempt(0, "/r")], scheduler="s", identity=IDENTITY
        )
    assert (store.trial(name, 1).status, store.attempts(name, 1)) == ("CANDIDATE", [])
    handled = store.record_handles([(begun[1], "slurm://s/0"), (begun[0], "slurm://s/2")])
    assert [one.app_handle for one in handled] == ["slurm://s/0", "slurm://s/2"]
    assert [trial.status for trial in store.trials(name)] == ["RUNNING", "CANDIDATE", "RUNNING"]


def test_of_first_attempts_every_trial_must_be_a_candidate(store: ExperimentStore) -> None:
    name = experiment(store, 2)
    store.complete(name, 1, status="ABANDONED", reason="stopped")
    with pytest.raises(StoreConflictError, match=r"Of the trials \[0, 1\] of 'digits', only 1 still wait"):
        store.begin_first_attempts(
            name, [FirstAttempt(0, "/r/0"), FirstAttempt(1, "/r/1")], scheduler="s", identity=IDENTITY
        )
    assert [trial.status for trial in store.trials(name)] == ["CANDIDATE", "ABANDONED"]
    assert store.attempts(name) == []


def test_the_first_time_at_which_an_app_was_seen_to_run_stays(store: ExperimentStore) -> None:
    name = experiment(store, 3)
    attempts = [store.record_handle(begin(store, name, index), f"local://s/{index}") for index in range(3)]
    (noted,) = store.note_started([(attempts[1], 5.0)])
    assert (noted.trial_index, noted.started_at) == (1, 5.0)
    later = store.note_started([(attempts[1], 9.0), (attempts[0], 7.0)])
    assert [(one.trial_index, one.started_at) for one in later] == [(1, 5.0), (0, 7.0)]
    assert [one.started_at for one in store.attempts(name)] == [7.0, 5.0, None]


def test_the_end_of_an_attempt_ends_its_trial_unless_another_attempt_has_followed(store: ExperimentStore) -> None:
    name = experiment(store, 2)
    first = store.record_handle(begin(store, name, 0), "local://s/0")
    again = begin(store, name, 1)
    store.finish_attempt(again, "FAILED", "exit 1")
    second = store.record_handle(begin(store, name, 1), "local://s/1")
    # Late news of the first attempt, whose place the second has taken.
    assert store.end_attempt(again, AppObservation("FAILED", "exit 1"))[1].status == "RUNNING"
    # The second attempt of another trial has not followed the first one of this.
    attempt, trial = store.end_attempt(first, AppObservation("FAILED", "exit 2"))
    assert (attempt.app_state, attempt.message) == ("FAILED", "exit 2")
    assert (trial.index, trial.status, trial.reason) == (0, "FAILED", "exit 2")
    end = TrialEnd("COMPLETED", (Observation(1, "loss", 0.5),))
    assert store.end_attempt(second, AppObservation("SUCCEEDED", ""), end)[1].status == "COMPLETED"


def test_a_loop_reads_only_what_it_does_not_know(store: ExperimentStore) -> None:
    name, task = experiment(store, 4), "dag/run/generate/-1"
    for index, state in ((0, "SUCCEEDED"), (1, "FAILED")):
        run = store.record_handle(begin(store, name, index), f"local://s/{index}")
        end = TrialEnd("COMPLETED", (Observation(index, "loss", 0.5),))
        store.end_attempt(run, AppObservation(state, "gone", started_at=1.0, ended_at=3.0), end)
    facts = store.loop_facts(name, task)
    assert (facts.granted, sorted(facts.trials)) == ((0, 1, 2, 3), [2, 3])
    assert [(one.index, one.status, one.reason) for one in facts.ended] == [
        (0, "COMPLETED", None),
        (1, "FAILED", "gone"),
    ]
    assert [(span.trial_index, span.started_at, span.ended_at) for span in facts.spans] == [
        (0, 1.0, 3.0),
        (1, 1.0, 3.0),
    ]
    assert facts.counts == {"CANDIDATE": 2, "COMPLETED": 1, "FAILED": 1}
    # A trial that was asked for is not among those of which only the end is told.
    asked = store.loop_facts(name, task, asked=[0])
    assert ([one.index for one in asked.ended], sorted(asked.trials)) == ([1], [0, 2, 3])
    running = store.record_handle(begin(store, name, 2), "local://s/2")
    store.complete(name, 2, status="ABANDONED", reason="stopped")
    later = store.loop_facts(name, task, known_slots=4, asked=[0])
    # What was asked for, what is open, and what has an app that has not ended.
    assert (later.granted, later.ended, sorted(later.trials)) == ((), (), [0, 2, 3])
    assert later.attempts[2] == [running]


def test_the_times_of_an_app_are_recorded_also_after_its_end(store: ExperimentStore) -> None:
    """One process sees that the app has ended, and another one later when it ran."""
    run = begin(store, experiment(store))
    store.finish_attempt(run, "FAILED", "exit code 1")
    known = store.finish_observed(run, AppObservation("SUCCEEDED", started_at=5.0, ended_at=6.0))
    assert (known.started_at, known.ended_at, known.app_state) == (5.0, 6.0, "FAILED")
    assert store.finish_observed(run, AppObservation("SUCCEEDED")) == known


def test_an_app_asks_for_no_resources_unless_they_are_named(store: ExperimentStore) -> None:
    run = begin(store, experiment(store))
    assert (run.cpus, run.gpus) == (0, 0)
