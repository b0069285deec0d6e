"""Errors after which Airflow starts no further try end the app, also those that no method of the operator sees."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import jinja2
import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, AirflowTaskTimeout, TaskDeferralError
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxGenerateTrialOperator
from airflow_provider_axtx.operators.torchx import (
    TorchXReapTrialsOperator,
    TorchXRunTrialOperator,
    TorchXSubmitTrialOperator,
)
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import task_state
from tests.operators.conftest import BOOTH, AirflowStates, Execute, FakeTaskInstance, app_state

SLEEP = "import time; time.sleep(600)"
NO_EVENT: dict[str, Any] = {"event": None}
needs_policy = pytest.mark.skipif(
    importlib.util.find_spec("airflow.sdk.definitions.retry_policy") is None,
    reason="Airflow 3.2 has no retry_policy",
)


@pytest.fixture
def submit(execute: Execute, components: Callable[..., str]) -> Any:
    """Submit an app that would run for ten minutes, as the given try of a task."""
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    trial = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))
    operator = TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=components(SLEEP))
    yield functools.partial(execute, operator, max_tries=2)
    execute(TorchXReapTrialsOperator(task_id="reap"))


@pytest.fixture
def run(submit: Execute) -> dict[str, Any]:
    submitted: dict[str, Any] = submit()
    return submitted


def waiting(run: dict[str, Any], **arguments: Any) -> TorchXTrialSensor:
    return TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05, deferrable=True, **arguments)


def resumed(operator: BaseOperator, method: str, given: dict[str, Any], **identity: Any) -> Any:
    """Let a task go on as Airflow's task runner does."""
    context: Any = {"ti": FakeTaskInstance(operator.task_id, **identity)}
    with set_current_context(context):
        return operator.resume_execution(method, given, context)


def has_ended(store: ExperimentStore, run: dict[str, Any]) -> bool:
    [attempt] = store.attempts("booth")
    ended = attempt.finished_at is not None
    assert ended == (store.trial("booth", 0).status == "ABANDONED")
    assert ended == (app_state(run["app_handle"]) == "CANCELLED")
    return ended


def failing_for(error: type[BaseException]) -> Any:
    from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

    return ExceptionRetryPolicy(rules=[RetryRule(exception=error, action=RetryAction.FAIL)])


@needs_policy
@pytest.mark.parametrize(("error", "ended"), [(AirflowException, True), (ZeroDivisionError, False)])
def test_an_error_for_which_the_retry_policy_fails_the_task(
    run: dict[str, Any], store: ExperimentStore, error: type[Exception], ended: bool
) -> None:
    operator = waiting(run, retries=2, retry_policy=failing_for(error))
    with pytest.raises(AirflowException, match="no event that can be used"):
        resumed(operator, "execute_complete", NO_EVENT, max_tries=2)
    assert has_ended(store, run) == ended


@needs_policy
def test_the_retry_policy_is_asked_about_the_error_that_airflow_sees(
    execute: Execute, run: dict[str, Any], store: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(attempt: Any) -> None:
        raise SchedulerUnavailableError("The scheduler is away.", fix="start it")

    operator = TorchXTrialSensor(task_id="wait", run=run, retries=2, retry_policy=failing_for(AirflowException))
    monkeypatch.setattr(operator, "poll", away)
    with pytest.raises(AirflowException, match="The scheduler is away"):
        execute(operator, max_tries=2)
    assert has_ended(store, run)


@needs_policy
def test_a_retry_policy_that_changes_its_mind_is_asked_once(run: dict[str, Any], store: ExperimentStore) -> None:
    from airflow.sdk import RetryDecision, RetryPolicy

    class Fickle(RetryPolicy):
        answers = [RetryDecision.retry(), RetryDecision.fail()]

        def evaluate(self, *, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> Any:
            return self.answers.pop()

    operator = waiting(run, retries=2, retry_policy=Fickle())
    with pytest.raises(AirflowException, match="no event that can be used"):
        resumed(operator, "execute_complete", NO_EVENT, max_tries=2)
    assert has_ended(store, run)
    asked_by_airflow = {"exception": AirflowException(), "try_number": 1, "max_tries": 2, "context": None}
    assert operator.retry_policy.evaluate(**asked_by_airflow) == RetryDecision.fail()


@needs_policy
def test_a_retry_policy_that_fails_itself_changes_nothing(run: dict[str, Any], store: ExperimentStore) -> None:
    class Broken(type(failing_for(OSError))):  # type: ignore[misc]
        def evaluate(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

    operator = waiting(run, retries=2, retry_policy=Broken(rules=[]))
    with pytest.raises(AirflowException, match="no event that can be used"):
        resumed(operator, "execute_complete", NO_EVENT, max_tries=2)
    assert not has_ended(store, run)


@needs_policy
@pytest.mark.parametrize("error", [AirflowTaskTimeout, ZeroDivisionError])
def test_an_execution_timeout_for_which_the_retry_policy_fails_the_task(
    run: dict[str, Any], store: ExperimentStore, airflow: AirflowStates, error: type[BaseException]
) -> None:
    operator = waiting(run, retries=2, retry_policy=failing_for(error))
    event = {"run": run, "status": "execution_timeout"}
    with pytest.raises(AirflowTaskTimeout):
        resumed(operator, "execute_complete", {"event": event}, max_tries=2)
    assert has_ended(store, run) == (error is AirflowTaskTimeout)


@pytest.mark.parametrize(("max_tries", "ended"), [(0, True), (1, False)])
def test_a_trigger_that_could_not_run(run: dict[str, Any], store: ExperimentStore, max_tries: int, ended: bool) -> None:
    given = {"error": "Trigger failure", "traceback": ["ModuleNotFoundError: airflow_provider_axtx"]}
    with pytest.raises(TaskDeferralError):
        resumed(waiting(run), "__fail__", given, max_tries=max_tries)
    assert has_ended(store, run) == ended


@pytest.mark.parametrize(("flags", "ended"), [({}, False), ({"soft_fail": True}, True), ({"never_fail": True}, True)])
def test_a_sensor_that_airflow_skips_after_an_error(
    run: dict[str, Any], store: ExperimentStore, flags: dict[str, bool], ended: bool
) -> None:
    with pytest.raises(AirflowSkipException if flags else AirflowException):
        resumed(waiting(run, retries=2, **flags), "execute_complete", NO_EVENT, max_tries=2)
    assert has_ended(store, run) == ended


@pytest.mark.parametrize(("state", "ended"), [("running", True), ("restarting", False)])
def test_a_sensor_that_airflow_skips_because_it_was_killed(
    run: dict[str, Any],
    store: ExperimentStore,
    airflow: AirflowStates,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    ended: bool,
) -> None:
    """The worker was stopped (Airflow records the skip), or a user has cleared the task (the next try goes on)."""
    monkeypatch.setattr(task_state, "is_current_try", lambda ti_id: True)
    airflow.state = state
    operator = waiting(run, retries=2, soft_fail=True)
    track = operator.track_attempt

    def killed_meanwhile(attempt: Any) -> None:
        operator.on_kill()
        track(attempt)

    monkeypatch.setattr(operator, "track_attempt", killed_meanwhile)
    event = {"run": run, "status": "progress"}
    with pytest.raises(AirflowSkipException):
        resumed(operator, "execute_complete", {"event": event}, max_tries=2, id=UUID(int=1))
    assert has_ended(store, run) == ended


class Gone(jinja2.UndefinedError):
    pass


def gone() -> str:
    raise Gone("Variable reason does not exist")


@pytest.mark.parametrize("map_index", [-1, 0])
@pytest.mark.parametrize(
    ("max_tries", "state", "ended"),
    # A user who looks at rendered templates does not run the task.
    [(0, "running", True), (1, "running", False), (0, "deferred", False)],
)
def test_a_template_that_cannot_be_rendered_any_more(
    submit: Execute,
    store: ExperimentStore,
    airflow: AirflowStates,
    monkeypatch: pytest.MonkeyPatch,
    map_index: int,
    max_tries: int,
    state: str,
    ended: bool,
) -> None:
    monkeypatch.setattr(task_state, "is_current_try", lambda ti_id: True)
    airflow.state = state
    run = submit(map_index=map_index)
    with DAG("dag", user_defined_macros={"gone": gone}) as dag:
        if map_index < 0:
            TorchXRunTrialOperator(
                task_id="submit", trial={}, component="utils.booth", component_args=[["{{ gone() }}"]]
            )
        else:
            partial = TorchXRunTrialOperator.partial(task_id="submit", component="utils.booth", trial={})
            partial.expand(component_args=[[["{{ gone() }}"]]])
    ti = FakeTaskInstance("submit", max_tries=max_tries, map_index=map_index, id=UUID(int=1))
    context: Any = {"ti": ti, "dag": dag, "gone": gone, "dag_run": SimpleNamespace(conf={})}
    with set_current_context(context), pytest.raises(Gone):
        dag.get_task("submit").render_template_fields(context)
    assert has_ended(store, run) == ended
