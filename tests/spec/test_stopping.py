"""Early and global stopping in a definition: what is accepted, and what each mistake is told."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.stopping import LogicalStopping, PercentileStopping, ThresholdStopping

BASE: dict[str, Any] = {
    "name": "x",
    "parameters": [{"type": "range", "name": "a", "bounds": [0, 1], "parameter_type": "float"}],
    "objective": "-loss",
}


def test_strategies_with_axs_names_and_defaults() -> None:
    spec = ExperimentSpec(
        **BASE,
        early_stopping={
            "type": "or",
            "left": {"type": "threshold", "metric_threshold": 3},
            "right": {"type": "and", "left": {"type": "percentile"}, "right": {"type": "percentile", "patience": 2}},
        },
        global_stopping={"type": "improvement", "min_trials": 10},
    )
    either = spec.early_stopping
    assert isinstance(either, LogicalStopping)
    assert isinstance(either.left, ThresholdStopping)
    assert isinstance(either.right, LogicalStopping)
    assert either.right.left == PercentileStopping(percentile_threshold=50.0, min_progression=10.0, min_curves=5)
    assert ExperimentSpec.load(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("early_stopping", {"type": "median"}, "early_stopping.type: is not a strategy type"),
        ("early_stopping", "percentile", "early_stopping: "),
        ("early_stopping", {"type": "threshold"}, "early_stopping.metric_threshold: is missing"),
        ("early_stopping", {"type": "percentile", "percentile": 5}, "did you mean 'percentile_threshold'"),
        ("early_stopping", {"type": "percentile", "percentile_threshold": 100}, "is not a percentage"),
        ("early_stopping", {"type": "successive_halving", "reduction_factor": 1}, "early_stopping.reduction_factor: "),
        (
            "early_stopping",
            {"type": "successive_halving", "min_resource": 9, "max_resource": 9},
            "is not above min_res",
        ),
        ("early_stopping", {"type": "successive_halving", "resource": 1}, "did you mean 'min_resource'"),
        ("early_stopping", {"type": "percentile", "min_progression": -1}, "early_stopping.min_progression: "),
        ("early_stopping", {"type": "percentile", "max_progression": 10}, "is not above min_progression 10"),
        (
            "early_stopping",
            {"type": "percentile", "min_progression": 9, "max_progression": 8},
            "is not above min_progression 9",
        ),
        (
            "early_stopping",
            {"type": "successive_halving", "promotion": {"argument": "e"}},
            "early_stopping.max_resource: is missing",
        ),
        ("early_stopping", {"type": "percentile", "patience": 11}, "early_stopping.patience: is not in 0"),
        ("early_stopping", {"type": "percentile", "metric_signatures": ["los"]}, "did you mean 'loss'"),
        ("early_stopping", {"type": "percentile", "metric_signatures": ["loss", "b"]}, "is not one metric"),
        (
            "early_stopping",
            {"type": "and", "left": {"type": "percentile"}, "right": {"type": "threshold", "metric_threshold": "x"}},
            "early_stopping.right.metric_threshold: ",
        ),
        ("early_stopping", {"type": "and", "left": {"type": "percentile"}}, "early_stopping.right: is missing"),
        ("global_stopping", {"type": "improvement"}, "global_stopping.min_trials: is missing"),
        ("global_stopping", {"min_trials": 0}, "write a number of at least 1"),
        ("global_stopping", {"min_trials": 5, "window": 2}, "did you mean 'window_size'"),
        ("global_stopping", {"min_trials": 5, "improvement_bar": -0.1}, "global_stopping.improvement_bar: "),
    ],
)
def test_each_mistake_is_named(field: str, value: Any, told: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        ExperimentSpec(**BASE, **{field: value})
    assert told in str(refused.value)


def test_the_defaults_are_a_contract() -> None:
    spec = ExperimentSpec(**BASE, early_stopping={"type": "percentile"}, global_stopping={"min_trials": 1})
    assert spec.early_stopping == PercentileStopping(
        percentile_threshold=50.0,
        min_progression=10.0,
        max_progression=None,
        min_curves=5,
        n_best_trials_to_complete=None,
        patience=0.0,
        check_safe=False,
        normalize_progressions=False,
        metric_signatures=None,
    )
    assert spec.global_stopping is not None
    assert spec.global_stopping.model_dump() == {
        "type": "improvement",
        "min_trials": 1,
        "window_size": 5,
        "improvement_bar": 0.1,
        "inactive_when_pending_trials": False,
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": "2*a1 - loss"}, "scalarized objective"),
        ({"outcome_constraints": ["q >= 0.9*baseline"]}, "relative outcome constraints"),
        ({"outcome_constraints": ["q + r >= 1"]}, "an outcome constraint on several metrics"),
    ],
)
def test_global_stopping_only_where_ax_can_judge(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        ExperimentSpec(**{**BASE, **changes}, global_stopping={"min_trials": 5})


@pytest.mark.parametrize(
    ("generation", "told"),
    [
        ({"factory": "os.system"}, "write 'package.module:function'"),
        ({"factory": "a:b", "initialization_budget": 3}, "has no effect together with factory"),
    ],
)
def test_a_factory_is_a_reference_and_stands_alone(generation: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        ExperimentSpec(**BASE, generation=generation)
    spec = ExperimentSpec(**BASE, generation={"factory": "pkg.mod:make", "random_seed": 1, "max_parallelism": 2})
    assert ExperimentSpec.load(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("baseline", "told"),
    [({"a": 2}, "baseline.a: is out of bounds"), ({}, "baseline.a: is missing"), ({"a": 1, "b": 1}, "not a parameter")],
)
def test_a_baseline_is_in_the_search_space(baseline: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        ExperimentSpec(**BASE, baseline=baseline)
