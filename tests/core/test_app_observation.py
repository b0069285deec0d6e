from __future__ import annotations

import pytest

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation, LostAppPolicy

GRACE = LostAppPolicy(seconds=60, polls=3)


@pytest.mark.parametrize(("age", "unseen"), [(0, 1), (59.9, 100), (1000, 1), (1000, 2)])
def test_an_unknown_app_is_not_lost_before_both_limits_have_passed(age: float, unseen: int) -> None:
    verdict = GRACE.evaluate(UNSEEN, age=age, unseen_polls=unseen)
    assert not verdict.is_terminal
    assert verdict.trial_status == "STAGED"


def test_an_unknown_app_is_lost_after_the_grace_period() -> None:
    verdict = GRACE.evaluate(UNSEEN, age=60, unseen_polls=3)
    assert verdict.trial_status == "FAILED"
    assert verdict.is_infrastructure_failure
    assert "lost" in verdict.message


@pytest.mark.parametrize("state", ["SUBMITTED", "PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"])
def test_a_known_state_is_taken_as_it_is(state: str) -> None:
    seen = AppObservation(state, "said so")
    assert GRACE.evaluate(seen, age=1e6, unseen_polls=0) == seen


@pytest.mark.parametrize("state", ["FAILED", "UNKNOWN", "CANCELLED"])
def test_our_own_recorded_cancel_decides_what_the_end_means(state: str) -> None:
    verdict = GRACE.evaluate(AppObservation(state), age=1, unseen_polls=1, cancel_reason="timeout")
    assert (verdict.app_state, verdict.message) == ("CANCELLED", "timeout")


def test_an_app_that_had_succeeded_before_its_cancellation_reached_it_has_succeeded() -> None:
    seen = AppObservation("SUCCEEDED")
    assert GRACE.evaluate(seen, age=1, unseen_polls=0, cancel_reason="timeout") == seen


def test_a_cancelled_app_that_still_runs_is_waited_for() -> None:
    assert not GRACE.evaluate(AppObservation("RUNNING"), age=1, unseen_polls=0, cancel_reason="timeout").is_terminal
