"""An error that comes out of Ax while apps run: Airflow tries the task again, and its last try ends the apps."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from ax.api.client import Client
from ax.exceptions.core import UserInputError
from linear_operator.utils.errors import NotPSDError
from numpy.linalg import LinAlgError

from airflow_provider_axtx.operators.ax import (
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.operators.conftest import BOOTH, Execute, app_state

NUMERICAL = [RuntimeError("CUDA error"), LinAlgError("Singular matrix"), NotPSDError("Matrix not positive definite")]
SLEEP = "import time; time.sleep(600)"


def fail_after(trials: int, monkeypatch: pytest.MonkeyPatch, store: ExperimentStore, error: Exception) -> None:
    """Let Ax raise the error once the experiment has so many trials."""
    get_next_trials = Client.get_next_trials

    def propose(self: Client, **arguments: Any) -> Any:
        if store.summaries() and len(store.trials("booth")) >= trials:
            raise error
        return get_next_trials(self, **arguments)

    monkeypatch.setattr(Client, "get_next_trials", propose)


def optimize(component: str) -> AxOptimizeOperator:
    return AxOptimizeOperator(
        task_id="optimize",
        experiment=BOOTH,
        component=component,
        max_trials=3,
        parallelism=2,
        propose_ahead=1,
        poll_interval=0.05,
        scheduler_args={"term_grace": 1},
    )


@pytest.mark.parametrize("error", NUMERICAL, ids=lambda error: type(error).__name__)
def test_a_generating_task_is_tried_again(
    execute: Execute, monkeypatch: pytest.MonkeyPatch, store: ExperimentStore, error: Exception
) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    execute(AxGenerateTrialOperator(task_id="first", experiment_name="booth"))
    fail_after(1, monkeypatch, store, error)
    with pytest.raises(type(error)) as caught:
        execute(AxGenerateTrialOperator(task_id="second", experiment_name="booth"), max_tries=1)
    assert not isinstance(caught.value, AirflowFailException)


@pytest.mark.parametrize("error", NUMERICAL, ids=lambda error: type(error).__name__)
def test_the_live_apps_go_on_with_the_next_try_and_end_with_the_last(
    execute: Execute, components: Any, monkeypatch: pytest.MonkeyPatch, store: ExperimentStore, error: Exception
) -> None:
    component = components(SLEEP)
    fail_after(2, monkeypatch, store, error)
    with pytest.raises(type(error)):
        execute(optimize(component), max_tries=1)
    handles = [str(attempt.app_handle) for attempt in store.attempts("booth")]
    assert len(handles) == 2
    assert {app_state(handle) for handle in handles} <= {"PENDING", "RUNNING"}
    with pytest.raises(type(error)):
        execute(optimize(component), try_number=2, max_tries=1)
    assert {app_state(handle) for handle in handles} == {"CANCELLED"}
    assert [trial.status for trial in store.trials("booth")] == ["ABANDONED"] * 2


def test_what_a_user_has_to_change_ends_the_task_and_its_apps_at_once(
    execute: Execute, components: Any, monkeypatch: pytest.MonkeyPatch, store: ExperimentStore
) -> None:
    fail_after(2, monkeypatch, store, UserInputError("the bounds"))
    with pytest.raises(AirflowFailException, match="the bounds"):
        execute(optimize(components(SLEEP)), max_tries=5)
    assert [trial.status for trial in store.trials("booth")] == ["ABANDONED"] * 2
