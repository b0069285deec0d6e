"""Constraints on several metrics, and sums among several objectives: Ax is given each sum as one metric."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ax.adapter.adapter_utils import extract_outcome_constraints
from ax.core.outcome_constraint import OutcomeConstraint

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer import engine
from airflow_provider_axtx.optimizer.combined import CombinedMetric, ax_definition
from airflow_provider_axtx.optimizer.rebuild import rebuild
from airflow_provider_axtx.spec.experiment import ExperimentSpec

pytestmark = pytest.mark.filterwarnings("ignore")

POINTS = [(0.1, 0.2), (0.5, 0.5), (0.9, 0.3), (0.3, 0.8), (0.7, 0.6), (0.2, 0.6), (0.6, 0.1), (0.9, 0.9)]


def definition(objective: str, *constraints: str, **changes: Any) -> ExperimentSpec:
    return ExperimentSpec(
        name="e",
        parameters=[{"type": "range", "name": n, "bounds": [0, 1], "parameter_type": "float"} for n in "xy"],
        objective=objective,
        outcome_constraints=constraints,
        **{"generation": {"random_seed": 1, "initialization_budget": 3}, **changes},
    )


def observed(spec: ExperimentSpec) -> ExperimentSnapshot:
    """Return completed trials whose metrics are known functions of x and y."""
    trials = [TrialRecord(i, f"{i}_0", {"x": x, "y": y}, "COMPLETED", "Sobol") for i, (x, y) in enumerate(POINTS)]
    values = {"acc": lambda x, y: x + 2 * y, "cpu": lambda x, y: 100 * x, "gpu": lambda x, y: 100 * y}
    found = [
        Observation(i, name, function(x, y), 0.01)
        for i, (x, y) in enumerate(POINTS)
        for name, function in values.items()
        if name in spec.required_metrics
    ]
    state = {"node": "MBM", "runs": []}
    return ExperimentSnapshot("e", "uid", spec.to_json(), state, 0, tuple(trials), tuple(found))


def test_ax_sees_one_metric_of_a_constraint_only() -> None:
    """Ax 1.3.1; when this fails, ``optimizer.combined`` may go."""
    names = {"cpu": "cpu", "gpu": "gpu"}
    constraint = OutcomeConstraint(expression="2*cpu + gpu <= 100", metric_name_to_signature=names)
    matrix, bound = extract_outcome_constraints([constraint], ["cpu", "gpu"])
    assert (sorted(matrix[0].tolist()), bound.tolist()) == ([0.0, 1.0], [[100.0]])


@pytest.mark.parametrize("constraint", ["cpu + gpu <= 100", "100 >= gpu + 2*cpu"])
def test_proposals_respect_a_constraint_on_several_metrics(constraint: str) -> None:
    """Ax alone standardizes one metric by another's scale, and proposes points at 15 to 26, far from the bound."""
    spec = definition("acc", constraint)
    proposal = engine.propose(observed(spec), 2)
    weights = spec.constraints[0].weights
    for trial in proposal.trials:
        assert trial.generation_node == "MBM"
        parts = {"cpu": 100 * float(trial.parameters["x"]), "gpu": 100 * float(trial.parameters["y"])}
        total = sum(abs(weight) * parts[name] for name, weight in weights.items())
        assert 60 <= total <= 108, trial.parameters


def test_sums_among_several_objectives_are_one_objective_each() -> None:
    spec = definition("acc - 0.01*cpu, -gpu")
    experiment = rebuild(observed(spec)).experiment
    config = experiment.optimization_config
    assert config.objective.metric_names == ["axtx_objective_0", "gpu"]
    values = experiment.lookup_data().df.query("metric_name == 'axtx_objective_0'")["mean"].tolist()
    assert values == pytest.approx([x + 2 * y - x for x, y in POINTS])
    engine.validate(spec)
    assert len(engine.propose(observed(spec), 1).trials) == 1


def test_predictions_of_the_best_trial_name_the_definition_s_metrics_only() -> None:
    (best,) = engine.best(observed(definition("acc", "cpu + gpu <= 100")), use_model_predictions=True)
    assert set(best["metrics"]) == {"acc", "cpu", "gpu"}
    frontier = engine.best(observed(definition("acc + 0.001*cpu, -gpu")), use_model_predictions=True)
    assert all(set(one["metrics"]) == {"acc", "cpu", "gpu"} for one in frontier)
    assert len(frontier) > 1


def test_a_combined_metric_is_the_sum_of_what_was_observed_together() -> None:
    metric = CombinedMetric("sum", {"a": 2.0, "b": -1.0})
    given = [
        Observation(0, "a", 3.0, 0.3),
        Observation(0, "b", 1.0, 0.8),
        Observation(0, "a", 1.0, None, 1.0),
        Observation(0, "b", 4.0, 0.1, 1.0),
        Observation(1, "a", 3.0, 0.3),
        Observation(1, "c", 3.0, 0.3),
    ]
    assert metric.observed(given) == [
        Observation(0, "sum", 5.0, math.hypot(0.6, 0.8)),
        Observation(0, "sum", -2.0, None, 1.0),
    ]


def test_the_name_of_a_combined_metric_is_free() -> None:
    spec = definition("axtx_constraint_0", "cpu + gpu <= 100")
    assert [metric.name for metric in ax_definition(spec).combined] == ["axtx_constraint_0_"]


def test_definitions_without_sums_are_given_to_ax_as_they_are() -> None:
    spec = definition("acc + 2*top-5 score", "cpu <= 1_000")
    found = ax_definition(spec)
    assert (found.objective, found.outcome_constraints, found.combined) == (
        "acc + 2 * top__hyphen__5__space__score",
        ("cpu <= 1000",),
        (),
    )
