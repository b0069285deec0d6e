"""Calls that get only so much time."""

from __future__ import annotations

import sys
import threading

import pytest

from airflow_provider_axtx.core.deadline import in_time


def test_the_result_of_a_call_that_answers_is_returned() -> None:
    assert in_time(lambda: None, 60.0) is None
    assert in_time(lambda: 7, 60.0) == 7


def test_what_the_call_raises_is_raised_in_the_thread_of_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 / 0, 60.0)
    with pytest.raises(SystemExit):
        in_time(lambda: sys.exit(3), 60.0)


def test_a_call_that_does_not_answer_is_left_to_itself() -> None:
    release = threading.Event()
    try:
        with pytest.raises(TimeoutError, match=r"did not answer within 0\.01 s"):
            in_time(release.wait, 0.01)
    finally:
        release.set()
