"""Where an experiment stands, judged without Ax."""

from __future__ import annotations

import math
from typing import Any

import pytest

from airflow_provider_axtx.core.completed import CompletedTrial, completed_trials
from airflow_provider_axtx.core.records import Observation, TrialRecord
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import goals, standing

X = {"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}


def spec(objective: str, *constraints: str) -> ExperimentSpec:
    return ExperimentSpec(name="e", parameters=[X], objective=objective, outcome_constraints=constraints)


@pytest.mark.parametrize(
    ("objective", "shown"),
    [
        ("acc", [("acc", False, 3.0)]),
        ("-acc", [("acc", True, 3.0)]),
        ("2*acc + loss", [("2*acc + loss", False, 11.0)]),
        ("acc - loss", [("acc - loss", False, -2.0)]),
        ("-acc - 2*loss", [("acc + 2*loss", True, 13.0)]),
        ("acc, -loss", [("acc", False, 3.0), ("loss", True, 5.0)]),
    ],
)
def test_objectives_as_a_person_reads_them(objective: str, shown: list[Any]) -> None:
    found = goals(spec(objective))
    assert [(goal.label, goal.minimize, goal.value({"acc": 3.0, "loss": 5.0})) for goal in found] == shown


def test_a_value_needs_all_its_metrics() -> None:
    assert goals(spec("acc + loss"))[0].value({"acc": 1.0}) is None


def trials(*results: dict[str, float | tuple[float, float]], baseline: int | None = None) -> list[CompletedTrial]:
    """Return completed trials with these means, or (mean, SEM)."""
    return [
        CompletedTrial(
            i, {m: v if isinstance(v, tuple) else (v, None) for m, v in one.items()}, f"{i}_0", i == baseline
        )
        for i, one in enumerate(results)
    ]


@pytest.mark.parametrize(
    ("objective", "best", "so_far"), [("acc", 2, [1.0, 1.0, 4.0, 4.0]), ("-acc", 1, [1.0, 0.0, 0.0, 0.0])]
)
def test_the_best_so_far_honours_the_direction(objective: str, best: int, so_far: list[float]) -> None:
    found = standing(spec(objective), trials(*({"acc": value} for value in [1.0, 0.0, 4.0, 4.0])))
    assert found.best == best
    assert [value for _, value in found.best_so_far] == so_far
    assert found.best_value == so_far[-1]


def test_a_trial_that_violates_a_constraint_is_never_the_best() -> None:
    given = trials({"acc": 9.0, "size": 11.0}, {"acc": 1.0, "size": 10.0}, {"acc": 2.0, "size": 3.0})
    found = standing(spec("acc", "size <= 10", "size >= 4"), given)
    assert (found.best, found.infeasible, found.feasible) == (1, (0, 2), (1,))
    assert found.best_so_far == ((0, None), (1, 1.0), (2, 1.0))


def test_a_constraint_on_several_metrics_is_judged_by_all_of_them() -> None:
    given = trials({"acc": 9.0, "cpu": 60.0, "gpu": 90.0}, {"acc": 1.0, "cpu": 60.0, "gpu": 30.0})
    found = standing(spec("acc", "cpu + gpu <= 100"), given)
    assert (found.best, found.infeasible) == (1, (0,))


@pytest.mark.parametrize(
    ("constraint", "mean", "sem", "feasible"),
    [
        ("size <= 10", 11.9, 1.0, True),
        ("size <= 10", 12.0, 1.0, False),
        ("size >= 10", 8.1, 1.0, True),
        ("size >= 10", 8.0, 1.0, False),
        ("2*size <= 20", 11.9, 1.0, True),
        ("-size >= -10", 12.0, 1.0, False),
        ("size <= 10", 10.1, None, False),
        # The error of a sum of independent metrics: 1.96 * sqrt(1 + 1) = 2.77.
        ("size + latency <= 10", 7.7, 1.0, True),
        ("size + latency <= 10", 7.8, 1.0, False),
        ("size - 2*latency >= 10", 18.3, 1.0, True),
        ("size - 2*latency >= 10", 15.6, 1.0, False),
    ],
)
def test_a_trial_is_infeasible_when_its_95_percent_interval_is(
    constraint: str, mean: float, sem: float | None, feasible: bool
) -> None:
    size = mean if sem is None else (mean, sem)
    given = trials({"acc": 1.0, "size": size, "latency": (5.0, 1.0)})
    assert standing(spec("acc", constraint), given).infeasible == (() if feasible else (0,))


@pytest.mark.parametrize(
    ("constraint", "baseline", "mean", "feasible"),
    [
        ("qps >= 0.95*baseline", 100.0, 96.0, True),
        ("qps >= 0.95*baseline", 100.0, 94.0, False),
        # In percent of the absolute value: 5 % less than -100 is -105.
        ("qps >= 0.95*baseline", -100.0, -104.0, True),
        ("qps >= 0.95*baseline", -100.0, -106.0, False),
        ("qps <= 1.05*baseline", -100.0, -96.0, True),
        ("qps <= 1.05*baseline", -100.0, -94.0, False),
        ("2*qps >= 1.9*baseline", -100.0, -104.0, True),
        ("-qps <= -0.95*baseline", 100.0, 94.0, False),
        ("qps >= 0.95*baseline", 0.0, -0.1, False),
    ],
)
def test_a_constraint_relative_to_the_baseline(constraint: str, baseline: float, mean: float, feasible: bool) -> None:
    given = trials({"acc": 1.0, "qps": baseline}, {"acc": 2.0, "qps": mean}, baseline=0)
    found = standing(spec("acc", constraint), given)
    assert (found.best, found.infeasible) == ((1, ()) if feasible else (0, (1,)))


def test_nothing_is_judged_before_the_baseline_has_a_value() -> None:
    found = standing(spec("acc", "qps >= 0.95*baseline"), trials({"acc": 1.0, "qps": 94.0}))
    assert (found.best, found.infeasible, found.feasible) == (None, (), ())


def test_the_trials_of_one_arm_are_feasible_together() -> None:
    repeated = [
        CompletedTrial(i, {"acc": (1.0, None), "size": (size, None)}, "0_0") for i, size in enumerate([9.0, 11.0])
    ]
    other = CompletedTrial(2, {"acc": (0.5, None), "size": (1, None)})
    found = standing(spec("acc", "size <= 10"), [*repeated, other])
    assert (found.best, found.infeasible) == (2, (0, 1))
    # Of one trial it is open: its size was not reported.
    found = standing(spec("acc", "size <= 10"), [repeated[0], CompletedTrial(1, {"acc": (1.0, None)}, "0_0"), other])
    assert (found.best, found.infeasible, found.feasible) == (2, (), (2,))


def test_the_frontier_of_several_objectives() -> None:
    points = [(1.0, 9.0), (2.0, 9.0), (2.0, 5.0), (3.0, 5.0), (3.0, 5.0), (1.0, 1.0), (0.0, 1.0)]
    found = standing(spec("acc, -loss"), trials(*({"acc": a, "loss": b} for a, b in points)))
    assert found.frontier == found.best_trials == (3, 4, 5)
    assert (found.best, found.best_so_far, found.best_value) == (None, (), None)


def test_a_sum_of_metrics_is_one_of_several_objectives() -> None:
    given = trials({"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 5.0, "b": 0.0, "c": 0.0}, {"a": 0.0, "b": 0.0, "c": 1.0})
    assert standing(spec("a + b, c"), given).frontier == (1, 2)


def test_a_value_that_overflows_is_still_the_largest() -> None:
    found = standing(spec("10*acc"), trials({"acc": 1.0}, {"acc": 1e308}))
    assert (found.best, found.best_value) == (1, math.inf)
    assert standing(spec("10*acc - 10*loss"), trials({"acc": 1e308, "loss": 1e308})).best is None


def test_nothing_completed_yet() -> None:
    found = standing(spec("acc"), [])
    assert (found.best, found.best_so_far, found.frontier) == (None, (), ())


def test_completed_trials_have_their_final_results() -> None:
    records = [
        TrialRecord(0, "baseline", {}, "RUNNING", origin="baseline"),
        TrialRecord(1, "1_0", {}, "COMPLETED"),
        TrialRecord(2, "baseline", {}, "COMPLETED", origin="attached"),
        TrialRecord(3, "3_0", {}, "EARLY_STOPPED"),
    ]
    observations = [
        Observation(1, "acc", 3.0, 0.1),
        Observation(1, "acc", 2.0, None, 7.0),
        Observation(1, "loss", 0.5, None, 2.0),
        Observation(1, "loss", 0.7, None, 1.0),
        Observation(2, "acc", float("nan")),
        Observation(3, "acc", 1.0),
    ]
    assert completed_trials(records, observations) == [
        CompletedTrial(1, {"acc": (3.0, 0.1), "loss": (0.5, None)}, "1_0"),
        CompletedTrial(2, {}, "baseline", is_baseline=True),
    ]
