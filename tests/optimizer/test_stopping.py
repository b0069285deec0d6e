"""Ax's stopping strategies, asked from facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.experiment import ExperimentSpec

pytestmark = pytest.mark.filterwarnings("ignore")

SPEC: dict[str, Any] = {
    "name": "s",
    "parameters": [{"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}],
    "objective": "-loss",
    "generation": {"random_seed": 1, "initialization_random_seed": 1},
}
PERCENTILE = {"type": "percentile", "min_progression": 2, "min_curves": 2}
LOW = {"type": "threshold", "metric_threshold": 0.2, "min_progression": 2, "min_curves": 0}


def facts(
    curves: Sequence[Sequence[float]] = (), running: int = 0, final: Sequence[float] = (), **spec: Any
) -> ExperimentSnapshot:
    """The last ``running`` curves belong to trials in flight; ``final`` values to trials without a curve."""
    count = len(curves) + len(final)
    statuses = ["COMPLETED"] * (count - running) + ["RUNNING"] * running
    steps = [Observation(i, "loss", v, None, s) for i, curve in enumerate(curves) for s, v in enumerate(curve, 1)]
    return ExperimentSnapshot(
        name="s",
        uid="uid",
        spec=ExperimentSpec.load({**SPEC, **spec}).to_json(),
        generator_state=None,
        version=0,
        trials=tuple(TrialRecord(i, f"{i}_0", {"x": (i + 1) / 40}, s) for i, s in enumerate(statuses)),
        observations=(*steps, *(Observation(len(curves) + i, "loss", value) for i, value in enumerate(final))),
    )


CURVES = [[3, 2, 0.1], [3, 2, 0.5], [1, 0.15], [4, 5], [9]]


@pytest.mark.parametrize(
    ("strategy", "stopped"),
    [
        (PERCENTILE, [3]),
        ({**PERCENTILE, "min_curves": 3}, []),
        ({**PERCENTILE, "min_progression": 3}, []),
        ({**PERCENTILE, "n_best_trials_to_complete": 4}, []),
        ({**PERCENTILE, "min_progression": 1}, [3, 4]),
        ({**PERCENTILE, "metric_signatures": ["loss"], "patience": 1}, [3]),
        (LOW, [3]),
        ({**LOW, "min_progression": 1}, [3, 4]),
        ({**LOW, "metric_threshold": 0.1}, [2, 3]),
        ({"type": "and", "left": PERCENTILE, "right": {**LOW, "metric_threshold": 0.1}}, [3]),
        ({"type": "or", "left": PERCENTILE, "right": {**LOW, "metric_threshold": 0.1}}, [2, 3]),
    ],
)
def test_which_trials_are_stopped_early(strategy: dict[str, Any], stopped: list[int]) -> None:
    decided = optimizer.early_stop(facts(CURVES, running=3, early_stopping=strategy))
    assert sorted(decided) == stopped
    assert all(decided.values())


@pytest.mark.parametrize("strategy", [PERCENTILE, LOW, {"type": "or", "left": PERCENTILE, "right": LOW}])
def test_the_baseline_runs_to_its_end(strategy: dict[str, Any]) -> None:
    known = facts(CURVES, running=3, early_stopping=strategy)
    baseline = replace(known.trials[3], origin="baseline", arm_name="baseline")
    assert optimizer.early_stop(replace(known, trials=(*known.trials[:3], baseline, known.trials[4]))) == {}


def test_a_metric_to_be_maximized_is_stopped_when_low() -> None:
    assert list(optimizer.early_stop(facts(CURVES, running=3, objective="loss", early_stopping=PERCENTILE))) == [2]


def test_nothing_is_stopped_without_a_strategy_or_progress() -> None:
    assert optimizer.early_stop(facts(CURVES, running=3)) == {}
    assert optimizer.early_stop(facts(final=[1.0, 2.0], running=1, early_stopping=LOW)) == {}


IMPROVING = [10.0, 8.0, 6.0, 4.0, 2.0, 1.0]
STUCK = [10.0, 8.0, 6.0, 1.0, 4.0, 5.0, 3.0, 2.0]


def test_an_experiment_that_does_not_improve_any_more_ends() -> None:
    stopping = {"min_trials": 6, "window_size": 3, "improvement_bar": 0.1}
    assert optimizer.global_stop(facts(final=IMPROVING, global_stopping=stopping)) is None
    assert optimizer.global_stop(facts(final=STUCK[:5], global_stopping=stopping)) is None
    assert optimizer.global_stop(facts(global_stopping=stopping)) is None
    assert optimizer.global_stop(facts(final=STUCK)) is None
    reason = optimizer.global_stop(facts(final=STUCK, global_stopping=stopping))
    assert reason is not None
    assert "improvement" in reason


def test_its_end_is_the_answer_to_the_next_request_for_trials() -> None:
    proposal = optimizer.propose(facts(final=STUCK, global_stopping={"min_trials": 6, "window_size": 3}), 2)
    assert proposal.trials == ()
    assert (proposal.finished or "").startswith("OptimizationShouldStop: ")


def test_a_trial_in_flight_holds_the_end_up_only_on_request() -> None:
    values = [*STUCK, 9.0]
    data = facts(running=1, final=values, global_stopping={"min_trials": 6, "window_size": 3})
    assert optimizer.global_stop(data) is not None
    waiting = {**data.spec["global_stopping"], "inactive_when_pending_trials": True}
    held = facts(running=1, final=values, global_stopping=waiting)
    assert optimizer.global_stop(held) is None
