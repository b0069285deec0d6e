"""When the notifier sends, with trials in a real store."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import Observation, TaskIdentity
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.notifications.new_best import NewBestTrialNotifier
from airflow_provider_axtx.operators.ax import AxCompleteTrialOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import add


class Task:
    """A task instance whose XCom holds what its operator has returned."""

    dag_id, run_id, task_id, map_index = "dag", "run", "complete", 2

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def xcom_pull(self, *, task_ids: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.returned


class Recorder(BaseNotifier):
    """Another notifier, with a templated argument of its own."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.sent: list[str] = []

    def notify(self, context: Any) -> None:
        self.sent.append(self.text)


@pytest.fixture
def store() -> ExperimentStore:
    return AxHook().store


def experiment(store: ExperimentStore, outcomes: list[dict[str, float] | None], **spec: Any) -> None:
    """Put an experiment ``e`` into the store; an outcome of None is a failed trial."""
    definition = {
        "name": "e",
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 99.0]}],
        "objective": "-loss",
    }
    store.create("e", {**definition, **spec})
    add(store, "e", len(outcomes))
    for index, means in enumerate(outcomes):
        seen = [Observation(index, name, mean) for name, mean in (means or {}).items()]
        store.complete("e", index, status="COMPLETED" if means else "FAILED", observations=seen)


def notify_of(returned: Any, notifier: NewBestTrialNotifier) -> None:
    notifier({"ti": Task(returned), "task": AxCompleteTrialOperator(task_id="complete", run={})})


def sent(returned: Any, **arguments: Any) -> list[dict[str, Any]]:
    """Return ``new_best`` of each call of a callback."""
    calls: list[dict[str, Any]] = []
    notify_of(returned, NewBestTrialNotifier(lambda context: calls.append(context["new_best"]), **arguments))
    return calls


def of_trial(index: int) -> dict[str, Any]:
    """Return those keys of the complete task's result that the notifier reads."""
    return {"experiment": "e", "trial_index": index}


def test_only_the_best_trial_so_far_is_reported(store: ExperimentStore) -> None:
    experiment(store, [{"loss": 2.0}, {"loss": 1.5}, {"loss": 3.0}, None])
    assert [len(sent(of_trial(index))) for index in range(4)] == [0, 1, 0, 0]
    (best,) = sent(of_trial(1))
    assert best == {
        "experiment": "e",
        "trial_index": 1,
        "arm_name": "1_0",
        "parameters": {"x": 1 / 7, "kind": "a"},
        "metrics": {"loss": 1.5},
        "value": 1.5,
        "message": f"New best trial of e: trial 1 with {{'loss': 1.5}} at {{'x': {1 / 7}, 'kind': 'a'}}",
    }


def test_a_tie_is_not_reported(store: ExperimentStore) -> None:
    experiment(store, [{"loss": 1.0}, {"loss": 1.0}])
    assert sent(of_trial(1)) == []


def test_a_trial_outside_the_outcome_constraints_is_not_reported(store: ExperimentStore) -> None:
    outcomes: list[dict[str, float] | None] = [{"acc": 0.8, "latency": 10.0}, {"acc": 0.9, "latency": 60.0}]
    experiment(store, outcomes, objective="acc", outcome_constraints=["latency <= 50"])
    assert (len(sent(of_trial(0))), sent(of_trial(1))) == (1, [])


def test_with_several_objectives_the_frontier_is_reported(store: ExperimentStore) -> None:
    outcomes: list[dict[str, float] | None] = [
        {"acc": 0.8, "latency": 10.0},
        {"acc": 0.9, "latency": 60.0},
        {"acc": 0.7, "latency": 20.0},
    ]
    experiment(store, outcomes, objective="acc, -latency")
    assert [len(sent(of_trial(index))) for index in range(3)] == [1, 1, 0]
    assert sent(of_trial(1))[0]["value"] == {"acc": 0.9, "latency": 60.0}


@pytest.mark.parametrize(("ran", "reports"), [(0, 1), (1, 0)])
def test_a_task_that_optimizes_reports_a_best_trial_that_it_ran_itself(
    store: ExperimentStore, ran: int, reports: int
) -> None:
    experiment(store, [])
    add(store, "e", 2)
    for index, loss in enumerate([1.0, 2.0]):
        identity = TaskIdentity("dag", "run" if index == ran else "the night before", "complete")
        store.begin_attempt("e", index, scheduler="local_detached", identity=identity, tracker_root="/results")
        store.complete("e", index, status="COMPLETED", observations=[Observation(index, "loss", loss)])
    assert len(sent({"experiment": "e", "best": {"trial_index": 0}})) == reports


def test_another_notifier_renders_its_own_arguments(store: ExperimentStore) -> None:
    experiment(store, [{"loss": 2.0}])
    other = Recorder("{{ new_best.message }}!")
    notify_of(
        of_trial(0), NewBestTrialNotifier(other, message="{{ new_best.experiment }}: {{ '%.2f' % new_best.value }}")
    )
    assert other.sent == ["e: 2.00!"]


@pytest.mark.parametrize("returned", [None, [], {"metrics": {}}])
def test_on_a_task_without_a_trial_the_error_names_the_operators(store: ExperimentStore, returned: Any) -> None:
    with pytest.raises(InvalidInputError, match="AxCompleteTrialOperator"):
        sent(returned)


def test_a_value_that_cannot_be_called_is_refused_when_the_dag_is_parsed() -> None:
    with pytest.raises(InvalidInputError, match="notifier or a callable"):
        NewBestTrialNotifier("#channel")  # type: ignore[arg-type]
