"""Hours and money of attempts, and what was saved against full length."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.records import PRICES, AttemptRecord, TaskIdentity, TrialRecord
from airflow_provider_axtx.core.usage import Saved, Usage, rate_of, saved_by, usage_of

NOW = 100_000.0
CHEAP = {"cpu_hour": 0.5, "gpu_hour": 10.0}


def attempt(hours: float, index: int = 0, number: int = 1, prices: Any = None, **fields: Any) -> AttemptRecord:
    """Return an attempt of two cores and one GPU that has ended after so many hours."""
    options = {} if prices is None else {PRICES: prices}
    end = 10.0 + 3600 * hours
    times = {"submitted_at": 1.0, "started_at": 10.0, "finished_at": end + 5, "ended_at": end}
    given: dict[str, Any] = {"cpus": 2, "gpus": 1, "lookup_options": options, **times, **fields}
    return AttemptRecord("e", index, number, f"k{number}", "fake", "/t", 0.0, TaskIdentity(), **given)


@pytest.mark.parametrize(
    ("attempts", "used"),
    [
        ([], Usage()),
        ([attempt(1)], Usage(2.0, 1.0)),
        ([attempt(1), attempt(2)], Usage(6.0, 3.0)),
        ([attempt(2, prices=CHEAP)], Usage(4.0, 2.0, 22.0)),
        # An attempt without a price counts in hours only; each has the prices of its own submission.
        ([attempt(1), attempt(1, prices={"gpu_hour": 1.0})], Usage(4.0, 2.0, 1.0)),
        ([attempt(1, prices={"cpu_hour": 1.0}), attempt(1, prices={"cpu_hour": 2.0})], Usage(4.0, 2.0, 6.0)),
        ([attempt(1, lookup_options=None)], Usage(2.0, 1.0)),
        ([attempt(1, prices="odd")], Usage(2.0, 1.0)),
        # Waiting in a queue is not used; neither is what a clock that goes wrong makes negative.
        ([attempt(1, started_at=None, finished_at=None, ended_at=None, prices=CHEAP)], Usage(0.0, 0.0, 0.0)),
        ([attempt(-1)], Usage()),
    ],
)
def test_what_was_used(attempts: list[AttemptRecord], used: Usage) -> None:
    assert usage_of(attempts, NOW) == used


def test_only_apps_that_run_now_have_a_rate() -> None:
    live = attempt(0, started_at=NOW - 7200, finished_at=None, ended_at=None, prices=CHEAP)
    waiting = attempt(0, started_at=None, finished_at=None, ended_at=None, prices=CHEAP)
    assert usage_of([live], NOW) == Usage(4.0, 2.0, 22.0)
    assert rate_of([live, waiting, attempt(1, prices=CHEAP)], NOW) == Usage(2.0, 1.0, 11.0)


def trials(*statuses: str) -> list[TrialRecord]:
    return [TrialRecord(index, f"{index}_0", {}, status) for index, status in enumerate(statuses)]


def test_full_length_is_the_median_of_trials_that_completed_in_one_attempt() -> None:
    known = trials("COMPLETED", "COMPLETED", "COMPLETED", "EARLY_STOPPED", "COMPLETED", "FAILED", "CANDIDATE")
    attempts = {
        0: [attempt(9, 0)],
        1: [attempt(10, 1)],
        2: [attempt(30, 2)],
        3: [attempt(4, 3, prices=CHEAP)],
        4: [attempt(8, 4), attempt(3, 4, 2)],
        5: [attempt(1, 5)],
    }
    saved = saved_by(known, attempts, NOW)
    assert saved == Saved(Usage(12.0, 6.0, 66.0), Usage(14.0, 7.0))
    assert saved.to_json()["continuing"] == {"cpu": 14.0, "gpu": 7.0, "cost": None}


def test_nothing_is_saved_before_a_trial_has_run_at_full_length() -> None:
    known = {0: [attempt(1, 0)], 1: [attempt(3, 1), attempt(1, 1, 2)]}
    assert saved_by(trials("EARLY_STOPPED", "COMPLETED"), known, NOW) == Saved()
