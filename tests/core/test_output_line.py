"""The last line of an app's output in the reason of its failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_axtx.core.output_line import MAX_LINE, with_line, without_line

RAISED = ["Traceback (most recent call last):", '  File "train.py", line 3, in <module>', "ValueError: no rows"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["step 1", "out of memory", "", "  ", "====="], "out of memory"),
        (RAISED, "ValueError: no rows"),
        ([*RAISED, "epoch 1", "epoch 2"], "ValueError: no rows"),
        (["10 %\r20 %\r\r"], "20 %"),
        (["\x1b[1;31mE: \x1b[0mno\tspace\x00 left\x1b]0;title\x07"], "E: no space left"),
        (["\u202e\u200btxt.exe", "\x1b[2K"], "txt.exe"),
    ],
)
def test_the_last_line_that_says_something_is_added(lines: list[str], said: str) -> None:
    assert with_line("exit code 1", lines) == f"exit code 1; its last line: {said}"


def test_a_line_that_adds_nothing_is_left_out() -> None:
    assert with_line("trainer/0: ValueError: no rows", RAISED) == "trainer/0: ValueError: no rows"
    assert with_line("exit code 1", ["", "---"]) == "exit code 1"


@given(st.lists(st.text(max_size=600), max_size=5))
def test_whatever_an_app_writes_is_one_short_line_and_can_be_taken_away(lines: list[str]) -> None:
    message = with_line("exit code 1", lines)
    assert message.isprintable()
    assert len(message) <= len("exit code 1; its last line: ") + MAX_LINE
    assert without_line(message) == "exit code 1"
