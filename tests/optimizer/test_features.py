"""Every two features of a definition together: Ax proposes trials until after its initialization, or it is refused.

A definition that is accepted and that Ax gives up on after some trials costs its user those trials. The features stand
for what a definition can have; a pair of them is enough to find what Ax cannot have together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore

# Ax and BoTorch warn of every numerical retry.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

Change = Callable[[dict[str, Any]], None]


def parameters(*given: dict[str, Any]) -> Change:
    return lambda definition: definition["parameters"].extend(given)


def generation(**given: Any) -> Change:
    return lambda definition: definition["generation"].update(given)


def fields(**given: Any) -> Change:
    def change(definition: dict[str, Any]) -> None:
        for name, value in given.items():
            definition[name] = [*definition.get(name, []), *value] if isinstance(value, list) else value

    return change


def number(name: str, lower: float = 0, upper: float = 1, parameter_type: str = "float", **more: Any) -> dict[str, Any]:
    return {"type": "range", "name": name, "bounds": [lower, upper], "parameter_type": parameter_type, **more}


def choice(name: str, *values: Any, **more: Any) -> dict[str, Any]:
    return {"type": "choice", "name": name, "values": list(values), **more}


FEATURES: dict[str, Change] = {
    "log scale": parameters(number("p1", 1e-4, scaling="log")),
    "log scale of whole numbers": parameters(number("p2", 1, 1000, "int", scaling="log")),
    "steps": parameters(number("p3", step_size=0.25)),
    "steps of whole numbers": parameters(number("p4", 2, 11, "int", step_size=3)),
    "texts": parameters(choice("p5", "a", "b", "c")),
    "numbers in order": parameters(choice("p6", 1, 2, 3, is_ordered=True)),
    "truth value": parameters(choice("p7", True, False)),
    "constant": parameters(choice("p8", 3)),
    "frozen number": parameters(number("p9", frozen_value=0.25)),
    "frozen text": parameters(choice("p10", "a", "b", frozen_value="b")),
    "derived": parameters({"type": "derived", "name": "p11", "expression_str": "2*x + 1", "parameter_type": "float"}),
    "dependent": parameters(
        choice("p12", "u", "v", dependent_parameters={"u": ["p13"], "v": ["p14"]}),
        number("p13"),
        number("p14", 1, 8, "int"),
    ),
    "parameter constraint": fields(parameter_constraints=["x + y <= 1.5"]),
    "outcome constraint": fields(outcome_constraints=["cost <= 3"]),
    "relative constraint": fields(outcome_constraints=["qps >= 0.9*baseline"], baseline={}),
    "two objectives": fields(objective="-loss, acc"),
    "objective with a threshold": fields(objective="-loss, acc", outcome_constraints=["acc >= 0.1"]),
    "sum of metrics": fields(objective="2*acc - loss"),
    "pruning target": lambda definition: definition.update(
        pruning_target_parameterization={},
        generation={**definition["generation"], "simplify_parameter_changes": True},
    ),
    "tracked metric": fields(tracking_metrics=["size"]),
    "max_parallelism": generation(max_parallelism=4),
    "exceeding the budget": generation(allow_exceeding_initialization_budget=True),
    "random search": generation(method="random_search"),
    "global stopping": fields(global_stopping={"min_trials": 9}),
}
#: What is refused when it is defined, and why.
REFUSED = {
    ("frozen number", "dependent"): "frozen_value: is not possible beside dependent_parameters",
    ("frozen text", "dependent"): "frozen_value: is not possible beside dependent_parameters",
    ("derived", "dependent"): "type: is not possible beside dependent_parameters",
    ("dependent", "relative constraint"): "baseline: is not possible with dependent parameters",
    ("sum of metrics", "global stopping"): "does not work with a scalarized objective",
    ("relative constraint", "global stopping"): "does not work with relative outcome constraints",
}
#: Each of them is the whole objective.
OBJECTIVES = {"two objectives", "objective with a threshold", "sum of metrics"}
PAIRS = [pair for pair in itertools.combinations(FEATURES, 2) if not OBJECTIVES.issuperset(pair)]
#: The quick tests play every so manieth pair.
SAMPLE = 31


def smallest(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the smallest values of the search space, in whole numbers where they are whole."""
    values = {}
    for one in definition["parameters"]:
        if one["type"] != "derived":
            values[one["name"]] = one.get("frozen_value", one.get("bounds", one.get("values"))[0])
    values.pop("p14", None)  # does not exist with the first of the texts
    return values


def result(parameterization: Mapping[str, Any], metrics: tuple[str, ...]) -> dict[str, float]:
    total = sum(math.sin(3 * value) ** 2 for value in parameterization.values() if type(value) in (int, float))
    return {metric: total + 0.3 * i * math.cos(total) for i, metric in enumerate(metrics)}


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(pair, id=" and ".join(pair), marks=[pytest.mark.thorough] * (i % SAMPLE > 0))
        for i, pair in enumerate(PAIRS)
    ],
)
def test_ax_proposes_trials_or_the_definition_is_refused(pair: tuple[str, str], tmp_path: Path) -> None:
    definition: dict[str, Any] = {
        "name": "pair",
        "parameters": [number("x"), number("y")],
        "objective": "-loss",
        "generation": {"initialization_budget": 3, "random_seed": 1, "initialization_random_seed": 1},
    }
    for feature in pair:
        FEATURES[feature](definition)
    for name in ("baseline", "pruning_target_parameterization"):
        if name in definition:
            definition[name] = smallest(definition)
    if pair in REFUSED:
        with pytest.raises(InvalidInputError, match=REFUSED[pair]):
            ExperimentSpec.load(definition)
        return
    spec = ExperimentSpec.load(definition)
    store = ExperimentStore(f"sqlite:///{tmp_path}/experiments.db")
    create_experiment(store, spec, if_exists="fail")
    for i in range(6):
        generate_trials(store, spec.name, 1, task_key=f"t{i}")
        trial = store.trial(spec.name, i)
        assert spec.read_parameters(trial.parameters) == trial.parameters
        means = result(trial.parameters, spec.metric_names)
        seen = [Observation(i, metric, mean, 0.0, None) for metric, mean in means.items()]
        store.complete(spec.name, i, status="COMPLETED", observations=seen)
