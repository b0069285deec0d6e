"""A template in one field does not switch off the check of the others."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.partial import check_known

A = {"type": "range", "name": "a", "bounds": [0, 1], "parameter_type": "float"}
B = {"type": "choice", "name": "b", "values": ["x", "y"], "parameter_type": "str"}
GOOD: dict[str, Any] = {"name": "e", "parameters": [A, B], "objective": "acc", "outcome_constraints": ["size <= 1"]}
TEMPLATE = "{{ params.x }}"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": TEMPLATE},
        {"objective": TEMPLATE, "tracking_metrics": ["t"]},
        {"parameters": TEMPLATE, "parameter_constraints": ["a <= 0.5"]},
        {"parameters": [A | {"bounds": [0, TEMPLATE]}, B], "parameter_constraints": ["a <= 0.5"]},
        {"parameters": [A | {"name": TEMPLATE}, B]},
        {"parameters": [A, B, {"type": "derived", "name": "c", "expression_str": "2*a", "parameter_type": "float"}]},
        {"outcome_constraints": [f"size <= {TEMPLATE}"]},
        {"generation": {"initialization_budget": TEMPLATE}},
        {"description": TEMPLATE},
    ],
)
def test_a_template_is_not_checked(changes: dict[str, Any]) -> None:
    check_known({**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": TEMPLATE, "objective": "2nd_loss"}, "objective"),
        ({"description": TEMPLATE, "parameters": [A, B | {"values": []}]}, r"parameters\[1\].values"),
        ({"parameters": [A | {"bounds": [0, TEMPLATE]}, B | {"values": []}]}, r"parameters\[1\].values"),
        ({"objective": TEMPLATE, "parameter_constraints": ["a < 1"]}, r"parameter_constraints\[0\]"),
        ({"parameters": TEMPLATE, "generation": {"methd": "fast"}}, "generation.methd"),
        ({"name": TEMPLATE, "objektive": "acc"}, "objektive"),
    ],
)
def test_a_mistake_beside_a_template_is_found_at_parse(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        check_known({**GOOD, **changes})
