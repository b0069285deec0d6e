"""Where an experiment stands, judged without Ax."""

from __future__ import annotations

from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("objective", "best", "so_far"), [("acc", 2, [1.0, 1.0, 4.0, 4.0]), ("-acc", 1, [1.0, 0.0, 0.0, 0.0])]
)
def test_the_best_so_far_honours_the_direction(objective: str, best: int, so_far: list[float]) -> None:
    found = standing(spec(objective), [(i, {"acc": value}) for i, value in enumerate([1.0, 0.0, 4.0, 4.0])])
    assert found.best == best
    assert [value for _, value in found.best_so_far] == so_far


def test_a_trial_that_violates_a_constraint_is_never_the_best() -> None:
    trials = [(0, {"acc": 9.0, "size": 11.0}), (3, {"acc": 1.0, "size": 10.0}), (4, {"acc": 2.0, "size": 3.0})]
    found = standing(spec("acc", "size <= 10", "size >= 4"), trials)
    assert (found.best, found.infeasible) == (3, (0, 4))
    assert found.best_so_far == ((0, None), (3, 1.0), (4, 1.0))


@pytest.mark.parametrize(("baseline", "infeasible"), [({"qps": 100.0}, (0,)), (None, ())])
def test_a_constraint_relative_to_the_baseline(baseline: dict[str, float] | None, infeasible: tuple[int, ...]) -> None:
    trials = [(0, {"acc": 1.0, "qps": 94.0}), (1, {"acc": 1.0, "qps": 96.0})]
    assert standing(spec("acc", "qps >= 0.95*baseline"), trials, baseline).infeasible == infeasible


def test_the_frontier_of_several_objectives() -> None:
    points = [(1.0, 9.0), (2.0, 9.0), (2.0, 5.0), (3.0, 5.0), (3.0, 5.0), (1.0, 1.0), (0.0, 1.0)]
    found = standing(spec("acc, -loss"), [(i, {"acc": a, "loss": b}) for i, (a, b) in enumerate(points)])
    assert found.frontier == (3, 4, 5)
    assert (found.best, found.best_so_far) == (None, ())


def test_nothing_completed_yet() -> None:
    found = standing(spec("acc"), [])
    assert (found.best, found.best_so_far, found.frontier) == (None, (), ())
