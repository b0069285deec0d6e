"""Proposals made ahead: recorded before a slot is free for them, run in their order, given up with the loop."""

from __future__ import annotations

import itertools
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.records import Proposal
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.lifecycle import loop_filling
from airflow_provider_axtx.lifecycle.attempts import KILLED
from airflow_provider_axtx.lifecycle.reap import end_task
from airflow_provider_axtx.lifecycle.task_trials import TaskTrials
from airflow_provider_axtx.optimizer import engine as optimizer
from tests.lifecycle.rig import SPEC, Rig, indexes, settled

RANDOM: dict[str, Any] = {
    **SPEC,
    "generation": {"method": "random_search", "initialization_random_seed": 7, "random_seed": 7},
}


def test_a_freed_slot_takes_the_trial_that_was_proposed_ahead_without_ax(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert indexes(settled(rig.loop(parallelism=2, propose_ahead=1))) == [0, 1]
    assert rig.statuses() == {0: "RUNNING", 1: "RUNNING", 2: "CANDIDATE"}
    rig.end(1)
    asked: list[int] = []
    monkeypatch.setattr(optimizer, "propose", lambda _, n, **__: asked.append(n) or Proposal((), None, pending="later"))
    # The next process of a deferred task, which has not imported Ax.
    monkeypatch.delitem(sys.modules, optimizer.__name__)
    resumed = rig.loop(parallelism=2, propose_ahead=1)
    assert indexes(settled(resumed)) == [0, 2]
    assert (asked, rig.statuses()) == ([], {0: "RUNNING", 1: "COMPLETED", 2: "RUNNING"})
    rig.end(0)
    assert indexes(settled(resumed)) == [2]
    assert asked == [1]


def after_results(rig: Rig, parallelism: int, results: int) -> list[str]:
    """Return the statuses of the trials that follow the first ``parallelism`` ones, so many of which have completed."""
    loop = rig.loop(parallelism=parallelism, propose_ahead=None, max_trials=1000)
    settled(loop)
    assert list(rig.statuses().values()) == ["RUNNING"] * parallelism
    for index in range(results):
        rig.end(index)
    settled(loop)
    return list(rig.statuses().values())[parallelism:]


@pytest.mark.parametrize(
    ("parallelism", "results", "ahead"),
    [(7, 6, 0), (8, 1, 0), (8, 2, 1), (8, 6, 1), (15, 1, 0), (16, 1, 1), (17, 2, 2), (17, 8, 2), (32, 1, 2)],
)
def test_by_default_one_is_proposed_ahead_for_eight_slots_and_fewer_before_enough_results_are_known(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, parallelism: int, results: int, ahead: int
) -> None:
    assert loop_filling.ENOUGH_RESULTS == 32
    monkeypatch.setattr(loop_filling, "ENOUGH_RESULTS", 2)
    assert after_results(rig, parallelism, results) == ["RUNNING"] * results + ["CANDIDATE"] * ahead


@pytest.mark.parametrize(("seconds", "ahead"), [(None, 1), (0.001, 1), (1e6, 0)])
def test_nothing_is_proposed_ahead_by_default_where_apps_take_much_longer_than_a_proposal(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, seconds: float | None, ahead: int
) -> None:
    monkeypatch.setattr(loop_filling, "ENOUGH_RESULTS", 1)
    monkeypatch.setattr(TaskTrials, "last_seconds", seconds)
    assert after_results(rig, 8, 1) == ["RUNNING"] + ["CANDIDATE"] * ahead


def test_what_was_proposed_ahead_ends_with_the_loop_and_counts_as_a_trial(rig: Rig) -> None:
    loop = rig.loop(parallelism=2, propose_ahead=3, max_trials=4, max_failed_trials=1)
    settled(loop)
    assert rig.statuses() == {0: "RUNNING", 1: "RUNNING", 2: "CANDIDATE", 3: "CANDIDATE"}
    rig.end(0, "FAILED")
    settled(loop)
    rig.end(1)
    assert "max_failed_trials" in (settled(loop).finished or "")
    assert rig.statuses() == {0: "FAILED", 1: "COMPLETED", 2: "ABANDONED", 3: "ABANDONED"}
    assert rig.store.attempts("loop", 2) == rig.store.attempts("loop", 3) == []


def test_random_search_is_proposed_ahead_in_any_case_and_stays_the_same(rig: Rig) -> None:
    ahead = rig.loop(spec=RANDOM, propose_ahead=None, max_trials=4)
    one_by_one = rig.loop(spec={**RANDOM, "name": "other"}, propose_ahead=0, max_trials=4)
    assert indexes(settled(ahead)) == [0]
    assert rig.statuses() == {0: "RUNNING", 1: "CANDIDATE", 2: "CANDIDATE"}
    while settled(ahead).finished is None:
        rig.end(next(index for index, status in rig.statuses().items() if status == "RUNNING"))
    assert set(rig.statuses().values()) == {"COMPLETED"}
    for number in range(1, 5):
        one_by_one._request.grant(number, own=())
    assert [t.parameters for t in rig.store.trials("other")] == [t.parameters for t in rig.store.trials("loop")]


def test_a_trial_that_a_user_has_asked_for_runs_before_what_was_proposed_ahead(rig: Rig) -> None:
    loop = rig.loop(parallelism=2, propose_ahead=1)
    settled(loop)
    rig.store.steer("loop", NewChange(Action.QUEUE_TRIAL, "1", "vera", "cli", arguments={"parameters": {"x": 0.125}}))
    rig.end(0)
    assert indexes(settled(loop)) == [1, 3]
    assert (rig.store.trial("loop", 3).parameters, rig.store.trial("loop", 2).status) == ({"x": 0.125}, "CANDIDATE")


def asked_of_ax(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list to which each request to Ax adds for how many trials it asks."""
    propose, asked = optimizer.propose, []

    def counted(snapshot: Any, n: int, **options: Any) -> Proposal:
        asked.append(n)
        return propose(snapshot, n, **options)

    monkeypatch.setattr(optimizer, "propose", counted)
    return asked


def test_a_free_slot_waits_for_no_slow_proposal_of_another_and_each_knows_what_has_ended(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of_ax(monkeypatch)
    monkeypatch.setattr(loop_filling, "PROPOSING_SECONDS", 0.0)
    loop = rig.loop(parallelism=3, propose_ahead=2)
    steps = [loop.step()]
    assert indexes(steps[0]) == [0]
    rig.end(0)
    steps.append(loop.step())
    assert (rig.statuses(), indexes(steps[1])) == ({0: "COMPLETED", 1: "RUNNING"}, [1])
    steps += [loop.step() for _ in range(4)]
    assert [indexes(step) for step in steps[2:]] == [[1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    # The last one has found a trial ready for each slot that becomes free.
    assert [step.is_filling for step in steps] == [True, True, True, True, False, False]
    assert asked == [1] * 6


def test_a_first_proposal_of_a_quarter_of_a_second_is_followed_by_single_ones(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ones take longer, with trials in flight, and apps that start together end together."""
    asked = asked_of_ax(monkeypatch)
    clock = itertools.count(step=0.24)
    monkeypatch.setattr(loop_filling, "time", SimpleNamespace(monotonic=lambda: next(clock), time=time.time))
    assert indexes(settled(rig.loop(parallelism=4))) == [0, 1, 2, 3]
    assert asked == [1] * 4


def test_trials_that_ax_proposes_quickly_are_asked_for_together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_of_ax(monkeypatch)
    monkeypatch.setattr(loop_filling, "PROPOSING_SECONDS", 1e6)
    loop = rig.loop(parallelism=8)
    assert indexes(settled(loop)) == [*range(8)]
    # How long it takes is not known before the first one, and again not after a result.
    assert asked == [1, 7]
    for index in range(4):
        rig.end(index)
    assert indexes(settled(loop)) == [*range(4, 12)]
    assert asked == [1, 7, 1, 3]


@pytest.mark.parametrize("parallelism", [1, 4])
def test_a_trial_costs_at_most_ten_transactions(rig: Rig, parallelism: int) -> None:
    loop = rig.loop(parallelism=parallelism, propose_ahead=parallelism // 4, max_trials=8)
    loop.step()
    counted: list[int] = []

    def count(_: Any) -> None:
        counted.append(1)

    sa.event.listen(rig.store._db._engine, "begin", count)
    while (step := loop.step()).finished is None:
        if not step.changed or step.live:
            sa.event.remove(rig.store._db._engine, "begin", count)
            for index in indexes(step):
                rig.end(index)
            sa.event.listen(rig.store._db._engine, "begin", count)
    sa.event.remove(rig.store._db._engine, "begin", count)
    assert set(rig.statuses().values()) == {"COMPLETED"}
    assert len(counted) / 8 <= 10


def ended_loop(rig: Rig) -> None:
    """Begin a loop with trials that were proposed ahead, and let a user mark its task as failed."""
    loop = rig.loop(spec=RANDOM, propose_ahead=2, parallelism=2, max_trials=5)
    settled(loop)
    assert rig.statuses() == {0: "RUNNING", 1: "RUNNING", 2: "CANDIDATE", 3: "CANDIDATE"}
    end_task(rig.store, lambda attempt: rig.launcher, loop.identity, f"{KILLED}: marked failed")
    assert rig.statuses() == dict.fromkeys(range(4), "ABANDONED")


def test_what_was_proposed_ahead_runs_when_the_task_was_marked_and_then_cleared(rig: Rig) -> None:
    ended_loop(rig)
    again = rig.loop(spec=RANDOM, propose_ahead=2, parallelism=2, max_trials=5, try_number=2, max_tries=1)
    assert indexes(settled(again)) == [0, 1]
    for index in (0, 1):
        rig.end(index)
    # Another process of the same try goes on.
    again = rig.loop(spec=RANDOM, propose_ahead=2, parallelism=2, max_trials=5, try_number=2, max_tries=1)
    assert indexes(settled(again)) == [2, 3]
    for index in (2, 3):
        rig.end(index)
    assert indexes(settled(again)) == [4]
    rig.end(4)
    assert settled(again).finished == "max_trials: the experiment has 5 trials"
    assert rig.statuses() == dict.fromkeys(range(5), "COMPLETED")
    assert [run.number for run in rig.store.attempts("loop")] == [1, 2, 1, 2, 1, 1, 1]


@pytest.mark.parametrize(("try_number", "max_tries"), [(1, 0), (2, 0)])
def test_it_stays_given_up_for_a_process_of_the_ended_task(rig: Rig, try_number: int, max_tries: int) -> None:
    ended_loop(rig)
    step = settled(rig.loop(spec=RANDOM, parallelism=4, max_trials=5, try_number=try_number, max_tries=max_tries))
    assert indexes(step) == [4]
    assert [rig.statuses()[index] for index in (2, 3)] == ["ABANDONED"] * 2
