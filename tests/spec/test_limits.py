from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.limits import Limits, Progress, check_at_parse

DEADLINE = datetime(2030, 1, 1, tzinfo=UTC)


def load(**given: Any) -> Limits:
    return Limits.load(**{"max_trials": 10, **given})


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"max_trials": "20", "parallelism": " 4 "}, {"max_trials": 20, "parallelism": 4}),
        ({"max_failed_trials": "None", "max_failure_rate": ""}, {"max_failed_trials": None, "max_failure_rate": None}),
        ({"max_failure_rate": "0.5"}, {"max_failure_rate": 0.5}),
        ({"max_seconds": timedelta(minutes=2)}, {"max_seconds": 120.0}),
        ({"deadline": DEADLINE}, {"deadline": DEADLINE.timestamp()}),
        ({"deadline": "2030-01-01T01:00:00+01:00"}, {"deadline": DEADLINE.timestamp()}),
        ({"max_resource_hours": "1.5", "resource": "gpu"}, {"max_resource_hours": 1.5, "resource": "gpu"}),
    ],
)
def test_what_a_template_or_a_form_gives_is_read(given: dict[str, Any], read: dict[str, Any]) -> None:
    limits = load(**given)
    assert {name: getattr(limits, name) for name in read} == read


REACHED = [
    ({}, Progress(0, ended=9, failed=9), None),
    ({"max_failed_trials": 2}, Progress(0, ended=5, failed=1), None),
    ({"max_failed_trials": 2}, Progress(0, ended=5, failed=2), "max_failed_trials: 2 trials"),
    ({"max_failure_rate": 0.5}, Progress(0, ended=4, failed=4), None),
    ({"max_failure_rate": 0.5}, Progress(0, ended=6, failed=3), None),
    ({"max_failure_rate": 0.5}, Progress(0, ended=5, failed=3), "max_failure_rate: 3 of 5 "),
    ({"max_failure_rate": 0.5, "min_trials_for_rate": 2}, Progress(0, ended=2, failed=2), "max_failure_rate: 2 of 2 "),
    ({"max_seconds": 100}, Progress(901), None),
    ({"max_seconds": 100}, Progress(900), "max_seconds: the time ran out at 1970-01-01T00:16:40+00:00"),
    ({"max_seconds": 900, "deadline": "1970-01-01T00:16:39+00:00"}, Progress(900), "deadline: the time ran out"),
    ({"max_resource_hours": 2}, Progress(0, hours={"cpu": 1.9, "gpu": 9}), None),
    ({"max_resource_hours": 2}, Progress(0, hours={"cpu": 2.0}), "max_resource_hours: 2 of 2 CPU-hours"),
    ({"max_resource_hours": 2, "resource": "gpu"}, Progress(0, hours={"cpu": 9, "gpu": 1}), None),
    ({"max_resource_hours": 2, "resource": "gpu"}, Progress(0, hours={"gpu": 3}), "max_resource_hours: 3 of 2 GPU-"),
    ({"max_cost": 5}, Progress(0, cost=4.9), None),
    ({"max_cost": 5}, Progress(0, hours={"cpu": 99}), None),
    ({"max_cost": 5}, Progress(0, cost=5.5), "max_cost: 5.5 of 5 were spent"),
    ({"on_trial_failure": "fail"}, Progress(0, ended=3, failed=0), None),
    ({"on_trial_failure": "fail"}, Progress(0, ended=3, failed=1), "on_trial_failure: 1 of 3"),
]


@pytest.mark.parametrize(("given", "progress", "reason"), REACHED)
def test_each_limit_is_reached_where_it_says(given: dict[str, Any], progress: Progress, reason: str | None) -> None:
    found = load(**given).reached(progress, now=1000.0)
    assert (found or "").startswith(reason or "")
    assert (found is None) == (reason is None)


def test_when_a_limit_will_be_reached_although_no_trial_ends() -> None:
    running = Progress(900, hours={"cpu": 1.0}, rate={"cpu": 2})
    assert load().look_at(running, 1000) is None
    assert load(max_seconds=500).look_at(running, 1000) == 1400
    assert load(max_resource_hours=2).look_at(running, 1000) == 1000 + 1800
    assert load(max_resource_hours=2).look_at(Progress(900), 1000) is None
    assert load(max_cost=5).look_at(Progress(900, cost=4.0, cost_rate=2.0), 1000) == 1000 + 1800
    assert load(max_cost=5).look_at(Progress(900, cost=4.0), 1000) is None
    assert load(max_resource_hours=1, max_seconds=500).look_at(running, 1000) == 1000


#: Refused: by each limit the value, and what the error says.
BAD: list[tuple[dict[str, Any], str]] = [
    *[({name: value}, f"{name}: must be greater") for name in ("max_trials", "parallelism") for value in (0, -1)],
    *[({"max_failed_trials": value}, "max_failed_trials: must be greater") for value in (0, -1)],
    ({"max_failed_trials": "many"}, "max_failed_trials: must be a valid integer"),
    *[({"min_trials_for_rate": value}, "min_trials_for_rate: must be") for value in (0, -1, 2.5)],
    *[({"max_failure_rate": value}, "max_failure_rate: must be") for value in (0, -0.1, 1, "x")],
    *[({"max_seconds": value}, "max_seconds: is not a duration above 0") for value in (0, -1, timedelta(0), True)],
    *[({"max_resource_hours": value}, "max_resource_hours: must be") for value in (0, -1, "x", float("nan"))],
    *[({"deadline": value}, "deadline: is not a point in time") for value in (0, -1, "soon", datetime(2030, 1, 1))],
    ({"max_trials": None}, "max_trials: is missing"),
    ({"resource": "tpu"}, "resource: must be 'cpu' or 'gpu'"),
    ({"on_stop": "kill"}, "on_stop: must be 'drain' or 'cancel'"),
    ({"on_trial_failure": "retry"}, "on_trial_failure: must be 'continue' or 'fail'"),
    ({"max_trail": 3}, "max_trail: unknown key.*did you mean 'max_trials'"),
    # Contradictions
    ({"parallelism": 11}, "parallelism: is more than max_trials=10"),
    ({"max_failed_trials": 11}, "max_failed_trials: is more than max_trials=10"),
    ({"max_failure_rate": 0.5, "min_trials_for_rate": 11}, "min_trials_for_rate: is more than max_trials=10"),
    ({"min_trials_for_rate": 3, "max_failure_rate": None}, "min_trials_for_rate: has no effect without max_failure_"),
    ({"on_trial_failure": "fail", "max_failed_trials": 3}, "max_failed_trials: can never be reached"),
    ({"on_trial_failure": "fail", "max_failure_rate": 0.5}, "max_failure_rate: can never be reached"),
]


@pytest.mark.parametrize(("given", "said"), BAD)
def test_what_cannot_be_a_limit_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        load(**given)
    shown = [repr(value) for value in given.values() if value is not None]
    assert not shown or any(f"got {value}" in str(caught.value) for value in shown)
    assert "Fix: " in str(caught.value)


def test_one_error_names_all_limits_that_are_wrong() -> None:
    with pytest.raises(InvalidInputError, match=r"(?s)2 problems:.*max_trials.*deadline"):
        Limits.load(max_trials=0, deadline="soon")


def test_at_parse_a_template_is_not_checked_but_the_rest_is() -> None:
    check_at_parse(max_trials="{{ params.n }}", parallelism=4, min_trials_for_rate=3, max_failure_rate="{{ params.r }}")
    with pytest.raises(InvalidInputError, match="parallelism: must be"):
        check_at_parse(max_trials="{{ params.n }}", parallelism=0)
    with pytest.raises(InvalidInputError, match="max_failed_trials: can never be reached"):
        check_at_parse(max_trials="{{ params.n }}", on_trial_failure="fail", max_failed_trials=3)
