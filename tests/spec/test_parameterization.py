"""Parameterizations that people write, in spaces of every kind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.parameters import RangeParameter

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


#: Ax's models cannot take all whole numbers up to 2**53, nor a derived half.
RANDOM = {"method": "random_search"}


def space(**parameter: Any) -> ExperimentSpec:
    whole = {"type": "range", "name": "other", "bounds": [0, 9], "parameter_type": "int"}
    return ExperimentSpec(
        name="s", objective="score", parameters=[{"name": "p", **parameter}, whole], generation=RANDOM
    )


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


def derived(expression: str, parameter_type: str, **more: Any) -> ExperimentSpec:
    """A space with the whole numbers ``a`` and ``b`` and the parameter ``d``, which follows from them."""
    whole = [{"type": "range", "name": name, "bounds": [0, 9], "parameter_type": "int"} for name in "ab"]
    of = {"type": "derived", "name": "d", "expression_str": expression, "parameter_type": parameter_type}
    return ExperimentSpec(name="d", objective="score", parameters=[*whole, of], generation=RANDOM, **more)


@pytest.mark.parametrize(
    ("expression", "parameter_type", "d"),
    [
        # A derived whole number is cut off, as in Ax.
        ("0.5*a", "int", 3),
        ("0.5*a", "float", 3.5),
        ("1.5 - 2*a + b", "float", -10.5),
    ],
)
def test_a_derived_value_is_computed_and_may_be_given(expression: str, parameter_type: str, d: float) -> None:
    spec = derived(expression, parameter_type)
    read = spec.read_parameters({"a": 7, "b": 2})
    assert read == {"a": 7, "b": 2, "d": d} and type(read["d"]) is type(d)
    assert spec.read_parameters({"a": 7, "b": 2, "d": d}) == read
    assert spec.read_parameters({"a": 7, "b": 2, "d": str(d)}) == read
    with pytest.raises(InvalidInputError, match=r"parameters.d: is not what it is derived from(?s:.*)leave it out"):
        spec.read_parameters({"a": 7, "b": 2, "d": d + 1})


def test_a_derived_float_may_be_given_with_a_rounding_error() -> None:
    read = derived("0.1*a + 0.1*b", "float").read_parameters({"a": 1, "b": 2, "d": 0.3 + 1e-12})
    assert read["d"] == pytest.approx(0.3, abs=1e-15)


def test_of_values_that_are_fixed_a_derived_one_needs_those_that_it_follows_from() -> None:
    spec = derived("2*a + b", "float")
    assert spec.read_fixed_parameters({"a": 1}) == {"a": 1}
    assert spec.read_fixed_parameters({"a": 1, "b": 1, "d": 3}) == {"a": 1, "b": 1, "d": 3.0}
    for given in ({"d": 3}, {"a": 1, "d": 3}):
        with pytest.raises(InvalidInputError, match=r"fixed_parameters.d: is derived from others(?s:.*)'2\*a \+ b'"):
            spec.read_fixed_parameters(given)


def test_values_that_are_fixed_leave_something_to_choose() -> None:
    spec = derived("a", "int", parameter_constraints=["a + b <= 9"])
    assert spec.read_fixed_parameters({"a": 9}) == {"a": 9}
    with pytest.raises(InvalidInputError, match=r"fixed_parameters: violates the parameter constraint 'a \+ b <= 9'"):
        spec.read_fixed_parameters({"a": 9, "b": 1})
    with pytest.raises(InvalidInputError, match=r"fixed_parameters: is not possible(?s:.*)AxAttachTrialsOperator"):
        HIERARCHICAL.read_fixed_parameters({"model": "linear"})


@pytest.mark.parametrize(
    ("constraint", "kept", "broken"),
    [("a + 2*b <= 8", (4, 2), (5, 2)), ("a + 2*b >= 8", (4, 2), (4, 1)), ("8 <= 2*b + a", (8, 0), (7, 0))],
)
def test_constraints_on_parameters(constraint: str, kept: tuple[int, int], broken: tuple[int, int]) -> None:
    spec = derived("a", "int", parameter_constraints=[constraint])
    assert spec.read_parameters(dict(zip("ab", kept, strict=True)))["d"] == kept[0]
    with pytest.raises(InvalidInputError, match="violates the parameter constraint"):
        spec.read_parameters(dict(zip("ab", broken, strict=True)))


def test_parameters_that_depend_on_dependent_ones() -> None:
    of = {"parameter_type": "str", "type": "choice"}
    spec = ExperimentSpec(
        name="deep",
        objective="score",
        parameters=[
            {**of, "name": "c", "values": ["1", "2"]},
            {**of, "name": "b", "values": ["c", "none"], "dependent_parameters": {"c": ["c"]}},
            {**of, "name": "a", "values": ["b", "none"], "dependent_parameters": {"b": ["b"]}},
        ],
    )
    for given in ({"a": "none"}, {"a": "b", "b": "none"}, {"a": "b", "b": "c", "c": "1"}):
        assert spec.read_parameters(given) == given
    for given, told in (({"a": "b", "b": "c"}, "c: is missing"), ({"a": "none", "c": "1"}, "c: does not exist")):
        with pytest.raises(InvalidInputError, match=told):
            spec.read_parameters(given)


@pytest.mark.parametrize(
    ("parameter", "grid"),
    [
        (STEPPED, [1.0, 1.1, 1.2, 1.3]),
        (WHOLE | {"bounds": [2, 11], "step_size": 3}, [2, 5, 8, 11]),
        ({"type": "range", "bounds": [0, 1], "parameter_type": "float", "step_size": 0.5}, [0.0, 0.5, 1.0]),
    ],
)
def test_the_values_of_a_range_with_steps(parameter: dict[str, Any], grid: list[float]) -> None:
    stepped = space(**parameter).parameters[0]
    assert isinstance(stepped, RangeParameter)
    assert stepped.grid == grid
    assert [type(value) for value in stepped.grid] == [type(value) for value in grid]


def test_the_pruning_target_is_a_parameterization() -> None:
    target = {"a": "1", "b": 2.0, "d": 3}
    derived("0.5*a + 1.25*b", "float", pruning_target_parameterization=target)
    with pytest.raises(InvalidInputError, match=r"pruning_target_parameterization.d: is not what it is derived from"):
        derived("a", "int", pruning_target_parameterization=target)
    # As Ax asks for it, of parameters that depend on others only those that exist.
    parts = HIERARCHICAL.to_json()
    ExperimentSpec.load({**parts, "pruning_target_parameterization": {"model": "linear", "lr": 1}})
    with pytest.raises(InvalidInputError, match=r"pruning_target_parameterization.depth: does not exist"):
        ExperimentSpec.load({**parts, "pruning_target_parameterization": {"model": "linear", "lr": 1, "depth": 2}})
