"""Parameterizations that people write, in spaces of every kind."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.experiment import ExperimentSpec

HIERARCHICAL = ExperimentSpec(
    name="h",
    objective="score",
    parameters=[
        {"type": "choice", "name": "model", "values": ["linear", "tree"], "parameter_type": "str",
         "dependent_parameters": {"linear": ["lr"], "tree": ["depth", "leaf"]}},
        {"type": "range", "name": "lr", "bounds": [1e-4, 1], "parameter_type": "float", "scaling": "log"},
        {"type": "range", "name": "depth", "bounds": [1, 64], "parameter_type": "int"},
        {"type": "choice", "name": "leaf", "values": [True, False], "parameter_type": "bool"},
    ],
)  # fmt: skip


def test_values_get_the_type_of_their_parameter() -> None:
    assert HIERARCHICAL.read_parameters({"model": "linear", "lr": 1}) == {"model": "linear", "lr": 1.0}
    read = HIERARCHICAL.read_parameters({"leaf": "false", "depth": "64", "model": "tree"})
    assert read == {"model": "tree", "depth": 64, "leaf": False}
    assert [type(value) for value in read.values()] == [str, int, bool]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": "tree", "lr": 0.1, "depth": 3, "leaf": True}, "parameters.lr: does not exist with these values"),
        ({"model": "tree", "depth": 3}, "parameters.leaf: is missing"),
        ({"lr": 0.1}, "parameters.model: is missing"),
        ({"model": "linear", "lr": float("nan")}, "parameters.lr: is not of type float"),
        ({"model": "linear", "lr": "1e-5"}, "parameters.lr: is out of bounds"),
    ],
)
def test_what_does_not_fit_a_hierarchical_space(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        HIERARCHICAL.read_parameters(given)
    assert told in str(refused.value)


def test_rounding_breaks_no_constraint() -> None:
    spec = ExperimentSpec(
        name="c",
        objective="score",
        parameters=[
            {"type": "range", "name": n, "bounds": [0, 1], "parameter_type": "float", "step_size": 0.1} for n in "xy"
        ],
        parameter_constraints=["x + y <= 0.3"],
    )
    assert spec.read_parameters({"x": 0.1, "y": 0.2}) == {"x": 0.1, "y": 0.2}
    with pytest.raises(InvalidInputError, match="violates the parameter constraint"):
        spec.read_parameters({"x": 0.2, "y": 0.2})
