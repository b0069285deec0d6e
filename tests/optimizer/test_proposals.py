"""No proposal leaves the optimizer that is outside the definition, and a definition is tried before its first trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from ax.adapter.transforms.choice_encode import OrderedChoiceToIntegerRange

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer import engine, rebuild
from airflow_provider_axtx.spec.experiment import ExperimentSpec

pytestmark = pytest.mark.filterwarnings("ignore")

X = {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}
Y = {"type": "range", "name": "y", "bounds": [0, 1], "parameter_type": "float"}
SEEDS = {"random_seed": 1, "initialization_random_seed": 1}


def spec_of(parameters: list[dict[str, Any]], *constraints: str, **changes: Any) -> ExperimentSpec:
    generation = SEEDS | changes.pop("generation", {})
    fields = {"objective": "-loss", "generation": generation, **changes}
    return ExperimentSpec(name="e", parameters=parameters, parameter_constraints=constraints, **fields)


LAYERS = {"type": "range", "name": "layers", "bounds": [1, 8], "parameter_type": "int"}
DROPOUT = {"type": "range", "name": "dropout", "bounds": [0.0, 0.5], "parameter_type": "float", "step_size": 0.1}
WIDTH = {"type": "choice", "name": "width", "values": [16, 32, 48, 64], "parameter_type": "int", "is_ordered": True}


@pytest.mark.parametrize("method", ["random_search", "fast"])
@pytest.mark.parametrize(
    ("parameters", "constraint"),
    [
        ([LAYERS, DROPOUT], "layers + 10*dropout <= 10"),
        ([LAYERS, DROPOUT], "layers <= 20*dropout"),
        ([LAYERS, WIDTH], "8*layers <= width"),
        ([DROPOUT, WIDTH], "width - 100*dropout >= 10"),
    ],
)
def test_constraints_hold_for_the_values_of_stepped_and_ordered_parameters(
    method: str, parameters: list[dict[str, Any]], constraint: str
) -> None:
    spec = spec_of(parameters, constraint, generation={"method": method})
    facts = ExperimentSnapshot("e", "uid", spec.to_json(), None, 0)
    for i in range(8):
        proposal = engine.propose(facts, 1)
        (trial,) = proposal.trials
        assert spec.read_parameters(trial.parameters) == trial.parameters
        record = TrialRecord(i, trial.arm_name, trial.parameters, "COMPLETED", trial.generation_node, trial.generation)
        facts = replace(
            facts,
            generator_state=proposal.generator_state,
            trials=(*facts.trials, record),
            observations=(*facts.observations, Observation(i, "loss", float(i % 3))),
        )
    if method == "random_search":
        # All of the allowed space is drawn from: to Ax the largest dropout would be 5 and never possible.
        assert all(len({trial.parameters[p["name"]] for trial in facts.trials}) > 2 for p in parameters)


def test_ax_itself_constrains_the_positions_of_the_values() -> None:
    """When this fails, Ax has changed, and ``corrections`` may no longer be needed."""
    _, experiment = rebuild.configured_client(spec_of([LAYERS, DROPOUT], "layers + 10*dropout <= 10"), "e")
    space = experiment.search_space
    transform = OrderedChoiceToIntegerRange(search_space=space)
    of_ax = OrderedChoiceToIntegerRange.transform_search_space.__wrapped__
    transformed = (of_ax(transform, space.clone()), transform.transform_search_space(space.clone()))
    weights = [one.parameter_constraints[0].constraint_dict["dropout"] for one in transformed]
    assert weights == [10.0, pytest.approx(1.0)]


def test_a_proposal_outside_the_definition_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of([X, Y], generation={"method": "random_search"})
    facts = ExperimentSnapshot("e", "uid", spec.to_json(), None, 0)
    expected = engine.propose(facts, 4).trials
    outside = expected[1].parameters
    original = engine._outside
    monkeypatch.setattr(
        engine, "_outside", lambda spec, p: "rejected" if p.parameters == outside else original(spec, p)
    )
    found = engine.propose(facts, 3).trials
    assert [t.parameters for t in found] == [expected[0].parameters, *(t.parameters for t in expected[2:])]
    assert [t.arm_name for t in found] == ["0_0", "1_0", "2_0"]
    monkeypatch.setattr(engine, "_outside", lambda spec, p: "rejected")
    with pytest.raises(InvalidInputError, match="20 trials outside the definition"):
        engine.propose(facts, 1)


@pytest.mark.parametrize(("bounds", "step", "last"), [([1.0, 1.3], 0.1, 1.3), ([-1.1, 1.1], 0.2, 1.1)])
def test_the_values_of_a_stepped_parameter_are_plain_decimals_within_the_bounds(
    bounds: list[float], step: float, last: float
) -> None:
    spec = spec_of([{"type": "range", "name": "x", "bounds": bounds, "parameter_type": "float", "step_size": step}])
    _, experiment = rebuild.configured_client(spec, "e")
    values = experiment.search_space.parameters["x"].values
    assert values[0] == bounds[0] and values[-1] == last
    assert [float(f"{value:.10g}") for value in values] == values


def test_proposals_do_not_depend_on_the_hash_seed() -> None:
    parameters = [
        {"type": "range", "name": n, "bounds": [0, 50], "parameter_type": "int"} for n in ("aa", "b", "c", "d")
    ]
    spec = spec_of(parameters, "aa + b + c <= 60", "d - aa <= 5")
    code = (
        "import sys, json, warnings; warnings.simplefilter('ignore')\n"
        "from airflow_provider_axtx.optimizer import engine\n"
        "from airflow_provider_axtx.core.records import ExperimentSnapshot\n"
        "facts = ExperimentSnapshot('e', 'uid', json.loads(sys.argv[1]), None, 0)\n"
        "print(json.dumps([t.parameters for t in engine.propose(facts, 5).trials]))"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(spec.to_json())],
            check=True, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert answers[0] == answers[1]
    assert len(json.loads(answers[0])) == 5


def test_what_cannot_be_optimized_is_refused_before_the_first_trial() -> None:
    with pytest.raises(InvalidInputError, match="parameter_constraints"):
        engine.validate(spec_of([X, Y], "x + y >= 1.9", "x <= 0.2"))


def test_a_device_that_the_machine_does_not_have_is_refused_before_the_first_trial() -> None:
    """Sobol needs no device: without the check the model would fail once the initialization trials are paid for."""
    spec = spec_of([X], generation={"torch_device": "mps"})
    snapshot = ExperimentSnapshot("e", "uid", spec.to_json(), None, 0)
    with pytest.raises(InvalidInputError, match="torch_device 'mps' of experiment 'e' cannot be used on this machine"):
        engine.propose(snapshot, 1)
    spec = spec_of([X], generation={"torch_device": "cpu"})
    assert len(engine.propose(ExperimentSnapshot("e", "uid", spec.to_json(), None, 0), 1).trials) == 1


def test_quality_without_its_extra_is_refused_before_the_first_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of([X], generation={"method": "quality"})
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"needs jax and numpyro.*axtx\[quality\]"):
        engine.validate(spec)


def test_the_rounded_values_of_earlier_versions_are_still_in_the_search_space() -> None:
    spec = spec_of([{"type": "range", "name": "x", "bounds": [1.0, 1.3], "parameter_type": "float", "step_size": 0.1}])
    record = TrialRecord(0, "0_0", {"x": 1.2000000000000002}, "COMPLETED")
    rebuilt = rebuild.rebuild(ExperimentSnapshot("e", "uid", spec.to_json(), None, 0, (record,)))
    parameters = rebuilt.experiment.trials[0].arm.parameters
    assert parameters == {"x": 1.2}
    assert rebuilt.experiment.search_space.check_membership(parameters)


def test_fixed_parameters_hold_from_the_center_to_the_model() -> None:
    spec = spec_of([X, Y], generation={"initialization_budget": 3})
    facts = ExperimentSnapshot("e", "uid", spec.to_json(), None, 0)
    for i in range(5):
        proposal = engine.propose(facts, 1, fixed_parameters={"x": "0.25"})
        (trial,) = proposal.trials
        assert trial.parameters["x"] == 0.25
        record = TrialRecord(i, trial.arm_name, trial.parameters, "COMPLETED", trial.generation_node, trial.generation)
        facts = replace(
            facts,
            trials=(*facts.trials, record),
            generator_state=proposal.generator_state,
            observations=(*facts.observations, Observation(i, "loss", float(trial.parameters["y"]))),
        )
    assert len({trial.parameters["y"] for trial in facts.trials}) == 5


def test_the_pruning_target_has_the_types_of_the_parameters() -> None:
    twice = {"type": "derived", "name": "twice", "expression_str": "2*x", "parameter_type": "float"}
    spec = spec_of([X, LAYERS, twice], pruning_target_parameterization={"x": 0, "layers": "2.0"})
    _, experiment = rebuild.configured_client(spec, "e")
    assert experiment.optimization_config is not None
    target = experiment.optimization_config.pruning_target_parameterization
    assert target is not None
    assert target.parameters == {"x": 0.0, "layers": 2, "twice": 0.0}
    assert [type(target.parameters[name]) for name in ("x", "layers", "twice")] == [float, int, float]


@pytest.mark.parametrize(
    ("fixed", "said"), [({"x": 2.0}, "fixed_parameters.x"), ({"z": 1.0}, "is not a parameter"), ({"x": "a"}, "type")]
)
def test_fixed_parameters_have_to_fit_the_search_space(fixed: dict[str, Any], said: str) -> None:
    facts = ExperimentSnapshot("e", "uid", spec_of([X, Y]).to_json(), None, 0)
    with pytest.raises(InvalidInputError, match=said):
        engine.propose(facts, 1, fixed_parameters=fixed)
