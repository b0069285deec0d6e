"""What users ask of an experiment is checked before it is recorded, wherever they ask it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.steering import EDITABLE_LIMITS
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.steering import (
    MAX_TAG,
    MAX_TAGS,
    MAX_TEXT,
    change_arguments,
    limits_arguments,
    new_change,
    note_arguments,
    queue_arguments,
    tags_arguments,
)

DEFINITION = ExperimentSpec(
    name="steered",
    objective="-loss",
    parameters=[{"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}],
).to_json()


def test_limits() -> None:
    assert limits_arguments({"max_trials": "7", "max_cost": None})["limits"] == {"max_trials": 7, "max_cost": None}
    with pytest.raises(InvalidInputError, match=f"No limit is given(?s:.*){', '.join(EDITABLE_LIMITS)}"):
        limits_arguments({})
    with pytest.raises(InvalidInputError, match=r"limits.max_trial cannot be changed(?s:.*)did you mean 'max_trials'"):
        limits_arguments({"max_trials": 7, "max_trial": 2})


def test_a_queued_trial_and_a_change_fit_the_definition() -> None:
    assert queue_arguments(DEFINITION, {"x": 1}) == {"parameters": {"x": 1.0}}
    with pytest.raises(InvalidInputError, match=r"parameters.x: is out of bounds"):
        queue_arguments(DEFINITION, {"x": 2})
    change = {"parameters": {"x": {"bounds": [0, 2]}}}
    assert change_arguments(DEFINITION, change, has_trials=True) == {"changes": change}
    with pytest.raises(InvalidInputError, match="generation: cannot be changed"):
        change_arguments(DEFINITION, {"generation": {"method": "quality"}}, has_trials=True)


def test_a_trial_like_another_one_has_no_parameters_that_do_not_exist_with_the_given_values() -> None:
    dependent = ExperimentSpec(
        name="dependent",
        objective="-loss",
        parameters=[
            {"type": "choice", "name": "model", "values": ["linear", "tree"], "parameter_type": "str",
             "dependent_parameters": {"linear": ["rate"], "tree": ["depth"]}},
            {"type": "range", "name": "rate", "bounds": [0, 1], "parameter_type": "float"},
            {"type": "range", "name": "depth", "bounds": [1, 9], "parameter_type": "int"},
        ],
    ).to_json()  # fmt: skip
    like = {"model": "linear", "rate": 0.5}
    assert queue_arguments(dependent, {"rate": 1}, like) == {"parameters": {"model": "linear", "rate": 1.0}}
    other = {"model": "tree", "depth": 3}
    assert queue_arguments(dependent, other, like) == {"parameters": other}
    with pytest.raises(InvalidInputError, match=r"parameters.rate: does not exist with these values"):
        queue_arguments(dependent, {**other, "rate": 1}, like)
    with pytest.raises(InvalidInputError, match=r"parameters.depth: is missing"):
        queue_arguments(dependent, {"model": "tree"}, like)


def test_a_trial_like_another_one_computes_derived_values_anew_and_leaves_removed_parameters_out() -> None:
    derived = ExperimentSpec(
        name="derived",
        objective="-loss",
        parameters=[
            {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"},
            {"type": "derived", "name": "double", "expression_str": "2 * x", "parameter_type": "float"},
        ],
    ).to_json()
    like = {"x": 0.25, "double": 0.5, "removed": 3}
    assert queue_arguments(derived, {"x": 0.5}, like) == {"parameters": {"x": 0.5, "double": 1.0}}


SPACE = (
    {"type": "range", "name": "x", "bounds": [0, 0.5], "parameter_type": "float"},
    {"type": "range", "name": "n", "bounds": [1, 9], "parameter_type": "int"},
    {"type": "derived", "name": "double", "expression_str": "2 * x", "parameter_type": "float"},
)


@pytest.mark.parametrize(
    ("given", "is_same"),
    [
        ({"x": 0.75, "n": 3}, True),
        ({"x": "0.75", "n": 3.0, "double": 1.5}, True),
        ({"x": 0.75 + 1e-12, "n": 3}, True),
        ({"x": 0.76, "n": 3}, False),
        ({"x": 0.75}, False),
        ({"x": 0.75, "n": 3, "other": 1}, False),
        ({"x": 0.75, "n": None}, False),
        ({}, False),
    ],
)
def test_a_repeated_request_is_compared_with_what_was_recorded_and_not_with_the_definition(
    given: dict[str, Any], is_same: bool
) -> None:
    narrower = ExperimentSpec(name="narrower", objective="-loss", parameters=list(SPACE)).to_json()
    recorded = {"parameters": {"x": 0.75, "n": 3, "double": 1.5}}
    assert (queue_arguments(narrower, given, recorded=recorded) == recorded) is is_same
    like = {"x": 0.75, "n": 7, "double": 3.0}
    assert queue_arguments(narrower, {"n": 3}, like, recorded=recorded) == recorded
    assert queue_arguments(narrower, {}, like, recorded=recorded) != recorded


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ([], []),
        (["b", " a ", "b"], ["b", "a"]),
        (["x", "x" * MAX_TAG], ["x", "x" * MAX_TAG]),
        ([str(i) for i in range(MAX_TAGS)], [str(i) for i in range(MAX_TAGS)]),
    ],
)
def test_tags_are_each_there_once(given: list[str], tags: list[str]) -> None:
    assert tags_arguments(given) == {"tags": tags}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["good", " "], f"The tag '' cannot be used(?s:.*)1 to {MAX_TAG} printable"),
        (["x" * (MAX_TAG + 1)], "cannot be used"),
        (["a\nb"], r"The tag 'a\\nb' cannot be used"),
        ([str(i) for i in range(MAX_TAGS + 1)], f"{MAX_TAGS + 1} tags are given(?s:.*)at most {MAX_TAGS}"),
    ],
)
def test_which_tags_cannot_be_used(given: list[str], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        tags_arguments(given)


def test_texts_are_what_every_database_holds() -> None:
    assert note_arguments("  a\x00b\ud800 ") == {"text": "a\ufffdb?"}
    assert note_arguments("n" * MAX_TEXT) == {"text": "n" * MAX_TEXT}
    for text in ("", "  ", "n" * (MAX_TEXT + 1)):
        with pytest.raises(InvalidInputError, match=rf"The note has \d+ characters(?s:.*)1 to {MAX_TEXT} characters"):
            note_arguments(text)


def test_a_change_may_have_a_reason() -> None:
    def change(reason: str = "", **more: Any) -> Any:
        return new_change("pause", request_id="r", requested_by="u", via="cli", reason=reason, **more)

    assert (change().reason, change().arguments, change(" why ").reason) == ("", {}, "why")
    assert change(arguments={"limits": {}}).arguments == {"limits": {}}
    with pytest.raises(InvalidInputError, match=f"The reason has {MAX_TEXT + 1} characters(?s:.*)0 to {MAX_TEXT}"):
        change("r" * (MAX_TEXT + 1))
