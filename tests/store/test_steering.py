"""What users want of an experiment, as the store records it: once, in order, and carried out once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import (
    ExperimentNotFoundError,
    InvalidInputError,
    StoreConflictError,
    TrialNotFoundError,
    TrialStateError,
)
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.core.steering import Action, Asked, Change, NewChange
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import SPEC, add, at_once, begin, experiment, killed_at, proposal

TASK = "dag/run/optimize/-1"


def asked(action: Action, request_id: str = "", **given: Any) -> NewChange:
    return NewChange(action, request_id or f"id-{action}", **{"requested_by": "vera", "via": "cli", **given})


def failed(store: ExperimentStore) -> str:
    """Return an experiment whose trial 0 has failed, with something observed."""
    name = experiment(store, 2)
    run = store.record_handle(begin(store, name), "local://s/app")
    store.finish_attempt(run, "FAILED", "exit code 1")
    store.complete(name, 0, status="FAILED", reason="exit code 1", observations=[Observation(0, "m", 1.0)])
    return name


def queue(store: ExperimentStore, name: str, request_id: str = "q") -> Change:
    return store.steer(name, asked(Action.QUEUE_TRIAL, request_id, arguments={"parameters": {"x": 0.5}}))


def carry_out(store: ExperimentStore, change: Change, task: str = TASK, slot: int = 0) -> int:
    version = store.snapshot(change.experiment).version
    trial = store.add_queued_trial(change, proposal(first=90), task_key=task, slot=slot, expected_version=version)
    return trial.index


def test_an_experiment_runs_until_somebody_wants_something_else(store: ExperimentStore) -> None:
    name = experiment(store)
    before = store.steering(name)
    assert (before.state, before.position, before.end_reason, before.may_start) == (Action.RUN, -1, None, True)
    first = store.steer(name, asked(Action.PAUSE, reason="the cluster\x00 is needed"))
    assert (first.position, first.reason, first.settled_at) == (0, "the cluster\ufffd is needed", None)
    assert not store.steering(name).may_start
    store.steer(name, asked(Action.STOP, reason="enough"))
    assert store.steering(name).end_reason == "stop: asked by vera: enough"
    store.steer(name, asked(Action.RUN))
    assert (store.steering(name).may_start, store.steering(name).position) == (True, 2)
    assert [change.action for change in store.changes(name)] == ["pause", "stop", "run"]


def test_the_same_request_is_recorded_once_and_its_id_serves_nothing_else(store: ExperimentStore) -> None:
    name = experiment(store, 2)
    first = store.steer(name, asked(Action.PAUSE, "one"))
    assert store.steer(name, asked(Action.PAUSE, "one", requested_by="norman")) == first
    with pytest.raises(InvalidInputError, match="was used for another change"):
        store.steer(name, asked(Action.STOP, "one"))
    with pytest.raises(InvalidInputError, match="request id"):
        store.steer(name, replace(asked(Action.STOP), request_id="x" * 101))
    assert store.changes(name) == [first]
    of_one = store.steer(name, asked(Action.STOP_TRIAL, "two", trial_index=0))
    assert store.steer(name, asked(Action.STOP_TRIAL, "two", trial_index=0)) == of_one
    with pytest.raises(InvalidInputError, match="was used for another change"):
        store.steer(name, asked(Action.STOP_TRIAL, "two", trial_index=1))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_request_that_is_killed_may_be_repeated(store: ExperimentStore, moment: str) -> None:
    name = experiment(store)
    killed_at(f"store.{moment}_steer_commit", lambda: queue(store, name))
    change = queue(store, name)
    assert [found.position for found in store.changes(name)] == [0]
    killed_at(f"store.{moment}_settle_change_commit", lambda: store.settle_change(change, "first"))
    store.settle_change(change, "second")
    assert store.changes(name)[0].outcome == ("first" if moment == "after" else "second")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_trial_that_runs_again_does_so_once_whatever_is_killed(store: ExperimentStore, moment: str) -> None:
    name = failed(store)
    change = store.steer(name, asked(Action.RETRY_TRIAL, trial_index=0))
    killed_at(f"store.{moment}_reopen_trial_commit", lambda: store.reopen_trial(change))
    assert store.steering(name).open_requests == ((change,) if moment == "before" else ())
    assert store.reopen_trial(change).status == "CANDIDATE"


def test_of_what_is_not_there_nothing_is_recorded(store: ExperimentStore) -> None:
    name = experiment(store)
    with pytest.raises(ExperimentNotFoundError):
        store.steer("nothing", asked(Action.PAUSE))
    with pytest.raises(TrialNotFoundError):
        store.steer(name, asked(Action.STOP_TRIAL, trial_index=9))
    with pytest.raises(InvalidInputError, match="has no change 7"):
        store.steer(name, asked(Action.WITHDRAW, arguments={"position": 7}))
    assert store.changes(name) == []


def test_limits_tags_and_the_archive_are_what_was_asked_last(store: ExperimentStore) -> None:
    name = experiment(store)
    store.steer(name, asked(Action.LIMITS, "1", arguments={"limits": {"max_trials": 40, "max_seconds": 60.0}}))
    store.steer(name, asked(Action.LIMITS, "2", arguments={"limits": {"max_trials": 50, "max_seconds": None}}))
    store.steer(name, asked(Action.TAGS, "3", arguments={"tags": ["a"]}))
    store.steer(name, asked(Action.TAGS, "4", arguments={"tags": ["b", "ü"]}))
    store.steer(name, asked(Action.ARCHIVE, "5"))
    now = store.steering(name)
    assert (now.limits, now.tags, now.archived, now.position) == ({"max_trials": 50}, ("b", "ü"), True, 1)
    store.steer(name, asked(Action.UNARCHIVE, "6"))
    assert not store.steering(name).archived


def test_users_who_ask_at_once_get_a_change_each(store: ExperimentStore) -> None:
    name = experiment(store)
    found = at_once(6, lambda number: store.steer(name, asked(Action.NOTE, str(number), arguments={"text": "t"})))
    assert sorted(change.position for change in found) == list(range(6))
    assert len({change.request_id for change in store.changes(name)}) == 6


def test_a_queued_trial_is_recorded_once_by_whichever_task_is_first(store: ExperimentStore) -> None:
    name = experiment(store, 2)
    change = queue(store, name)
    assert store.steering(name).open(Action.QUEUE_TRIAL) == [change]
    found = at_once(4, lambda number: carry_out(store, change, f"dag/run/task_{number}/-1"))
    assert [answer for answer in found if not isinstance(answer, StoreConflictError)] == [2]
    assert len(store.trials(name)) == 3
    (settled,) = store.changes(name)
    assert (settled.outcome, settled.is_open) == ("trial 2", False)


def test_a_task_that_is_killed_after_it_has_taken_a_queued_trial_has_it(store: ExperimentStore) -> None:
    name = experiment(store, 1)
    change = queue(store, name)
    killed_at("store.before_add_queued_trial_commit", lambda: carry_out(store, change))
    assert (len(store.trials(name)), store.steering(name).open_requests) == (1, (change,))
    killed_at("store.after_add_queued_trial_commit", lambda: carry_out(store, change))
    assert (len(store.trials(name)), store.steering(name).open_requests) == (2, ())
    assert carry_out(store, change) == 1
    assert [trial.index for trial in store.granted(name, TASK)] == [1]


def test_a_withdrawn_trial_is_not_recorded_and_a_recorded_one_not_withdrawn(store: ExperimentStore) -> None:
    name = experiment(store)
    first, second = queue(store, name, "1"), queue(store, name, "2")
    store.steer(name, asked(Action.WITHDRAW, "3", arguments={"position": first.position}))
    with pytest.raises(StoreConflictError, match="settled by another process"):
        carry_out(store, first)
    assert carry_out(store, second) == 1
    with pytest.raises(TrialStateError, match="is not open: trial 1"):
        store.steer(name, asked(Action.WITHDRAW, "4", arguments={"position": second.position}))
    assert [change.outcome for change in store.changes(name)] == ["withdrawn by vera", "trial 1", None]


def test_a_failed_trial_runs_again_once(store: ExperimentStore) -> None:
    name = failed(store)
    change = store.steer(name, asked(Action.RETRY_TRIAL, trial_index=0, reason="the disk was full"))
    killed_at("store.after_reopen_trial_commit", lambda: store.reopen_trial(change))
    trial = store.trial(name, 0)
    reason = "reopened (was FAILED: exit code 1): run again, asked by vera: the disk was full"
    assert (trial.status, trial.reason, store.observations(name, 0)) == ("CANDIDATE", reason, [])
    assert begin(store, name, 0, expected_attempt=2).number == 2
    assert store.reopen_trial(change).status == "STAGED"
    assert store.changes(name)[0].outcome == "trial 0 runs again"


def test_a_trial_that_is_not_failed_does_not_run_again(store: ExperimentStore) -> None:
    name = failed(store)
    change = store.steer(name, asked(Action.RETRY_TRIAL, trial_index=0))
    begin(store, name, 0, reopen_reason="cleared")
    assert store.reopen_trial(change).status == "STAGED"
    assert store.changes(name)[0].outcome == "trial 0 is STAGED already"
    with pytest.raises(TrialStateError, match="only a FAILED one"):
        store.steer(name, asked(Action.RETRY_TRIAL, "again", trial_index=1))


def test_the_stop_of_a_trial_is_open_until_it_has_ended_and_does_not_outlive_it(store: ExperimentStore) -> None:
    name = experiment(store)
    store.steer(name, asked(Action.STOP_TRIAL, trial_index=0, reason="diverges"))
    assert store.steering(name).stop_reason_of(0) == "stopped by a user, asked by vera: diverges"
    assert store.steering(name).stop_reason_of(1) is None
    store.complete(name, 0, status="ABANDONED", reason="stopped by a user")
    assert store.steering(name).open_requests == ()
    with pytest.raises(TrialStateError, match="cannot be stopped"):
        store.steer(name, asked(Action.STOP_TRIAL, "again", trial_index=0))
    begin(store, name, 0, reopen_reason="cleared")
    assert store.steering(name).stop_reason_of(0) is None


REASONS = {
    "stop: asked by vera": (Action.RUN, None),
    "drain: asked by vera": (Action.RUN, None),
    "max_trials: the experiment has 3 trials": (Action.LIMITS, None),
    "deadline: the time ran out": (Action.LIMITS, None),
    "max_failed_trials: 3 trials have failed": (Action.LIMITS, "max_failed_trials: 3 trials have failed"),
    "SearchSpaceExhausted: no point is left": (Action.RUN, "SearchSpaceExhausted: no point is left"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_lets_an_experiment_go_on_takes_its_end_back(store: ExperimentStore, reason: str) -> None:
    action, left = REASONS[reason]
    name = experiment(store)
    store.start_loop(name, TASK, max_tries=0)
    store.stop_loop(name, TASK, reason)
    store.steer(name, asked(Action.PAUSE))
    assert store.summary(name).stop_reason == reason
    store.steer(name, asked(action))
    loop = store.loop(name, TASK)
    assert loop is not None
    assert (loop.stop_reason, store.summary(name).stop_reason) == (left, left)


def test_a_decision_on_which_users_had_no_say_yet_is_not_recorded(store: ExperimentStore) -> None:
    name, other = experiment(store), experiment(store, name="other")
    store.start_loop(name, TASK, max_tries=0)
    seen = store.steering(name).position
    store.steer(other, asked(Action.LIMITS))
    store.steer(name, asked(Action.LIMITS))
    store.steer(name, asked(Action.NOTE, "2", arguments={"text": "wakes no task"}))
    assert store.stop_loop(name, TASK, "max_trials: 3", seen=seen) is None
    loop = store.loop(name, TASK)
    assert (loop and loop.stop_reason, store.summary(name).stop_reason) == (None, None)
    again = store.steering(name).position
    assert store.stop_loop(name, TASK, "max_trials: 5", seen=again) == "max_trials: 5"
    assert store.summary(name).stop_reason == "max_trials: 5"


def test_what_a_waiting_task_looks_for_is_one_statement(store: ExperimentStore) -> None:
    first, second = experiment(store, 1, "first"), experiment(store, 1, "second")
    store.steer(first, asked(Action.NOTE, arguments={"text": "unread by tasks"}))
    store.steer(first, asked(Action.PAUSE, "1"))
    store.steer(first, asked(Action.PAUSE, "2"))
    store.steer(first, asked(Action.STOP_TRIAL, trial_index=0))
    store.steer(second, asked(Action.RUN))
    found = sorted(store.last_asked(["first", "second", "nothing"]))
    assert found == [
        Asked("first", "pause", None, 2),
        Asked("first", "stop_trial", 0, 3),
        Asked("second", "run", None, 0),
    ]


def wider(bound: float) -> dict[str, Any]:
    return {**SPEC, "parameters": [{"name": "x", "bounds": [0.0, bound]}]}


def test_a_changed_definition_holds_for_the_trials_that_follow(store: ExperimentStore) -> None:
    name = "digits"
    store.create(name, SPEC)
    # Asked for before the other one, and carried out after it.
    open_one = store.steer(name, asked(Action.CHANGE_DEFINITION, "a", arguments={"changes": {"x": 3.0}}))
    change = asked(Action.CHANGE_DEFINITION, "b", arguments={"changes": {"x": 2.0}})
    version = store.snapshot(name).version
    first = store.change_definition(name, change, wider(2.0), differences=["x is wider"], expected_version=version)
    assert (first.trial_index, first.outcome, store.snapshot(name).version) == (0, "from trial 0 on", version + 1)
    add(store, name, 3)
    version = store.snapshot(name).version
    second = store.change_definition(name, open_one, wider(3.0), differences=["wider"], expected_version=version)
    assert (second.trial_index, second.outcome, store.snapshot(name).version) == (3, "from trial 3 on", version + 1)
    assert second.arguments["differences"] == ["wider"]
    facts = store.snapshot(name)
    assert facts.spec == wider(3.0)
    assert [(one.spec, one.trials) for one in facts.history] == [(SPEC, 0), (wider(2.0), 3)]
    # The same call again, after a lost connection, changes nothing.
    again = store.change_definition(name, open_one, wider(3.0), differences=["wider"], expected_version=version)
    assert (again, store.snapshot(name)) == (second, facts)


def test_a_definition_is_not_changed_from_facts_that_are_old_or_for_a_change_that_is_withdrawn(
    store: ExperimentStore,
) -> None:
    name = experiment(store)
    old = store.snapshot(name).version
    change = store.steer(name, asked(Action.CHANGE_DEFINITION, "wider", arguments={"changes": {"x": 2.0}}))
    add(store, name)
    with pytest.raises(StoreConflictError, match="has changed meanwhile"):
        store.change_definition(name, change, wider(2.0), differences=[], expected_version=old)
    store.steer(name, asked(Action.WITHDRAW, "back", arguments={"position": change.position}))
    before = store.snapshot(name)
    with pytest.raises(StoreConflictError, match="was settled by another process"):
        store.change_definition(name, change, wider(2.0), differences=[], expected_version=before.version)
    assert store.snapshot(name) == before
