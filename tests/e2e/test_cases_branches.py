"""What follows a loop that a branch has not chosen, and one whose last round was skipped because Ax had finished."""

from __future__ import annotations

import pytest

from tests.e2e.world import World

pytestmark = [pytest.mark.airflow, pytest.mark.cases]


def test_the_best_trial_is_skipped_with_a_loop_that_was_not_chosen(cases: World) -> None:
    run = cases.scenario("branch", chosen="")
    run.await_end()
    states = run.states()
    assert states.pop("choose") == "success"
    assert set(states.values()) == {"skipped"}


def test_the_best_trial_is_returned_when_the_last_round_had_nothing_left_to_try(cases: World) -> None:
    run = cases.scenario("branch")
    run.let_go()
    run.await_end()
    run.assert_completed(2)
    states = run.states()
    assert (states["best"], states["tune.generate_1"], states["tune.round_1.run"]) == ("success", "success", "skipped")
