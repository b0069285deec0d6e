"""The ranking against Ax's own answers, over 1,200 random experiments, and where Ax 1.3.1 is wrong.

Ax is asked through ``Client.get_best_parameterization(use_model_predictions=False)`` and ``is_row_feasible``, and for
the frontier through ``observed_pareto_frontier``. The random experiments leave out what Ax gets wrong:

1. A constraint on several metrics is judged by its first metric.
2. Of the objectives ``a + b, c`` Ax makes three.
3. No frontier is found when only some of the objectives have a bound.
4. The frontier ignores standard errors, which ``is_row_feasible`` takes into account.
5. The frontier judges repeated trials of one arm one by one, which ``is_row_feasible`` judges together.
6. The frontier compares the bound on ``a`` with the value of the objective ``2*a``.

The last tests show what Ax does in each of these cases: they fail when a new version of Ax changes it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet
from ax.adapter.adapter_utils import observed_pareto_frontier
from ax.service.utils.best_point import (
    derelativize_opt_config,
    get_tensor_converter_adapter,
    is_row_feasible,
)

from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer.rebuild import Rebuilt, rebuild
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.ranking import Standing, goals, standing

pytestmark = pytest.mark.filterwarnings("ignore")

X = {"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}
METRICS = ("a", "b", "c", "d")
ONE = ("a", "-a", "2*a", "a + b", "a - 3*b", "-a - 0.5*b")
UNWEIGHTED = ("a, b", "a, -b", "-a, -b", "a, b, -c")
SEVERAL = (*UNWEIGHTED, "2*a, -0.5*b")


@dataclass(frozen=True)
class Problem:
    snapshot: ExperimentSnapshot

    @property
    def spec(self) -> ExperimentSpec:
        return ExperimentSpec.load(self.snapshot.spec)

    @property
    def ranked(self) -> Standing:
        return standing(self.spec, completed_trials(self.snapshot.trials, self.snapshot.observations))


def random_constraint(rng: random.Random, metric: str) -> str:
    factor = rng.choice(["", "2*", "0.5*", "-", "-3*"])
    operator = rng.choice(["<=", ">="])
    bound = round(rng.uniform(-1.5, 1.5), 2)
    right = f"{bound} * baseline" if rng.random() < 0.4 else f"{bound}"
    return f"{factor}{metric} {operator} {right}" if rng.random() < 0.8 else f"{right} {operator} {factor}{metric}"


def thresholds(rng: random.Random, objective: str, how_many: str) -> list[str]:
    """Return a bound for none, some or all of several objectives, in the direction that Ax allows."""
    parts = [part.strip() for part in objective.split(",")]
    chosen = {"none": [], "some": parts[:1], "all": parts}[how_many]
    return [
        f"{part.strip('-0.5*2')} {'<=' if part.startswith('-') else '>='} {round(rng.uniform(-1.5, 1.5), 2)}"
        for part in chosen
    ]


def problem_of(spec: ExperimentSpec, rng: random.Random, *, sem: bool, repeats: bool) -> Problem:
    """Return up to eight trials with values near the bounds."""
    trials: list[TrialRecord] = []
    observations = []
    for i in range(rng.randrange(1, 9)):
        again = repeats and i > 1 and rng.random() < 0.2
        arm, x = (trials[-1].arm_name, trials[-1].parameters["x"]) if again else (f"{i}_0", rng.random())
        origin = "baseline" if i == 0 and spec.needs_baseline else "attached"
        status = "COMPLETED" if i == 0 or rng.random() < 0.85 else rng.choice(["FAILED", "EARLY_STOPPED", "RUNNING"])
        trials.append(TrialRecord(i, arm, {"x": x}, status, origin=origin))
        for metric in spec.required_metrics:
            error = rng.choice([None, 0.0, rng.uniform(0.0, 0.8)]) if sem else None
            observations.append(Observation(i, metric, rng.uniform(-2, 2), error))
            if rng.random() < 0.2:
                observations.append(Observation(i, metric, rng.uniform(-9, 9), None, 3.0))
    return Problem(ExperimentSnapshot("e", "uid", spec.to_json(), None, 0, tuple(trials), tuple(observations)))


def random_spec(rng: random.Random, objectives: tuple[str, ...], *bounded: str) -> ExperimentSpec:
    objective = rng.choice(objectives)
    free = [name for name in METRICS if name not in objective]
    # Ax refuses two bounds of one kind on one metric.
    constraints = [random_constraint(rng, name) for name in rng.sample(free, rng.randrange(min(3, len(free) + 1)))]
    if bounded:
        constraints += thresholds(rng, objective, rng.choice(bounded))
    return ExperimentSpec(name="e", parameters=[X], objective=objective, outcome_constraints=constraints)


def best_of_ax(rebuilt: Rebuilt) -> int | None:
    try:
        return int(rebuilt.client.get_best_parameterization(use_model_predictions=False)[2])
    except AssertionError:
        return None


def infeasible_of_ax(rebuilt: Rebuilt) -> set[int]:
    experiment = rebuilt.experiment
    config = experiment.optimization_config
    if any(constraint.relative for constraint in config.all_constraints):
        config = derelativize_opt_config(optimization_config=config, experiment=experiment)
    completed = [t.index for t in experiment.trials.values() if t.status.is_completed]
    df = experiment.lookup_data(completed).df
    feasible = is_row_feasible(df=df, optimization_config=config)
    return {int(index) for index, found in zip(df["trial_index"], feasible, strict=True) if found is False}


def frontier_of_ax(rebuilt: Rebuilt) -> tuple[int, ...]:
    experiment = rebuilt.experiment
    completed = [t.index for t in experiment.trials.values() if t.status.is_completed]
    adapter = get_tensor_converter_adapter(experiment=experiment, data=experiment.lookup_data(completed))
    found = observed_pareto_frontier(adapter=adapter, optimization_config=experiment.optimization_config)
    return tuple(sorted(int(one.features.trial_index) for one in found))


def value_of(problem: Problem, index: int | None) -> float | None:
    if index is None:
        return None
    trial = next(
        t for t in completed_trials(problem.snapshot.trials, problem.snapshot.observations) if t.index == index
    )
    return goals(problem.spec)[0].value({name: mean for name, (mean, _) in trial.results.items()})


def blocks(count: int) -> list[ParameterSet]:
    """Return numbers of a hundred random experiments each; the quick tests play the first."""
    return [pytest.param(block, marks=[pytest.mark.thorough] * (block > 0)) for block in range(count)]


@pytest.mark.parametrize("block", blocks(6))
def test_the_best_trial_is_that_of_ax(block: int) -> None:
    for seed in range(100 * block, 100 * (block + 1)):
        rng = random.Random(seed)
        problem = problem_of(random_spec(rng, ONE), rng, sem=True, repeats=True)
        rebuilt, ranked = rebuild(problem.snapshot, as_observed=True), problem.ranked
        assert set(ranked.infeasible) == infeasible_of_ax(rebuilt), problem
        assert value_of(problem, ranked.best) == pytest.approx(value_of(problem, best_of_ax(rebuilt))), problem


@pytest.mark.parametrize("block", blocks(3))
def test_the_infeasible_trials_with_several_objectives_are_those_of_ax(block: int) -> None:
    seen = 0
    for seed in range(100 * block, 100 * (block + 1)):
        rng = random.Random(10_000 + seed)
        problem = problem_of(random_spec(rng, SEVERAL, "none", "some", "all"), rng, sem=True, repeats=True)
        assert set(problem.ranked.infeasible) == infeasible_of_ax(rebuild(problem.snapshot, as_observed=True)), problem
        seen += len(problem.ranked.infeasible)
    assert seen > 100


@pytest.mark.parametrize("block", blocks(3))
def test_the_frontier_is_that_of_ax(block: int) -> None:
    seen = 0
    for seed in range(100 * block, 100 * (block + 1)):
        rng = random.Random(20_000 + seed)
        bounded = ("none", "all") if seed % 2 else ("none",)
        objectives = UNWEIGHTED if seed % 2 else SEVERAL
        problem = problem_of(random_spec(rng, objectives, *bounded), rng, sem=False, repeats=False)
        assert problem.ranked.frontier == frontier_of_ax(rebuild(problem.snapshot, as_observed=True)), problem
        seen += len(problem.ranked.frontier)
    assert seen > 100


# ---- where Ax is wrong


def fixed(
    objective: str, *constraints: str, rows: list[dict[str, Any]], arms: tuple[str, ...] = ("0_0", "1_0")
) -> Problem:
    spec = ExperimentSpec(name="e", parameters=[X], objective=objective, outcome_constraints=constraints)
    trials = [
        TrialRecord(i, arms[i], {"x": int(arms[i][0]) / 4}, "COMPLETED", origin="attached") for i in range(len(rows))
    ]
    values = [(i, metric, v) for i, row in enumerate(rows) for metric, v in row.items()]
    observations = [Observation(i, m, *(v if isinstance(v, tuple) else (v,))) for i, m, v in values]
    return Problem(ExperimentSnapshot("e", "uid", spec.to_json(), None, 0, tuple(trials), tuple(observations)))


def as_ax_alone(problem: Problem) -> Rebuilt:
    """Return the experiment with Ax's own reading of objective and constraints, without combined metrics."""
    rebuilt = rebuild(problem.snapshot, as_observed=True)
    rebuilt.client.configure_optimization(problem.spec.objective, list(problem.spec.outcome_constraints) or None)
    return rebuilt


def test_ax_judges_a_constraint_on_several_metrics_by_the_first() -> None:
    rows = [{"a": 9.0, "cpu": 60.0, "gpu": 90.0}, {"a": 1.0, "cpu": 60.0, "gpu": 30.0}]
    problem = fixed("a", "cpu + gpu <= 100", rows=rows)
    assert (problem.ranked.best, best_of_ax(as_ax_alone(problem))) == (1, 0)
    # With the sum as a metric of its own (``optimizer.combined``) Ax judges right.
    assert best_of_ax(rebuild(problem.snapshot, as_observed=True)) == 1


def test_ax_takes_a_sum_among_several_objectives_apart() -> None:
    rows = [{"a": 1.0, "b": 1.0, "c": 0.0}, {"a": 5.0, "b": 0.0, "c": 0.0}]
    problem = fixed("a + b, c", rows=rows)
    assert (problem.ranked.frontier, frontier_of_ax(as_ax_alone(problem))) == ((1,), (0, 1))
    assert frontier_of_ax(rebuild(problem.snapshot, as_observed=True)) == (1,)


def test_ax_finds_no_frontier_when_one_of_two_objectives_has_a_bound() -> None:
    problem = fixed("a, b", "a >= 0", rows=[{"a": 1.0, "b": 1.0}, {"a": -1.0, "b": 5.0}])
    assert (problem.ranked.frontier, frontier_of_ax(rebuild(problem.snapshot, as_observed=True))) == ((0,), ())


def test_the_frontier_of_ax_ignores_standard_errors() -> None:
    problem = fixed("a, b", "c <= 0", rows=[{"a": 1.0, "b": 1.0, "c": (0.1, 1.0)}])
    assert (problem.ranked.frontier, frontier_of_ax(rebuild(problem.snapshot, as_observed=True))) == ((0,), ())
    assert infeasible_of_ax(rebuild(problem.snapshot, as_observed=True)) == set()


def test_the_frontier_of_ax_judges_repeated_trials_one_by_one() -> None:
    rows = [{"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.0, "b": 1.0, "c": -1.0}]
    problem = fixed("a, b", "c <= 0", rows=rows, arms=("1_0", "1_0"))
    assert (problem.ranked.frontier, frontier_of_ax(rebuild(problem.snapshot, as_observed=True))) == ((), (1,))
    assert infeasible_of_ax(rebuild(problem.snapshot, as_observed=True)) == {0, 1}


def test_the_frontier_of_ax_compares_a_bound_with_the_weighted_value() -> None:
    problem = fixed("2*a, -0.5*b", "a >= 1", "b <= 2", rows=[{"a": 0.6, "b": 1.0}, {"a": 3.0, "b": 1.5}])
    assert problem.ranked.frontier == (1,)
    assert (problem.ranked.infeasible, infeasible_of_ax(rebuild(problem.snapshot, as_observed=True))) == ((0,), {0})
    weighted = fixed("2*a, -0.5*b", "a >= -1", "b <= -1", rows=[{"a": -0.9, "b": -1.1}, {"a": -3.0, "b": 5.0}])
    assert (weighted.ranked.frontier, frontier_of_ax(rebuild(weighted.snapshot, as_observed=True))) == ((0,), ())
