"""Successive halving judges recorded facts: the same ones give the same answer, whatever was asked before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.halving import argument_types, fallen_behind, promoting, promotions
from airflow_provider_axtx.spec.stopping import SuccessiveHalving

SMALL, LARGE = Observation(0, "size", 0.0, None, 2), Observation(1, "size", 20.0, None, 2)
RULE = {"type": "successive_halving", "min_resource": 2, "reduction_factor": 3}


def recorded(
    curves: Mapping[int, list[tuple[float, float]]],
    statuses: Mapping[int, str],
    objective: str,
    also: tuple[Observation, ...],
    rule: Mapping[str, Any],
) -> tuple[ExperimentSpec, SuccessiveHalving, ExperimentSnapshot]:
    """Return an experiment whose trials have these curves (step and loss), its rule, and its facts."""
    definition = {
        "name": "e",
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0, 1]}],
        "objective": objective,
        "early_stopping": {**RULE, **rule},
    }
    spec = ExperimentSpec.load(definition)
    assert isinstance(spec.early_stopping, SuccessiveHalving)
    seen = tuple(Observation(index, "loss", mean, None, step) for index, at in curves.items() for step, mean in at)
    trials = tuple(TrialRecord(index, f"{index}_0", {"x": 0.5}, statuses[index]) for index in curves)
    facts = ExperimentSnapshot("e", "uid", spec.model_dump(mode="json"), None, 0, trials, (*seen, *also))
    return spec, spec.early_stopping, facts


def stopped(
    curves: Mapping[int, list[tuple[float, float]]],
    statuses: Mapping[int, str] | None = None,
    objective: str = "-loss",
    also: tuple[Observation, ...] = (),
    **rule: Any,
) -> list[int]:
    """Return the trials that are stopped; all run unless told otherwise."""
    state = {index: (statuses or {}).get(index, "RUNNING") for index in curves}
    spec, halving, facts = recorded(curves, state, objective, also, rule)
    found = fallen_behind(spec, halving, facts, [index for index, status in state.items() if status == "RUNNING"])
    assert all("at step" in reason for reason in found.values())
    return list(found)


def flat(loss: float, *steps: float) -> list[tuple[float, float]]:
    return [(step, loss) for step in steps]


@pytest.mark.parametrize(
    ("curves", "options", "expected"),
    [
        # Before the lowest rung nothing is judged, and alone at a rung a trial goes on.
        ({0: flat(9, 1), 1: flat(1, 1)}, {}, []),
        ({0: flat(9, 1, 2)}, {}, []),
        # The best one goes on, also of fewer than the factor; of six the best two do, and who equals the second.
        ({0: flat(9, 2), 1: flat(1, 2)}, {}, [0]),
        ({i: flat(i, 2) for i in range(6)}, {}, [2, 3, 4, 5]),
        ({i: flat(i, 2) for i in range(9)}, {}, [3, 4, 5, 6, 7, 8]),
        ({0: flat(0, 2), 1: flat(1, 2), 2: flat(1, 2), **{i: flat(5, 2) for i in (3, 4, 5)}}, {}, [3, 4, 5]),
        # A trial is judged at the highest rung that it has reached: 6, where it is alone.
        ({0: flat(9, 2, 6), 1: flat(1, 2)}, {}, []),
        ({0: flat(9, 2, 6), 1: flat(1, 2, 6)}, {}, [0]),
        # Steps may pass by a rung: its value is the first one after it.
        ({0: [(1.5, 1.0), (2.5, 9.0)], 1: [(2, 5.0), (3, 0.1)]}, {}, [0]),
        # No rung is at max_resource or above it.
        ({0: flat(9, 2, 6), 1: flat(1, 2, 6)}, {"max_resource": 6}, [0]),
        ({0: [(2, 1.0), (6, 9.0)], 1: [(2, 2.0), (6, 1.0)]}, {"max_resource": 6}, [1]),
        # Trials that ended count, but not those whose values may be the fault itself; what is not a number is left out.
        ({0: flat(5, 2), 1: flat(1, 2)}, {"statuses": {1: "COMPLETED"}}, [0]),
        ({0: flat(5, 2), 1: flat(1, 2)}, {"statuses": {1: "EARLY_STOPPED"}}, [0]),
        ({0: flat(5, 2), 1: flat(1, 2)}, {"statuses": {1: "FAILED"}}, []),
        ({0: flat(5, 2), 1: flat(float("nan"), 2)}, {}, []),
        # What is maximized, and a sum of which one metric was not reported at the rung.
        ({0: flat(9, 2), 1: flat(1, 2)}, {"objective": "loss"}, [1]),
        ({0: flat(9, 2), 1: flat(1, 2)}, {"objective": "-loss - size"}, []),
        (
            {0: flat(9, 2), 1: flat(1, 2)},
            {"objective": "-loss - size", "also": (SMALL, LARGE)},
            [1],
        ),
        ({0: flat(9, 2), 1: flat(1, 2)}, {"objective": "-size, -loss", "metric_signatures": ["loss"]}, [0]),
        ({0: flat(9, 2), 1: flat(1, 2)}, {"objective": "-size, 0.5*loss", "metric_signatures": ["loss"]}, [1]),
    ],
)  # fmt: skip
def test_which_trials_have_fallen_behind(
    curves: dict[int, list[tuple[float, float]]], options: dict[str, Any], expected: list[int]
) -> None:
    assert stopped(curves, **options) == expected


PROMOTED = {"max_resource": 18, "promotion": {"argument": "epochs"}}


@pytest.mark.parametrize(
    ("curves", "running", "expected", "when_last"),
    [
        # Of three that have come to budget 2, the best one gets the next: 6.
        ({0: flat(9, 2), 1: flat(8, 2)}, (), [], [(1, 6)]),
        ({0: flat(9, 2), 1: flat(8, 2), 2: flat(7, 2)}, (), [(2, 6)], [(2, 6)]),
        ({i: flat(9 - i, 2) for i in range(8)}, (), [(7, 6), (6, 6)], [(7, 6)]),
        # Of equal ones the earliest goes on.
        ({i: flat(1, 2) for i in range(3)}, (), [(0, 6)], [(0, 6)]),
        # One that runs counts, and is not promoted itself; nor is one that has gone on already.
        ({0: flat(9, 2), 1: flat(8, 2), 2: flat(7, 2)}, (2,), [], [(1, 6)]),
        ({0: flat(9, 2), 1: flat(8, 2), 2: flat(7, 2, 6)}, (), [], [(2, 18)]),
        # The largest budgets first; nothing follows the whole trial.
        (
            {**{i: flat(9, 2) for i in range(6)}, **{i: flat(i, 2, 6) for i in (6, 7, 8)}},
            (),
            [(6, 18)],
            [(6, 18)],
        ),
        ({0: flat(9, 2), 1: flat(8, 2), 2: flat(7, 2, 6, 18)}, (), [], [(1, 6)]),
        # A trial whose curve has no value at the budget is not compared.
        ({0: flat(9, 2), 1: flat(8, 2), 2: flat(7, 3)}, (), [], [(1, 6)]),
        ({0: flat(9, 1)}, (), [], []),
    ],
)
def test_which_paused_trials_go_on(
    curves: dict[int, list[tuple[float, float]]],
    running: tuple[int, ...],
    expected: list[tuple[int, float]],
    when_last: list[tuple[int, float]],
) -> None:
    state = {index: "RUNNING" if index in running else "EARLY_STOPPED" for index in curves}
    spec, rule, facts = recorded(curves, state, "-loss", (), PROMOTED)
    assert promotions(spec, rule, facts) == expected
    assert promotions(spec, rule, facts, is_last=True) == when_last
    # Their apps end by themselves.
    assert fallen_behind(spec, rule, facts, list(running)) == {}


@pytest.mark.parametrize("is_last", [False, True])
def test_a_baseline_that_has_paused_goes_on_first_with_the_whole_budget(is_last: bool) -> None:
    curves = {0: flat(9, 2), 1: flat(1, 2), 2: flat(2, 2), 3: flat(3, 2)}
    spec, rule, facts = recorded(curves, dict.fromkeys(curves, "EARLY_STOPPED"), "-loss", (), PROMOTED)
    facts = replace(facts, trials=(replace(facts.trials[0], origin="baseline"), *facts.trials[1:]))
    assert promotions(spec, rule, facts, is_last=is_last) == [(0, 18)] + ([] if is_last else [(1, 6)])


@pytest.mark.parametrize(
    ("own", "expected", "when_last"),
    [
        ((2, 3, 4, 5), [(5, 6)], [(5, 6)]),
        ((0, 1, 2), [], [(2, 6)]),
        # One that has come farther goes on before a better one that has not.
        ((0, 6), [], [(6, 18)]),
        ((), [], []),
    ],
)
def test_the_trials_of_one_task_are_compared_with_all_and_go_on_alone(
    own: tuple[int, ...], expected: list[tuple[int, float]], when_last: list[tuple[int, float]]
) -> None:
    curves = {**{i: flat(9 - i, 2) for i in range(6)}, 6: flat(9, 2, 6), 7: flat(1, 2, 6, 18)}
    state = {index: "COMPLETED" if index == 7 else "EARLY_STOPPED" for index in curves}
    spec, rule, facts = recorded(curves, state, "-loss", (), PROMOTED)
    assert promotions(spec, rule, facts, own=own) == expected
    assert promotions(spec, rule, facts, own=own, is_last=True) == when_last


def test_the_argument_of_the_app() -> None:
    spec, rule, _ = recorded({}, {}, "-loss", (), PROMOTED)
    assert promoting(spec) is rule
    assert argument_types(spec) == {"x": "float", "epochs": "int"}
    assert argument_types(recorded({}, {}, "-loss", (), {**PROMOTED, "min_resource": 0.5})[0])["epochs"] == "float"
    stopping, _, _ = recorded({}, {}, "-loss", (), {})
    assert promoting(stopping) is None
    assert argument_types(stopping) == {"x": "float"}
