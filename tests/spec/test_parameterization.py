"""Parameterizations that people write, in spaces of every kind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
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


def space(**parameter: Any) -> ExperimentSpec:
    whole = {"type": "range", "name": "other", "bounds": [0, 9], "parameter_type": "int"}
    return ExperimentSpec(name="s", objective="score", parameters=[{"name": "p", **parameter}, whole])


FLOAT = {"type": "range", "bounds": [1.0, 1.3], "parameter_type": "float"}
STEPPED = FLOAT | {"step_size": 0.1}
CHOICE = {"type": "choice", "values": [0.1, 0.3], "parameter_type": "float"}
WHOLE = {"type": "range", "bounds": [0, 2**53], "parameter_type": "int"}


@pytest.mark.parametrize(
    ("parameter", "given", "read"),
    [
        (FLOAT, 1.3000000000000003, 1.3),
        (FLOAT, 1.0 - 1e-12, 1.0),
        (STEPPED, 1.3000000000000003, 1.3),
        (STEPPED, 1.2000000000000002, 1.2),
        (STEPPED, "1.1", 1.1),
        (CHOICE, 0.1 + 0.2, 0.3),
        (WHOLE, "3.0", 3),
        (WHOLE, np.int64(3), 3),
        (WHOLE, Decimal(3), 3),
        (WHOLE, 2**53 - 1, 2**53 - 1),
        (FLOAT, np.float32(1.25), 1.25),
        (FLOAT, Decimal("1.25"), 1.25),
    ],
)
def test_a_number_is_read_as_the_one_that_is_meant(parameter: dict[str, Any], given: Any, read: float) -> None:
    found = space(**parameter).read_parameters({"p": given, "other": 1})["p"]
    assert found == read and type(found) is type(read)


@pytest.mark.parametrize(
    ("parameter", "given"),
    [(FLOAT, 1.3001), (FLOAT, 0.9999), (STEPPED, 1.25), (STEPPED, 1.4), (CHOICE, 0.30001), (WHOLE, 1.5), (WHOLE, True)],
)
def test_another_number_is_refused(parameter: dict[str, Any], given: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"parameters\.p"):
        space(**parameter).read_parameters({"p": given, "other": 1})


@pytest.mark.parametrize(("a", "derived"), [(7, 3), (6, 3), (9, 4)])
def test_a_derived_whole_number_is_cut_off_as_in_ax(a: int, derived: int) -> None:
    spec = ExperimentSpec(
        name="d",
        objective="score",
        parameters=[
            {"type": "range", "name": "a", "bounds": [0, 9], "parameter_type": "int"},
            {"type": "derived", "name": "half", "expression_str": "0.5*a", "parameter_type": "int"},
        ],
    )
    assert spec.read_parameters({"a": a}) == {"a": a, "half": derived}
