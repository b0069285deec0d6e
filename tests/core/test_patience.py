from __future__ import annotations

import pytest

from airflow_provider_axtx.core.patience import MAX_FAILURES, MAX_PAUSE, Patience


def test_pauses_grow_with_each_failure_up_to_a_limit() -> None:
    patience = Patience(10.0)
    pauses = []
    for _ in range(8):
        pauses.append(patience.pause)
        patience.note_failure()
    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    patience.note_answer()
    assert patience.pause == 10.0


def test_an_interval_above_the_limit_is_kept() -> None:
    assert Patience(2 * MAX_PAUSE, failures=3).pause == 2 * MAX_PAUSE


@pytest.mark.parametrize(("failures", "exhausted"), [(MAX_FAILURES - 1, False), (MAX_FAILURES, True)])
def test_patience_ends_after_failures_in_a_row(failures: int, exhausted: bool) -> None:
    assert Patience(10.0, failures).is_exhausted is exhausted


def test_a_long_outage_does_not_overflow() -> None:
    assert Patience(0.001, failures=10_000).pause == pytest.approx(1.024)
