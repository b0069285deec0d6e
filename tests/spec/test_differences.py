"""What counts as another definition, and how it is named."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.spec.differences import differences
from airflow_provider_axtx.spec.experiment import ExperimentSpec

A = {"type": "range", "name": "a", "bounds": [0, 1], "parameter_type": "float"}
B = {"type": "choice", "name": "b", "values": ["x", "y"], "parameter_type": "str"}
STORED: dict[str, Any] = ExperimentSpec(
    name="e",
    description="as it was",
    parameters=[A, B],
    objective="acc",
    outcome_constraints=["size <= 1", "cost <= 2"],
    generation={"random_seed": 1},
).to_json()


def spec(**changes: Any) -> ExperimentSpec:
    return ExperimentSpec.load({**STORED, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"description": "another text"},
        {"description": None},
        {"parameters": [B, A]},
        {"parameters": [{**A, "bounds": [0.0, 1.0]}, B]},
        {"outcome_constraints": ["cost <= 2", "size <= 1"]},
        {"generation": {"random_seed": 1, "method": "fast"}},
    ],
)
def test_what_is_the_same_definition(changes: dict[str, Any]) -> None:
    assert differences(STORED, spec(**changes)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parameters": [{**A, "bounds": [0, 2]}, B]}, ["parameters.a.bounds: stored [0.0, 1.0], given [0.0, 2.0]"]),
        ({"objective": "-acc"}, ["objective: stored 'acc', given '-acc'"]),
        ({"generation": {"random_seed": 2}}, ["generation.random_seed: stored 1, given 2"]),
        ({"generation": {}}, ["generation.random_seed: stored 1, given nothing"]),
        ({"parameters": [A]}, ["parameters.b: stored {"]),
        ({"tracking_metrics": ["t"]}, ['tracking_metrics: stored [], given ["t"]']),
        ({"objective": "f1", "generation": {"random_seed": 3}}, ["objective: ", "generation.random_seed: "]),
    ],
)
def test_only_what_differs_is_named(changes: dict[str, Any], said: list[str]) -> None:
    found = differences(STORED, spec(**changes))
    assert [line[: len(start)] for line, start in zip(found, said, strict=True)] == said


def test_a_definition_of_another_version_is_read() -> None:
    newer = {**STORED, "fidelity": None, "parameters": [{**A, "digits": 3}, B]}
    newer["generation"] = {**STORED["generation"], "new_option": False}
    assert differences(newer, spec()) == []
    older = {name: value for name, value in STORED.items() if name not in ("tracking_metrics", "parameter_constraints")}
    older["generation"] = {"random_seed": 1}
    assert differences(older, spec()) == []


def test_a_stored_definition_is_not_checked_by_the_rules_of_a_later_version() -> None:
    stored = {**STORED, "tracking_metrics": ["acc"]}
    assert ExperimentSpec.from_store(stored).tracking_metrics == ("acc",)


def test_only_the_parts_of_long_lists_that_differ_are_named() -> None:
    choice = {"type": "choice", "name": "c", "parameter_type": "int", "is_ordered": True}
    one, other = (
        ExperimentSpec.load({"name": "e", "objective": "a", "parameters": [{**choice, "values": [*range(1, 9), last]}]})
        for last in (9, 10)
    )
    assert differences(one.to_json(), other) == ["parameters.c.values[8]: stored 9, given 10"]
