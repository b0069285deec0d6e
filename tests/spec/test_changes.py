"""Changes of a definition: merged by field and name, and refused with field, value and fix where Ax cannot follow."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.changes import changed_spec, changes_between
from airflow_provider_axtx.spec.differences import differences
from airflow_provider_axtx.spec.experiment import ExperimentSpec

SPEC: dict[str, Any] = {
    "name": "changing",
    "parameters": [
        {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"},
        {"type": "choice", "name": "kind", "values": ["a", "b"], "parameter_type": "str", "is_ordered": False},
    ],
    "objective": "-loss",
    "outcome_constraints": ["cost <= 3"],
    "baseline": {"x": 0.5, "kind": "a"},
}
BEFORE = ExperimentSpec.load(SPEC)
ADDED = {"type": "range", "bounds": [0, 9], "parameter_type": "int", "backfill_value": 3}


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"x": {"bounds": [-1.0, 2.0]}}},
        {"parameters": {"x": {"frozen_value": 0.25}, "kind": {"values": ["a", "b", "c"]}}},
        {"objective": "loss", "outcome_constraints": ["cost <= 2"], "parameter_constraints": ["x <= 0.9"]},
        {"outcome_constraints": [], "tracking_metrics": ["cost"]},
    ],
)
def test_a_change_is_made_and_found_again(changes: dict[str, Any]) -> None:
    after = changed_spec(BEFORE.to_json(), changes)
    assert changes_between(BEFORE, after) == changes
    back = changes_between(after, BEFORE)
    assert changed_spec(after.to_json(), back).to_json() == BEFORE.to_json()


def test_an_added_parameter_has_the_value_of_earlier_trials_in_the_baseline_too() -> None:
    after = changed_spec(BEFORE.to_json(), {"parameters": {"depth": ADDED}})
    assert after.parameters[-1].name == "depth"
    assert after.baseline == {"x": 0.5, "kind": "a", "depth": 3}
    assert after.backfill_values == {"depth": 3}
    given = {**after.to_json(), "parameters": [dict(one) for one in after.to_json()["parameters"]]}
    del given["parameters"][-1]["backfill_value"]
    # A DAG that does not repeat the value means the same definition.
    assert differences(after.to_json(), ExperimentSpec.load(given)) == []


def test_a_frozen_parameter_needs_no_value_in_a_trial_by_hand() -> None:
    after = changed_spec(BEFORE.to_json(), {"parameters": {"x": {"frozen_value": 0.25}}})
    assert after.read_parameters({"kind": "b"}) == {"x": 0.25, "kind": "b"}
    with pytest.raises(InvalidInputError, match="nothing is left to tune"):
        changed_spec(after.to_json(), {"parameters": {"kind": {"frozen_value": "a"}}})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another field": ({"generation": {"method": "fast"}}, "generation: cannot be changed"),
    "no change": ({"objective": "-loss"}, "changes nothing"),
    "not an object": ({"parameters": ["x"]}, "parameters: is not an object"),
    "another type": (
        {"parameters": {"x": {"parameter_type": "int"}}},
        "parameters.x.parameter_type: cannot be changed",
    ),
    "another scaling": (
        {"parameters": {"x": {"scaling": "log", "bounds": [0.1, 1]}}},
        "parameters.x.scaling: cannot be changed from None",
    ),
    "no backfill value": (
        {"parameters": {"depth": {**ADDED, "backfill_value": None}}, "objective": "loss"},
        "depth",
    ),
    "backfill value of an old parameter": (
        {"parameters": {"x": {"backfill_value": 0.5}}},
        "parameters.x.backfill_value: cannot be changed from None",
    ),
    "frozen out of bounds": ({"parameters": {"x": {"frozen_value": 7}}}, "frozen_value: is out of bounds"),
    "frozen at another choice": ({"parameters": {"kind": {"frozen_value": "z"}}}, "frozen_value: is not one of"),
    "a backfill value of another type": (
        {"parameters": {"depth": {**ADDED, "backfill_value": "many"}}},
        "backfill_value: is not of parameter_type 'int'",
    ),
    "a new parameter in a hierarchy": (
        {"parameters": {"kind": {"dependent_parameters": {"b": ["x"]}}}},
        "parameters.kind.dependent_parameters: cannot be changed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_ax_cannot_change_is_refused(name: str) -> None:
    changes, message = REFUSED[name]
    spec = {key: value for key, value in SPEC.items() if key != "baseline"}
    with pytest.raises(InvalidInputError) as refused:
        changed_spec(ExperimentSpec.load(spec).to_json(), changes)
    assert message in str(refused.value)
    assert "Fix: " in str(refused.value)


def test_nothing_is_added_to_a_hierarchy_or_frozen_in_it() -> None:
    kind = {**SPEC["parameters"][1], "dependent_parameters": {"a": ["x"]}}
    hierarchy = ExperimentSpec.load({**SPEC, "parameters": [kind, SPEC["parameters"][0]], "baseline": None}).to_json()
    assert changed_spec(hierarchy, {"parameters": {"x": {"bounds": [0, 2]}}}).parameters[1].name == "x"
    for changes, told in (
        ({"depth": ADDED}, "cannot be added beside dependent_parameters"),
        ({"x": {"frozen_value": 0.5}}, "frozen_value: is not possible beside dependent_parameters"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            changed_spec(hierarchy, {"parameters": changes})


def test_without_trials_every_change_is_possible_and_with_them_no_parameter_goes() -> None:
    changes = {"parameters": {"depth": {**ADDED, "backfill_value": None}}}
    spec = {**SPEC, "baseline": None}
    assert changed_spec(spec, changes, has_trials=False).parameters[-1].name == "depth"
    smaller = {**SPEC, "parameters": SPEC["parameters"][:1], "baseline": None}
    from airflow_provider_axtx.spec.changes import check_change

    with pytest.raises(InvalidInputError, match=r"parameters.kind: cannot be removed(?s:.*)frozen_value"):
        check_change(BEFORE, ExperimentSpec.load(smaller), has_trials=True)
