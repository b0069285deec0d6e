"""Any Airflow tasks as the trial: what a start, the end of the tasks and a reap mean for the trial, and bad wiring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, task
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.core.xcom import Trial as TrialJson
from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxGenerateTrialsOperator,
    AxStartTrialOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.lifecycle.rig import COMPONENT, SPEC
from tests.operators.conftest import Execute, FakeTaskInstance

NAME = SPEC["name"]
DONE = {"train": "success"}


@dataclass
class Instance(FakeTaskInstance):
    """A task instance that answers for the states of the others."""

    states: dict[str, str | None] = field(default_factory=dict)

    def get_task_states(self, **asked: Any) -> dict[str, dict[str, str | None]]:
        return {self.run_id: self.states}


class Trial:
    """A trial with the tasks start, prepare, train and complete, each run as Airflow would."""

    def __init__(self, store: ExperimentStore) -> None:
        # Without Ax, which takes a second.
        store.create(NAME, ExperimentSpec.load(SPEC).to_json(), if_exists="fail")
        proposal = Proposal(tuple(ProposedTrial(f"{i}_0", {"x": 0.25}, None, {}) for i in (0, 1)), None)
        task = TaskIdentity("dag", "run", "generate")
        added = store.add_trials(
            NAME, proposal, task_key=task.task_key, first_slot=0, expected_version=0, requested_by=task
        )
        self.trial, self.other = (TrialJson(NAME, t.index, t.arm_name, t.parameters).to_json() for t in added)

    def _dag(self, results: Any = None) -> tuple[Any, Any]:
        with DAG("dag", schedule=None):
            start = AxStartTrialOperator(task_id="start", trial=self.trial)
            prepare, train = EmptyOperator(task_id="prepare"), EmptyOperator(task_id="train")
            complete = AxCompleteTrialOperator(task_id="complete", trial=start.output, results=results)
            start >> prepare >> train >> complete
        return start, complete

    def start(self, **identity: Any) -> Any:
        start, _ = self._dag()
        self.started = start.execute({"ti": FakeTaskInstance("start", **identity)})
        return self.started

    def complete(self, states: dict[str, str | None], results: Any = None) -> Any:
        _, complete = self._dag(results)
        complete.trial = self.started
        states = {"start": "success", "prepare": "success", **states}
        return complete.execute({"ti": Instance("complete", states=states)})


@pytest.fixture
def trial(store: ExperimentStore) -> Trial:
    return Trial(store)


def attempts(store: ExperimentStore) -> list[tuple[int, str | None]]:
    return [(attempt.number, attempt.app_state) for attempt in store.attempts(NAME)]


def test_a_started_trial_is_running_and_leads_to_its_first_task(trial: Trial, store: ExperimentStore) -> None:
    start, _ = trial._dag()
    ti = FakeTaskInstance("start")
    started = start.execute({"ti": ti})
    assert ti.pushed["x"] == trial.trial["parameters"]["x"]
    assert (ti.pushed["trial_index"], ti.pushed["tracker_base"]) == (0, started["tracker_base"])
    assert (started["attempt"], started["app_handle"]) == (1, "airflow://dag/prepare")
    assert store.trial(NAME, 0).status == "RUNNING"
    assert trial.start() == started  # a retry
    assert attempts(store) == [(1, None)]


LOG = "/dags/dag/runs/run/tasks"


@pytest.mark.parametrize(
    ("states", "results", "status", "reason"),
    [
        (DONE, {"loss": 0.5}, "COMPLETED", None),
        (DONE, "0.5", "COMPLETED", None),
        (DONE, '{"loss": 0.5}', "COMPLETED", None),
        (DONE, {"other": 0.5}, "FAILED", "loss"),
        (DONE, "well done", "FAILED", "What the body returned: results is not valid JSON"),
        ({"train": "failed"}, None, "FAILED", f"train failed: {LOG}/train"),
        ({"prepare": "failed", "train": "upstream_failed"}, None, "FAILED", f"prepare failed: {LOG}/prepare"),
        ({"prepare": "failed", "train": "success"}, {"loss": 0.5}, "COMPLETED", None),
        ({"train_0": "success", "train_1": "failed"}, None, "FAILED", f"train_1 failed: {LOG}/train/mapped/1"),
        ({"train": "skipped"}, None, "ABANDONED", "skipped: train"),
    ],
)
def test_the_end_of_the_tasks_is_the_end_of_the_trial(
    trial: Trial, store: ExperimentStore, states: dict[str, Any], results: Any, status: str, reason: str | None
) -> None:
    trial.start()
    completed = trial.complete(states, results)
    recorded = store.trial(NAME, 0)
    assert (completed["trial_status"], recorded.status) == (status, status)
    assert recorded.reason is None if reason is None else reason in str(recorded.reason)
    assert [o.mean for o in store.observations(NAME, 0)] == ([0.5] if status == "COMPLETED" else [])
    assert trial.complete(states, results)["trial_status"] == status  # a retry changes nothing
    assert len(attempts(store)) == 1


def test_a_body_without_results_reports_to_the_tracker(trial: Trial, store: ExperimentStore) -> None:
    from torchx.runtime.tracking import FsspecResultTracker

    FsspecResultTracker(trial.start()["tracker_base"])[0] = {"loss": 0.25}
    assert trial.complete(DONE)["metrics"]["loss"]["mean"] == 0.25


@pytest.mark.parametrize("before", [{"train": "failed"}, {"train": "skipped"}])
def test_after_a_clear_of_its_tasks_the_trial_succeeds_in_another_attempt(
    trial: Trial, store: ExperimentStore, before: dict[str, Any]
) -> None:
    trial.start()
    trial.complete(before)
    for _ in range(2):
        assert trial.complete(DONE, {"loss": 0.5})["metrics"]["loss"]["mean"] == 0.5
    assert [number for number, _ in attempts(store)] == [1, 2]
    assert store.trial(NAME, 0).status == "COMPLETED"


def test_corrected_results_repair_a_trial_and_good_ones_stay(trial: Trial, store: ExperimentStore) -> None:
    trial.start()
    assert trial.complete(DONE, {"other": 1.0})["trial_status"] == "FAILED"
    assert trial.complete(DONE, {"loss": 1.0})["trial_status"] == "COMPLETED"
    assert trial.complete(DONE, {"loss": 7.0})["metrics"]["loss"]["mean"] == 1.0
    assert attempts(store) == [(1, "SUCCEEDED")]


def test_a_cleared_start_begins_another_attempt_unless_there_are_results(trial: Trial, store: ExperimentStore) -> None:
    trial.start()
    assert trial.start(try_number=2, max_tries=1)["attempt"] == 2
    trial.complete(DONE, {"loss": 1.0})
    assert attempts(store) == [(1, "CANCELLED"), (2, "SUCCEEDED")]
    with pytest.raises(AirflowSkipException, match="does not run again"):
        trial.start(try_number=3, max_tries=2)


def test_a_reap_settles_what_was_started_and_not_completed(
    trial: Trial, execute: Execute, store: ExperimentStore
) -> None:
    trial.start()
    reaped = execute(TorchXReapTrialsOperator(task_id="reap"))
    assert [one["trial_status"] for one in reaped] == ["ABANDONED"] * 2  # the other was never started
    assert attempts(store) == [(1, "CANCELLED")]
    assert store.open_attempts() == store.open_trials() == []
    assert trial.complete(DONE, {"loss": 1.0})["trial_status"] == "COMPLETED"  # its tasks were cleared


@pytest.mark.parametrize(("states", "status"), [({"train": "failed"}, "ABANDONED"), (DONE, "COMPLETED")])
def test_a_trial_that_a_user_has_stopped(
    trial: Trial, store: ExperimentStore, states: dict[str, Any], status: str
) -> None:
    trial.start()
    store.steer(NAME, NewChange(Action.STOP_TRIAL, "1", "vera", "cli", "too slow", 0))
    assert trial.complete(states, {"loss": 1.0})["trial_status"] == status
    assert store.steering(NAME).open_requests == ()


def test_a_paused_or_stopped_trial_is_not_started(trial: Trial, store: ExperimentStore) -> None:
    store.steer(NAME, NewChange(Action.PAUSE, "1", "vera", "cli"))
    with pytest.raises(AirflowRescheduleException):
        trial.start()
    store.steer(NAME, NewChange(Action.STOP, "2", "vera", "cli"))
    with pytest.raises(AirflowSkipException):
        trial.start()
    trial.started = None
    with pytest.raises(AirflowSkipException, match="start was skipped"):
        trial.complete({"start": "skipped", "prepare": "skipped", "train": "skipped"})
    with pytest.raises(AirflowFailException, match="start has failed"):
        trial.complete({"start": "failed", "prepare": "upstream_failed", "train": "upstream_failed"})
    assert store.trial(NAME, 0).status == "ABANDONED"


def test_tasks_and_components_are_not_mixed_in_one_experiment(trial: Trial, execute: Execute) -> None:
    trial.start()
    submit = TorchXSubmitTrialOperator(
        task_id="submit", trial=trial.other, component=COMPONENT, component_args={"folder": "/"}
    )
    with pytest.raises(AirflowFailException, match="run another app"):
        execute(submit)


def train(trial: Any) -> Any:
    return BashOperator(task_id="train", bash_command=f"echo {trial['x']}")


def loop(body: Callable[[Any], Any] | None = train, **arguments: Any) -> DAG:
    with DAG("looping", schedule=None, default_args={"retries": 7}) as dag:
        ax_trial_loop("tune", experiment=SPEC, body=body, rounds=2, **arguments)
    dag.validate()
    return dag


def test_a_loop_wires_its_body_between_start_and_complete() -> None:
    dag = loop(default_args={"retries": 3})
    names = [f"tune.round_{n}.{name}" for n in (0, 1) for name in ("start", "body.train", "complete")]
    assert set(dag.task_ids) == {"tune.create", "tune.reap", "tune.generate_0", "tune.generate_1", *names}
    complete = dag.get_task("tune.round_0.complete")
    assert complete.upstream_task_ids == {"tune.round_0.start", "tune.round_0.body.train"}
    assert complete.body_task_ids() == {"tune.round_0.body.train"}
    assert dag.get_task("tune.round_0.body.train").bash_command == (
        "echo {{ task_instance.xcom_pull(task_ids='tune.round_0.start', dag_id='looping', key='x', "
        "map_indexes=task_instance.map_index) }}"
    )
    with DAG("unmapped", schedule=None):
        start = AxStartTrialOperator(task_id="start", trial="{{ params.trial }}")
    assert str(start.output["x"]) == ("{{ task_instance.xcom_pull(task_ids='start', dag_id='unmapped', key='x') }}")
    assert dag.get_task("tune.generate_1").upstream_task_ids == {"tune.round_0.complete"}
    assert "tune.round_1.complete" in dag.get_task("tune.reap").upstream_task_ids


@pytest.mark.parametrize(
    ("dag_args", "given", "retries"), [({}, None, 0), ({"retries": 7}, None, 7), ({"retries": 7}, {"retries": 3}, 3)]
)
def test_the_retries_of_a_body_are_its_author_s(dag_args: Any, given: Any, retries: int) -> None:
    with DAG("looping", schedule=None, default_args=dag_args) as dag:
        ax_trial_loop("tune", experiment=SPEC, body=train, default_args=given)
    assert dag.get_task("tune.round_0.body.train").retries == retries


@pytest.mark.parametrize(("given", "expected"), [(None, (5, "gpu")), ({"retries": 3}, (3, "gpu"))])
def test_the_groups_around_a_loop_give_its_body_their_default_args(given: Any, expected: tuple[int, str]) -> None:
    of_dag, outer = {"retries": 7, "queue": "of_dag"}, {"retries": 5, "queue": "gpu"}
    with DAG("looping", schedule=None, default_args=of_dag) as dag, TaskGroup("outer", default_args=outer):
        ax_trial_loop("tune", experiment=SPEC, body=train, default_args=given)
    found = dag.get_task("outer.tune.round_0.body.train")
    assert (found.retries, found.queue) == expected


@pytest.mark.parametrize(
    ("states", "fails"),
    [
        ({"tune.round_0.body.train_0": "failed", "tune.round_0.complete_0": "success"}, None),
        ({"tune.round_0.body.train_0": "failed", "tune.round_0.complete_0": "skipped"}, "round_0.body.train_0"),
        ({"tune.round_0.body.train_1": "failed", "tune.round_0.complete_0": "success"}, "round_0.body.train_1"),
        ({"tune.round_0.complete_0": "failed"}, "round_0.complete_0"),
    ],
)
def test_a_failed_body_that_is_recorded_does_not_fail_the_dag_run(states: dict[str, Any], fails: str | None) -> None:
    reap = loop().get_task("tune.reap")
    context: Any = {"ti": Instance("tune.reap", states=states)}
    if fails is None:
        assert reap.execute(context) == []
    else:
        with pytest.raises(AirflowFailException, match=fails):
            reap.execute(context)


@task
def measured(trial: Any) -> float:
    return float(trial["parameters"]["x"])


@task
def folds() -> list[int]:
    return [1, 2]


def mapped(trial: Any) -> Any:
    return BashOperator.partial(task_id="fold").expand(bash_command=["true", "true"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"body": None}, "needs either component or body"),
        ({"component": "utils.booth"}, "has a body, and component only"),
        ({"metrics": {"loss": {"regex": "(.)"}}, "fused": True}, "fused, metrics only"),
        ({"body": lambda: None}, "cannot be called with a trial"),
        ({"body": lambda trial: None}, "wires no task"),
        ({"body": lambda trial: train(trial) and "0.5"}, "returns '0.5', which is not the output of its tasks"),
        ({"body": lambda trial: train(trial) and trial}, "not the output of its tasks"),
        ({"body": mapped}, "Airflow maps no task within"),
    ],
)
def test_bad_wiring_shows_when_the_dag_is_parsed(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        loop(**arguments)
    assert said in str(raised.value)


def test_the_tasks_around_a_body_link_to_its_trial(trial: Trial) -> None:
    start, complete = trial._dag()
    complete.trial = trial.start()
    for operator in (start, complete):
        links = {link.name: link.get_link(operator, ti_key=None) for link in operator.operator_extra_links}  # type: ignore[arg-type]
        assert links["Experiment"].endswith("?experiment=loop")
        assert links["Trial"].endswith("?experiment=loop&trial=0")


def test_a_body_is_a_task_function_too() -> None:
    assert loop(measured).get_task("tune.round_1.complete").upstream_task_ids == {
        "tune.round_1.start",
        "tune.round_1.body.measured",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda output: {}, "either run or trial"),
        (lambda output: {"run": {}, "trial": output}, "either run or trial"),
        (lambda output: {"trial": output}, "not the output of AxStartTrialOperator"),
        (lambda output: {"trial": {"trial_index": 0}}, "not the output of AxStartTrialOperator"),
    ],
)
def test_a_completing_task_needs_a_run_or_a_started_trial(given: Callable[[Any], dict[str, Any]], said: str) -> None:
    with DAG("wrong", schedule=None):
        generate = AxGenerateTrialsOperator(task_id="generate", experiment_name=NAME)
        with pytest.raises(InvalidInputError, match=said):
            AxCompleteTrialOperator(task_id="complete", **given(generate.output))
