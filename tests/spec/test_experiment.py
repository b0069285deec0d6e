from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_axtx.core.errors import InvalidInputError, InvalidResultError
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.parameters import RangeParameter
from airflow_provider_axtx.spec.reported import with_numbers

LR: dict[str, Any] = {
    "type": "range", "name": "lr", "bounds": [1e-4, 0.1], "parameter_type": "float", "scaling": "log"
}  # fmt: skip
DEPTH: dict[str, Any] = {"type": "range", "name": "depth", "bounds": [1, 8], "parameter_type": "int"}
KIND: dict[str, Any] = {"type": "choice", "name": "kind", "values": ["a", "b", "c"], "parameter_type": "str"}


def spec(**changes: Any) -> dict[str, Any]:
    """A valid spec with some fields changed; None removes one."""
    base: dict[str, Any] = {"name": "digits", "parameters": [LR, DEPTH, KIND], "objective": "-loss"}
    return {key: value for key, value in (base | changes).items() if value is not None}


def parameter(given: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A spec whose second parameter is the given one, changed; None removes a key."""
    changed = {key: value for key, value in (given | changes).items() if value is not None}
    return spec(parameters=[LR, changed])


MALFORMED: list[tuple[dict[str, Any], str, str, str]] = [
    # spec, field, value as shown, part of the fix
    (spec(name=None), "name", "'type': 'range'", "add it"),
    (parameter(DEPTH, bounds=[1, 2**60 + 1]), "parameters[1].bounds", "1.15", "smaller bounds"),
    (parameter(LR, name="x", scaling=None, bounds=[-1e308, 1e308]), "parameters[1].bounds", "-1e+308", "between"),
    (parameter(KIND, values={"a", "b"}), "parameters[1]", "'values'", "write a list"),
    (parameter(KIND, values=[1, 10, 50], parameter_type="int") | {"parameter_constraints": ["kind <= 9"]},
     "parameter_constraints[0]", "'kind <= 9'", "even distances"),
    (spec(parameters=[LR, {"type": "derived", "name": "a", "expression_str": "2*lr", "parameter_type": "float"},
                      {"type": "derived", "name": "b", "expression_str": "2*a", "parameter_type": "float"}]),
     "parameters[2].expression_str", "'a'", "that it is derived from"),
    (spec(pruning_target_parameterization={"lr": float("nan"), "depth": 2, "kind": "a"}),
     "pruning_target_parameterization.lr", "nan", "of that type"),
    (spec(parameter_constraints=["depth <= 50ms"]), "parameter_constraints[0]", "'depth <= 50ms'", "write '*'"),
    (spec(name=""), "name", "''", "letters"),
    (spec(name="a/b"), "name", "'a/b'", "letters"),
    (spec(name="x" * 101), "name", "'xxx", "1 to 100"),
    (spec(name=3), "name", "3", "write a text"),
    (spec(objective=None), "objective", "'digits'", "add it"),
    (spec(objectve="loss"), "objectve", "'loss'", "did you mean 'objective'"),
    (spec(parameters=[]), "parameters", "[]", "add a range"),
    (spec(parameters="lr"), "parameters", "'lr'", "write a list"),
    (spec(parameters=["lr"]), "parameters[0]", "'lr'", "write an object"),
    (spec(parameters=[LR, LR]), "parameters[1].name", "'lr'", "its own name"),
    (parameter(DEPTH, type="rnage"), "parameters[1].type", "'rnage'", "did you mean 'range'"),
    (parameter(DEPTH, name=None), "parameters[1].name", "'bounds': [1, 8]", "add it"),
    (parameter(DEPTH, name="batch-size"), "parameters[1].name", "'batch-size'", "underscores"),
    (parameter(DEPTH, name="lambda"), "parameters[1].name", "'lambda'", "no Python keyword"),
    (parameter(DEPTH, bounds=[8, 1]), "parameters[1].bounds", "[8.0, 1.0]", "[lower, upper]"),
    (parameter(DEPTH, bounds=[1, 1]), "parameters[1].bounds", "[1.0, 1.0]", "one value for a constant"),
    (parameter(DEPTH, bounds=[1, 2.5]), "parameters[1].bounds", "[1.0, 2.5]", "parameter_type 'float'"),
    (parameter(DEPTH, bounds=[1, 2, 3]), "parameters[1].bounds", "[1, 2, 3]", "[lower, upper]"),
    (parameter(DEPTH, bounds=[1, "many"]), "parameters[1].bounds[1]", "'many'", "write a number"),
    (parameter(DEPTH, bounds=[False, 8]), "parameters[1].bounds[0]", "False", "write a number"),
    (parameter(DEPTH, bounds=[1, math.inf]), "parameters[1].bounds[1]", "inf", "finite number"),
    (parameter(DEPTH, bounds=[0, 1e-7], parameter_type="float"), "parameters[1].bounds", "[0.0, 1e-07]", "scale"),
    (parameter(LR, name="x", bounds=[0, 1]), "parameters[1].bounds", "[0.0, 1.0]", "scaling 'linear'"),
    (parameter(DEPTH, parameter_type=None), "parameters[1].parameter_type", "'depth'", "add it"),
    (parameter(DEPTH, parameter_type="integer"), "parameters[1].parameter_type", "'integer'", "'float' or 'int'"),
    (parameter(DEPTH, scaling="logarithmic"), "parameters[1].scaling", "'logarithmic'", "'linear' or 'log'"),
    (parameter(DEPTH, step_size=3), "parameters[1].step_size", "3.0", "divides it"),
    (parameter(DEPTH, step_size=-1), "parameters[1].step_size", "-1.0", "distance"),
    (parameter(DEPTH, step_size=1, scaling="log"), "parameters[1].step_size", "1.0", "remove one of the two"),
    (parameter(DEPTH, setp_size=1), "parameters[1].setp_size", "1", "did you mean 'step_size'"),
    (parameter(KIND, values=[]), "parameters[1].values", "[]", "at least one"),
    (parameter(KIND, values="abc"), "parameters[1].values", "'abc'", "write a list"),
    (parameter(KIND, values=["a", "b", "a"]), "parameters[1].values[2]", "'a'", "remove one"),
    (parameter(KIND, values=["a", 1]), "parameters[1].values[1]", "1", "quotes"),
    (parameter(KIND, values=[1, 2.5], parameter_type="int"), "parameters[1].values[1]", "2.5", "parameter_type"),
    (parameter(KIND, values=[1, True], parameter_type="int"), "parameters[1].values[1]", "True", "parameter_type"),
    (parameter(KIND, values=list(map(str, range(1001)))), "parameters[1].values", "1001", "range parameter"),
    (parameter(KIND, dependent_parameters={"z": ["lr"]}), "parameters[1].dependent_parameters", "'z'", "listed value"),
    (parameter(KIND, dependent_parameters={"a": ["ls"]}), "parameters[1].dependent_parameters", "'ls'", "'lr'"),
    (parameter(KIND, dependent_parameters={"a": ["kind"]}), "parameters[1].dependent_parameters", "'kind'", "'kind'"),
    (parameter(KIND, values=[1, 2, 3], parameter_type="int", is_ordered=False)
     | {"parameter_constraints": ["kind <= 2"]}, "parameter_constraints[0]", "'kind <= 2'", "ordered numbers"),
    (spec(objective="0.5*acc, -loss", outcome_constraints=["acc <= 3"]), "outcome_constraints[0]", "'acc <= 3'",
     "'acc >= <number>'"),
    (spec(parameters=[LR, KIND | {"dependent_parameters": {"a": ["lr"]}},
                      {"type": "derived", "name": "d", "expression_str": "2*lr", "parameter_type": "float"}]),
     "parameters[2].type", "'derived'", "in the app"),
    (spec(parameters=[LR | {"frozen_value": 0.01}, KIND | {"dependent_parameters": {"a": ["depth"]}}, DEPTH]),
     "parameters[0].frozen_value", "0.01", "one value"),
    (
        parameter({"type": "derived", "name": "d", "expression_str": "lr * lr", "parameter_type": "float"}),
        "parameters[1].expression_str", "'lr * lr'", "multiply by a number only",
    ),
    (
        parameter({"type": "derived", "name": "d", "expression_str": "2 * ls", "parameter_type": "float"}),
        "parameters[1].expression_str", "'ls'", "did you mean 'lr'",
    ),
    (
        parameter({"type": "derived", "name": "d", "expression_str": "2 * lr", "parameter_type": "str"}),
        "parameters[1].expression_str", "'2 * lr'", "name alone",
    ),
    (parameter(DEPTH, is_fidelity=True), "parameters[1].is_fidelity", "True", "successive_halving"),
    (parameter(DEPTH, digits=3), "parameters[1].digits", "3", "step_size"),
    (parameter(DEPTH, value_type="int"), "parameters[1].value_type", "'int'", "one of them"),
    (parameter(DEPTH, log_scale="yes"), "parameters[1].log_scale", "'yes'", "true or false"),
    (parameter(KIND, sort_values=True), "parameters[1].sort_values", "True", "remove the key"),
    (parameter({"type": "fixed", "name": "f"}), "parameters[1].values", "'name': 'f'", "add it"),
    (spec(parameters=[{"type": "fixed", "name": "f", "value": 1}]), "parameters", "['f']", "choice of several"),
    (spec(parameter_constraints=["depth + dept <= 4"]), "parameter_constraints[0]", "depth + dept", "did you mean"),
    (spec(parameter_constraints=["depth < 4"]), "parameter_constraints[0]", "'depth < 4'", "<= and >= only"),
    (spec(parameter_constraints=["depth == 4"]), "parameter_constraints[0]", "'depth == 4'", "<= and >= only"),
    (spec(parameter_constraints=["1 <= depth <= 4"]), "parameter_constraints[0]", "1 <= depth", "split it"),
    (spec(parameter_constraints=["depth * depth <= 4"]), "parameter_constraints[0]", "depth * depth", "by a number"),
    (spec(parameter_constraints=["depth + 1"]), "parameter_constraints[0]", "'depth + 1'", "left <= right"),
    (spec(parameter_constraints=["depth <= "]), "parameter_constraints[0]", "'depth <= '", "combine names"),
    (spec(parameter_constraints=["1 <= 2"]), "parameter_constraints[0]", "'1 <= 2'", "what is constrained"),
    (spec(parameter_constraints=["__import__('os').system('x') <= 1"]), "parameter_constraints[0]", "os", "numbers"),
    (spec(parameter_constraints=["lr <= 0.01"]), "parameter_constraints[0]", "'lr <= 0.01'", "linear ranges"),
    (spec(parameter_constraints=["kind <= 4"]), "parameter_constraints[0]", "'kind <= 4'", "ordered numbers"),
    (spec(parameter_constraints="depth <= 4"), "parameter_constraints", "'depth <= 4'", "write a list"),
    (spec(objective=""), "objective", "''", "combine names"),
    (spec(objective="()"), "objective", "'()'", "metric to maximize"),
    (spec(objective="min:loss"), "objective", "'min:loss'", "write '-loss'"),
    (spec(objective="r-squared"), "objective", "'r-squared'", "use '_'"),
    (spec(objective="loss", tracking_metrics=["a\x00b"]), "tracking_metrics[0]", "a", "printable"),
    (spec(objective=None, objectives={"-loss": {"minimize": True}}), "objectives.-loss", "'-loss'", "rename"),
    (spec(objective=None, objectives={"l1+l2": {"minimize": True}}), "objectives.l1+l2", "'l1+l2'", "rename"),
    (spec(objective=None, objective_name="a - b"), "objective_name", "'a - b'", "rename"),
    (spec(objective="-"), "objective", "'-'", "combine names"),
    (spec(objective="loss + 1"), "objective", "'loss + 1'", "remove the number"),
    (spec(objective="loss * acc"), "objective", "'loss * acc'", "by a number only"),
    (spec(objective="loss / 0"), "objective", "'loss / 0'", "other than 0"),
    (spec(objective="loss - loss"), "objective", "'loss - loss'", "metric to maximize"),
    (spec(objective="loss, -loss"), "objective", "'loss, -loss'", "each metric once"),
    (spec(objective="loss, , acc"), "objective", "'loss, , acc'", "comma"),
    (spec(objective="log(loss)"), "objective", "'log(loss)'", "rename it"),
    (spec(objective="-beta"), "objective", "'-beta'", "rename it"),
    (spec(objective="-" * 3000 + "loss"), "objective", "'-----", "combine names"),
    (spec(objective=" + ".join(["loss"] * 1500)), "objective", "loss + loss", "plain sum"),
    (spec(objective="(" * 3000 + "loss" + ")" * 3000), "objective", "'(((((", "combine names"),
    (spec(objective=["loss"]), "objective", "['loss']", "write a text"),
    (spec(outcome_constraints=["latency"]), "outcome_constraints[0]", "'latency'", "left <= right"),
    (spec(outcome_constraints=["loss <= 3"]), "outcome_constraints[0]", "'loss <= 3'", "another metric"),
    (spec(outcome_constraints=["m <= 3", "m <= 3"]), "outcome_constraints[1]", "'m <= 3'", "remove one"),
    (spec(outcome_constraints=["baseline_m <= 3"]), "outcome_constraints[0]", "'baseline_m <= 3'", "rename"),
    (spec(outcome_constraints=["m <= 3 + baseline"]), "outcome_constraints[0]", "3 + baseline", "* baseline"),
    (spec(outcome_constraints=["m + q <= 2 * baseline"]), "outcome_constraints[0]", "m + q", "number as the bound"),
    (
        spec(objective="acc, -cost", outcome_constraints=["cost >= 3"]),
        "outcome_constraints[0]", "'cost >= 3'", "'cost <= <number>'",
    ),
    (spec(tracking_metrics=["loss"]), "tracking_metrics[0]", "'loss'", "each once"),
    (spec(tracking_metrics=["a", "a"]), "tracking_metrics[1]", "'a'", "each once"),
    (spec(tracking_metrics=[1]), "tracking_metrics[0]", "1", "write a text"),
    (spec(pruning_target_parameterization={"lr": 0.1, "kind": "a"}), "pruning_target_parameterization.depth", "None",
     "a value for every parameter"),
    (spec(generation={"method": "fats"}), "generation.method", "'fats'", "'fast'"),
    (spec(generation={"initialization_budget": 0}), "generation.initialization_budget", "0", "at least 1"),
    (spec(generation={"initialization_budget": 2.5}), "generation.initialization_budget", "2.5", "whole number"),
    (spec(generation={"max_parallelism": True}), "generation.max_parallelism", "True", "write a number"),
    (spec(generation={"random_seed": -1}), "generation.random_seed", "-1", "at least 0"),
    (spec(generation={"random_seed": 2**32}), "generation.random_seed", "4294967296", "less than"),
    (spec(generation={"torch_device": "gpu"}), "generation.torch_device", "'gpu'", "cuda:0"),
    (spec(generation={"budget": 3}), "generation.budget", "3", "Known: allow_exceeding"),
    (
        spec(generation={"initialization_budget": 3, "min_observed_initialization_trials": 4}),
        "generation.min_observed_initialization_trials", "4", "raise initialization_budget",
    ),
    (spec(objective=None, objectives={"loss": "minimize"}), "objectives", "'minimize'", "objective:"),
    (spec(objective=None, objectives={"loss": {"minimze": True}}), "objectives.loss.minimze", "True", "Known"),
    (spec(objectives={"loss": {"minimize": True}}), "objectives", "'minimize': True", "one of them"),
    (spec(objective_name="loss"), "objective_name", "'loss'", "one of them"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "field", "value", "fix"), MALFORMED, ids=[f"{m[1]}={m[2]}" for m in MALFORMED])
def test_a_malformed_spec_is_refused_with_field_value_and_fix(
    given: dict[str, Any], field: str, value: str, fix: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ExperimentSpec.load(given)
    (line,) = [part for part in str(caught.value).replace(" is invalid: ", "\n- ").splitlines() if f"{field}: " in part]
    assert value in line
    assert fix in line


def test_an_error_in_a_parameter_tells_its_name() -> None:
    with pytest.raises(InvalidInputError, match=r"parameters\[1\]\.bounds: .+ \(got \[8\.0, 1\.0\] for 'depth'\)"):
        ExperimentSpec.load(parameter(DEPTH, bounds=[8, 1]))


@pytest.mark.parametrize("given", ["{'name': 'x'}", "[1]", 3, ["x"], "{{ params.experiment }}"])
def test_what_is_no_object_is_refused(given: object) -> None:
    with pytest.raises(InvalidInputError, match="experiment") as caught:
        ExperimentSpec.load(given)
    assert caught.value.fix


def test_one_error_lists_all_problems() -> None:
    given = spec(
        name=7, parameters=[LR | {"bounds": [2, 1]}, KIND | {"values": []}], generation={"method": "x"}, unknown=1
    )
    with pytest.raises(InvalidInputError) as caught:
        ExperimentSpec.load(given)
    for field in ("name", "parameters[0].bounds", "parameters[1].values", "generation.method", "unknown"):
        assert f"- {field}: " in caught.value.message
    assert caught.value.message.count("Fix: ") == 5


def test_the_constructor_refuses_as_load_does() -> None:
    with pytest.raises(InvalidInputError, match=r"parameters\[0\]\.bounds"):
        ExperimentSpec(**spec(parameters=[LR | {"bounds": [2, 1]}]))


def test_dict_json_text_and_model_are_the_same() -> None:
    loaded = ExperimentSpec.load(spec())
    assert ExperimentSpec.load(json.dumps(spec())) == loaded
    assert ExperimentSpec.load(loaded) is loaded


def test_json_is_stable_and_makes_an_equal_spec() -> None:
    full = spec(
        description="d",
        parameters=[
            LR,
            DEPTH | {"step_size": 1},
            {"type": "choice", "name": "on", "values": [True, False], "parameter_type": "bool",
             "dependent_parameters": {True: ["w"]}},
            {"type": "choice", "name": "w", "values": [0.1, 1], "parameter_type": "float"},
        ],
        parameter_constraints=["depth <= 6"],
        outcome_constraints=["latency <= 50"],
        tracking_metrics=["val/acc"],
        generation={"method": "quality", "random_seed": 0, "max_parallelism": 4},
    )  # fmt: skip
    derived = {"type": "derived", "name": "twice", "expression_str": "2 * depth + 1", "parameter_type": "float"}
    for given in (full, spec(parameters=[LR, DEPTH, derived])):
        loaded = ExperimentSpec.load(given)
        text = json.dumps(loaded.to_json(), allow_nan=False)
        again = ExperimentSpec.load(text)
        assert again == loaded
        assert json.dumps(again.to_json()) == text


def test_equality_does_not_depend_on_what_was_read_before() -> None:
    given = spec(outcome_constraints=["latency <= 50"])
    used, fresh = ExperimentSpec.load(given), ExperimentSpec.load(given)
    assert used.needs_baseline is False
    assert used == fresh
    assert pickle.loads(pickle.dumps(used)) == fresh


def test_numbers_and_booleans_in_text_are_read() -> None:
    loaded = ExperimentSpec.load(
        spec(
            parameters=[
                LR | {"bounds": ["1e-4", "0.1"]},
                DEPTH | {"bounds": ["1", 8]},
                {"type": "choice", "name": "k", "values": ["1", 2], "parameter_type": "int"},
                {"type": "choice", "name": "b", "values": ["true", False], "parameter_type": "bool"},
            ],
            generation={"initialization_budget": "3"},
        )
    )
    assert (
        loaded.to_json()
        == loaded.load(
            spec(
                parameters=[
                    LR,
                    DEPTH,
                    {"type": "choice", "name": "k", "values": [1, 2], "parameter_type": "int"},
                    {"type": "choice", "name": "b", "values": [True, False], "parameter_type": "bool"},
                ],
                generation={"initialization_budget": 3},
            )
        ).to_json()
    )


def test_a_large_whole_number_is_kept_exactly() -> None:
    values = [2**60 + 1, 2**60 + 3]
    loaded = ExperimentSpec.load(parameter(KIND, values=[str(v) for v in values], parameter_type="int"))
    assert loaded.to_json()["parameters"][1]["values"] == values


@pytest.mark.parametrize(
    ("older", "current"),
    [
        (
            {"objectives": {"loss": {"minimize": True}}},
            {"objective": "-loss"},
        ),
        ({"objective_name": "loss", "minimize": True}, {"objective": "-loss"}),
        ({"objective_name": "acc"}, {"objective": "acc"}),
        (
            {"objectives": {"acc": {"minimize": False, "threshold": 0.5}, "cost": {"minimize": True, "threshold": 3}}},
            {"objective": "acc, -cost", "outcome_constraints": ["acc >= 0.5", "cost <= 3"]},
        ),
        ({"objective": "a", "tracking_metric_names": ["t"]}, {"objective": "a", "tracking_metrics": ["t"]}),
    ],
)
def test_objectives_of_the_older_service_api_are_read(older: dict[str, Any], current: dict[str, Any]) -> None:
    assert ExperimentSpec.load(spec(**{"objective": None} | older)) == ExperimentSpec.load(spec(**current))


def test_parameters_of_the_older_service_api_are_read() -> None:
    older = [
        {"name": "lr", "type": "range", "bounds": [1e-4, 0.1], "value_type": "float", "log_scale": True},
        {"name": "depth", "type": "range", "bounds": [1, 8], "value_type": "int", "is_fidelity": False},
        {"name": "kind", "type": "choice", "values": ["a", "b", "c"], "sort_values": False, "target_value": None},
        {"name": "seed", "type": "fixed", "value": 3},
    ]
    current = [LR, DEPTH, KIND, {"type": "choice", "name": "seed", "values": [3], "parameter_type": "int"}]
    assert ExperimentSpec.load(spec(parameters=older)) == ExperimentSpec.load(spec(parameters=current))


def test_the_type_of_a_parameter_may_be_left_out() -> None:
    bare = [{k: v for k, v in p.items() if k != "type"} for p in (LR, DEPTH, KIND)]
    assert ExperimentSpec.load(spec(parameters=bare)) == ExperimentSpec.load(spec())


@pytest.mark.parametrize(
    ("values", "parameter_type"),
    [([1, 2], "int"), ([0.5, 1.5], "float"), ([1, 0.5], "float"), (["a", "b"], "str"), ([True, False], "bool")],
)
def test_the_type_of_a_choice_is_that_of_its_values(values: list[Any], parameter_type: str) -> None:
    choice = {"type": "choice", "name": "c", "values": values}
    assert ExperimentSpec.load(spec(parameters=[LR, choice])).parameters[1].parameter_type == parameter_type


def test_values_of_several_types_have_none() -> None:
    with pytest.raises(InvalidInputError, match=r"parameters\[1\].parameter_type: is missing"):
        ExperimentSpec.load(spec(parameters=[LR, {"type": "choice", "name": "c", "values": [1, "a"]}]))


def test_metric_names() -> None:
    loaded = ExperimentSpec.load(
        spec(
            objective="acc - 0.5*val/loss, -cost", outcome_constraints=["mem <= 3", "cost <= 9"], tracking_metrics=["t"]
        )
    )
    assert loaded.required_metrics == ("acc", "val/loss", "cost", "mem")
    assert loaded.metric_names == ("acc", "val/loss", "cost", "mem", "t")
    assert loaded.is_multi_objective
    assert not loaded.needs_baseline
    assert [part.weights for part in loaded.objectives] == [{"acc": 1.0, "val/loss": -0.5}, {"cost": -1.0}]


def test_a_constraint_relative_to_the_baseline() -> None:
    loaded = ExperimentSpec.load(spec(outcome_constraints=["qps >= 0.95 * baseline"]))
    assert loaded.needs_baseline
    assert loaded.required_metrics == ("loss", "qps")


def test_another_name_for_the_same_definition() -> None:
    loaded = ExperimentSpec.load(spec())
    assert loaded.with_name("other").to_json() == {**loaded.to_json(), "name": "other"}
    with pytest.raises(InvalidInputError, match="name"):
        loaded.with_name("a/b")


def test_a_spec_cannot_be_changed() -> None:
    loaded = ExperimentSpec.load(spec())
    with pytest.raises(ValueError, match="frozen"):
        setattr(loaded, "name", "other")  # noqa: B010
    first = loaded.parameters[0]
    assert isinstance(first, RangeParameter)
    with pytest.raises(ValueError, match="frozen"):
        setattr(first, "bounds", (0.0, 1.0))  # noqa: B010


CONSTRAINED = ExperimentSpec.load(spec(outcome_constraints=["latency <= 50"], tracking_metrics=["t"]))


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"loss": 1, "latency": 2.5}, {"loss": (1.0, None), "latency": (2.5, None)}),
        ({"loss/mean": 1.0, "loss/sem": 0.1, "latency": 2}, {"loss": (1.0, 0.1), "latency": (2.0, None)}),
        ({"loss/mean": 1.0, "latency/mean": 2, "latency/sem": None}, {"loss": (1.0, None), "latency": (2.0, None)}),
        # A single sample has no standard error: NaN means unknown to Ax.
        ({"loss/mean": 1.0, "loss/sem": math.nan, "latency": 2}, {"loss": (1.0, None), "latency": (2.0, None)}),
        ({"loss/mean": 1.0, "loss/sem": 0, "latency": 2}, {"loss": (1.0, 0.0), "latency": (2.0, None)}),
        # TorchXMetric: the bare name wins, and then has no SEM.
        ({"loss": 1.0, "loss/mean": 9.0, "loss/sem": 9.0, "latency": 2}, {"loss": (1.0, None), "latency": (2.0, None)}),
        (
            {"loss": 1.0, "latency": 2, "t": 3, "extra/mean": 4, "extra/sem": 1, "note": "fine", "bad": math.nan},
            {"loss": (1.0, None), "latency": (2.0, None), "t": (3.0, None), "extra": (4.0, 1.0)},
        ),
        ({"loss": 1e-320, "latency": -0.0}, {"loss": (1e-320, None), "latency": (-0.0, None)}),
    ],
)
def test_results_are_read_as_torchx_metric_reads_them(
    reported: dict[str, object], expected: dict[str, tuple[float, float | None]]
) -> None:
    assert CONSTRAINED.check_results(reported) == expected


@pytest.mark.parametrize(
    ("reported", "metric", "value"),
    [
        ({}, "'loss'", "None"),
        ({"loss": 1.0}, "'latency'", "None"),
        ({"loss": None, "latency": 1}, "'loss'", "None"),
        ({"loss": math.nan, "latency": 1}, "'loss'", "nan"),
        ({"loss": math.inf, "latency": 1}, "'loss'", "inf"),
        ({"loss": "0.5", "latency": 1}, "'loss'", "'0.5'"),
        ({"loss": True, "latency": 1}, "'loss'", "True"),
        ({"loss": [0.5, 0.1], "latency": 1}, "'loss'", "[0.5, 0.1]"),
        ({"loss": 10**400, "latency": 1}, "'loss'", "1000"),
        ({"loss/mean": math.nan, "latency": 1}, "'loss/mean'", "nan"),
        ({"loss/sem": 0.1, "latency": 1}, "'loss'", "None"),
        ({"loss/mean": 1, "loss/sem": -0.1, "latency": 1}, "'loss/sem'", "-0.1"),
        ({"loss/mean": 1, "loss/sem": math.inf, "latency": 1}, "'loss/sem'", "inf"),
        ({"loss/mean": 1, "loss/sem": "small", "latency": 1}, "'loss/sem'", "'small'"),
        ({"Loss": 1, "latency": 1}, "'loss'", "reported: Loss, latency"),
    ],
)
def test_unusable_results_are_refused(reported: dict[str, object], metric: str, value: str) -> None:
    with pytest.raises(InvalidResultError) as caught:
        CONSTRAINED.check_results(reported)
    assert f"metric {metric}: " in caught.value.message
    assert value in caught.value.message
    assert "report" in caught.value.fix


def test_all_unusable_required_metrics_are_named() -> None:
    with pytest.raises(InvalidResultError, match=r"'loss'.*'latency'"):
        CONSTRAINED.check_results({"loss": math.nan, "latency": "x"})


def test_what_was_left_out_is_told() -> None:
    lines = CONSTRAINED.unusable_results({"loss": 1, "latency": 2, "t": math.nan, "note": "fine", "ok": 1})
    assert len(lines) == 2
    assert "'t'" in lines[0]
    assert "'note'" in lines[1]


def test_a_dag_file_loads_a_spec_without_ax_or_sympy() -> None:
    code = (
        "import sys; from airflow_provider_axtx.spec.experiment import ExperimentSpec; "
        f"ExperimentSpec.load({spec(parameter_constraints=['depth <= 6'])!r}); "
        "heavy = {'ax', 'torch', 'torchx', 'sympy', 'numpy', 'pandas', 'sqlalchemy', 'airflow'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_results_that_a_template_turned_into_text_are_numbers_again() -> None:
    given = {"m": "0.25", "n/mean": " 1e-3 ", "t": "text", "b": True, "k": 2}
    assert with_numbers(given) == {"m": 0.25, "n/mean": 0.001, "t": "text", "b": True, "k": 2}


def test_results_of_libraries_are_read() -> None:
    metrics = ExperimentSpec.load(spec()).check_results({"loss": np.float32(0.5), "acc": Decimal("0.25")})
    assert metrics == {"loss": (0.5, None), "acc": (0.25, None)}


def test_a_constraint_on_unevenly_spaced_choices_is_refused_at_parse() -> None:
    parameters = [
        {"type": "range", "name": "x", "bounds": [0.0, 1.0], "parameter_type": "float"},
        {"type": "choice", "name": "w", "values": [1, 10, 100], "parameter_type": "int", "is_ordered": True},
    ]
    even = [parameters[0], {**parameters[1], "values": [100, 10, 55]}]
    ExperimentSpec(name="e", parameters=even, objective="m", parameter_constraints=["x + w <= 50"])
    with pytest.raises(
        InvalidInputError, match=r"parameter_constraints\[0\]: 'w' is a choice of unevenly spaced values"
    ):
        ExperimentSpec(name="e", parameters=parameters, objective="m", parameter_constraints=["x + w <= 50"])


@pytest.mark.parametrize(
    ("objective", "fix"),
    [
        ("min:loss", "write '-loss'"),
        ("maximize val_acc", "write 'val_acc'"),
        ("acc, minimize latency", "write '-latency'"),
    ],
)
def test_a_direction_in_words_is_answered_with_how_to_write_it(objective: str, fix: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        ExperimentSpec.load(spec(objective=objective))
    assert fix in str(raised.value)


def test_parameters_as_a_mapping_are_answered_with_how_to_write_them() -> None:
    with pytest.raises(InvalidInputError, match=r"must be a list .* write a list of parameters, each with its name"):
        ExperimentSpec.load(spec(parameters={"x": {"type": "range", "bounds": [0, 1]}}))


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ({"name": "seed", "type": "range", "parameter_type": "int", "bounds": [0, 2**31 - 1]}, "whole numbers"),
        (
            {"name": "n", "type": "range", "parameter_type": "int", "bounds": [1, 10**9], "scaling": "log"},
            "whole numbers",
        ),
        ({"name": "d", "type": "derived", "parameter_type": "int", "expression_str": "0.5*a"}, "not always a whole"),
        ({"name": "d", "type": "derived", "parameter_type": "int", "expression_str": "2*x"}, "not always a whole"),
        ({"name": "d", "type": "derived", "parameter_type": "int", "expression_str": "a + 0.5"}, "not always a whole"),
        ({"name": "d", "type": "derived", "parameter_type": "int", "expression_str": "2*a + 1"}, None),
        ({"name": "d", "type": "derived", "parameter_type": "int", "expression_str": "0.5*even"}, None),
        ({"name": "d", "type": "derived", "parameter_type": "int", "expression_str": "0.1*tens - 2"}, None),
        ({"name": "d", "type": "derived", "parameter_type": "float", "expression_str": "0.5*a"}, None),
    ],
)
def test_what_a_model_of_ax_cannot_take_is_refused_unless_the_search_is_random(
    parameter: dict[str, Any], said: str | None
) -> None:
    given: dict[str, Any] = {
        "name": "e",
        "objective": "-loss",
        "parameters": [
            {"name": "a", "type": "range", "parameter_type": "int", "bounds": [1, 9]},
            {"name": "even", "type": "range", "parameter_type": "int", "bounds": [2, 8], "step_size": 2},
            {"name": "tens", "type": "choice", "parameter_type": "int", "values": [10, 50, 100]},
            {"name": "x", "type": "range", "parameter_type": "float", "bounds": [0, 1]},
            parameter,
        ],
    }
    if said is not None:
        with pytest.raises(InvalidInputError, match=said):
            ExperimentSpec.load(given)
        given["generation"] = {"method": "random_search"}
    assert len(ExperimentSpec.load(given).parameters) == 5


@pytest.mark.parametrize(
    ("constraints", "fits"), [(["a >= 1"], False), (["a >= 1", "b <= 9"], True), ([], True), (["c <= 1"], True)]
)
def test_global_stopping_takes_thresholds_of_all_objectives_or_of_none(constraints: list[str], fits: bool) -> None:
    given = {
        "name": "e",
        "objective": "a, -b",
        "outcome_constraints": constraints,
        "parameters": [{"name": "x", "type": "range", "parameter_type": "float", "bounds": [0, 1]}],
        "global_stopping": {"min_trials": 4},
    }
    if fits:
        ExperimentSpec.load(given)
    else:
        with pytest.raises(InvalidInputError, match=r"each objective or for none \(missing: b\)"):
            ExperimentSpec.load(given)
