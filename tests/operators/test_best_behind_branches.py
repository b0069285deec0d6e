"""``AxBestTrialOperator`` behind a loop that a branch has not chosen, and behind one that Ax had finished."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task_group
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_axtx.core.experiment_name import fitted_name
from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial
from airflow_provider_axtx.operators.ax import AxBestTrialOperator, AxCreateExperimentOperator, AxOptimizeOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import BOOTH, FakeTaskInstance

LONG = "r" * 200
OPTIMIZE: dict[str, Any] = {"component": "utils.booth", "max_trials": 1}


@dataclass
class Instance(FakeTaskInstance):
    """A task instance that answers for the states and the XComs of the others, as Airflow does."""

    states: dict[str, str | None] = field(default_factory=dict)
    xcoms: dict[tuple[str, int | None], Any] = field(default_factory=dict)

    def get_task_states(self, *, task_ids: list[str], map_index: int | None, **_: Any) -> dict[str, dict[str, Any]]:
        assert map_index is None
        known = {name: state for name, state in self.states.items() if name.rstrip("_0123456789") in task_ids}
        return {self.run_id: known} if known else {}

    def xcom_pull(self, *, task_ids: str, map_indexes: int | None = None) -> Any:
        return self.xcoms.get((task_ids, map_indexes))


@pytest.fixture(autouse=True)
def earlier(store: ExperimentStore) -> None:
    """Experiments with a result of an earlier DAG run."""
    for name in ("booth", fitted_name(LONG)):
        store.create(name, {**BOOTH, "name": name})
        proposal = Proposal((ProposedTrial("0_0", {"x1": 1.0, "x2": 2.0}, "Sobol", {}),), {"node": "Sobol", "runs": []})
        store.add_trials(name, proposal, task_key="earlier", first_slot=0, expected_version=0)
        store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "booth_eval", 1.0)])


def is_run(best: Any, states: dict[str, Any], xcoms: Any = None, map_index: int = -1) -> bool:
    """Return whether the task returns the best trial; else it must skip itself."""
    ti = Instance(best.task_id, map_index=map_index, states=states, xcoms=xcoms or {})
    try:
        return bool(best.execute({"ti": ti})["parameters"] == {"x1": 1.0, "x2": 2.0})
    except AirflowSkipException as skipped:
        assert "What creates the experiment was skipped: " in str(skipped)
        return False


def behind_loop(**given: Any) -> Any:
    with DAG("dag", schedule=None):
        branch = EmptyOperator(task_id="branch")
        loop = ax_trial_loop("tune", BOOTH, "utils.booth", rounds=2)
        best = AxBestTrialOperator(task_id="best", experiment_name="booth", **given)
        branch >> loop >> best
    return best


ROUNDS = {"tune.generate_0": "success", "tune.round_0.run_0": "success", "tune.generate_1": "success"}


@pytest.mark.parametrize(
    ("states", "runs"),
    [
        ({"tune.create": "skipped", "tune.generate_0": "skipped", "tune.round_1.run": "skipped"}, False),
        ({"tune.create": "success", **ROUNDS, "tune.round_1.run_0": "success"}, True),
        ({"tune.create": "success", **ROUNDS, "tune.round_1.run": "skipped"}, True),
        ({"tune.create": "success", **ROUNDS, "tune.round_0.run": "skipped", "tune.round_1.run": "skipped"}, True),
    ],
    ids=["not chosen", "all rounds", "finished in a round", "finished before"],
)
def test_it_is_skipped_with_the_whole_loop_and_not_with_its_rounds(states: dict[str, Any], runs: bool) -> None:
    assert is_run(behind_loop(), states) is runs


def test_it_is_skipped_before_it_reads_the_name_that_a_skipped_task_did_not_return() -> None:
    best = behind_loop()
    best.experiment_name = None
    assert not is_run(best, {"tune.create": "skipped"})


@pytest.mark.parametrize(("joined", "runs"), [("success", True), ("skipped", False)])
def test_a_task_that_follows_other_work_runs_although_an_experiment_was_not_created(joined: str, runs: bool) -> None:
    """Such as a join behind a branch, or a loop of single tasks whose experiment exists already."""
    with DAG("dag", schedule=None):
        create = AxCreateExperimentOperator(task_id="create", experiment=BOOTH)
        join = EmptyOperator(task_id="join", trigger_rule="none_failed")
        best = AxBestTrialOperator(task_id="best", experiment_name="booth")
        create >> join >> best
    assert is_run(best, {"create": "skipped", "join": joined}) == runs


def test_another_trigger_rule_decides_alone() -> None:
    assert is_run(behind_loop(trigger_rule="all_done"), {"tune.create": "skipped"})


def test_without_tasks_that_create_an_experiment_airflow_is_not_asked() -> None:
    with DAG("dag", schedule=None):
        best = AxBestTrialOperator(task_id="best", experiment_name="booth")
        EmptyOperator(task_id="before") >> best
    assert best.execute({"ti": FakeTaskInstance("best")})["trial_index"] == 0
    alone = AxBestTrialOperator(task_id="alone", experiment_name="booth")
    assert alone.execute({"ti": FakeTaskInstance("alone")})["trial_index"] == 0


@pytest.mark.parametrize(
    ("name", "returned", "runs"),
    [
        ("booth", "booth", True),
        ("booth", "other", False),
        ("booth", None, False),
        (LONG, fitted_name(LONG), True),
        ("booth", ["other", "booth"], True),
        ("booth", {"experiment": "booth", "best": None}, True),
    ],
)
def test_a_loop_that_was_not_chosen_after_a_task_with_the_same_experiment_does_not_matter(
    name: str, returned: Any, runs: bool
) -> None:
    with DAG("dag", schedule=None):
        first = AxCreateExperimentOperator(task_id="first", experiment=BOOTH)
        loop = ax_trial_loop("tune", BOOTH, "utils.booth", rounds=1)
        best = AxBestTrialOperator(task_id="best", experiment_name="{{ params.name }}")
        first >> loop >> best
    best.experiment_name = name
    states = {"first": "success", "tune.create": "skipped"}
    assert is_run(best, states, {("first", None): returned}) is runs


@pytest.mark.parametrize(
    ("states", "runs"),
    [
        ({"optimize": "skipped"}, False),
        ({"optimize_0": "skipped", "optimize_1": "skipped"}, False),
        ({"optimize_0": "skipped", "optimize_1": "success"}, True),
    ],
)
def test_mapped_tasks_are_skipped_as_a_whole(states: dict[str, Any], runs: bool) -> None:
    with DAG("dag", schedule=None):
        optimize = AxOptimizeOperator.partial(task_id="optimize", **OPTIMIZE).expand(experiment=[BOOTH, BOOTH])
        best = AxBestTrialOperator(task_id="best", experiment_name="booth")
        optimize >> best
    assert is_run(best, states, {("optimize", None): [{"experiment": "booth"}]}) is runs


@pytest.mark.parametrize(("map_index", "runs"), [(0, False), (1, True), (2, True)])
def test_in_a_mapped_group_its_own_instance_counts(map_index: int, runs: bool) -> None:
    with DAG("dag", schedule=None) as dag:
        again = AxOptimizeOperator(task_id="again", experiment=BOOTH, **OPTIMIZE)

        @task_group
        def tune(part: int) -> None:
            optimize = AxOptimizeOperator(task_id="optimize", experiment=BOOTH, **OPTIMIZE)
            optimize >> AxBestTrialOperator(task_id="best", experiment_name="booth")

        again >> tune.expand(part=[0, 1, 2])
    states = {
        "again": "success",
        "tune.optimize_0": "skipped",
        "tune.optimize_1": "success",
        "tune.optimize_2": "skipped",
    }
    xcoms = {("again", None): {"experiment": "booth" if map_index == 2 else "other"}}
    assert is_run(dag.get_task("tune.best"), states, xcoms, map_index) is runs
