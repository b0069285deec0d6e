"""The question about a task's state as it reaches Airflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    InactiveAssetsResult,
    TaskStatesResult,
    ValidateInletsAndOutlets,
)

from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.triggers.task_state import is_last_try, is_over, is_superseded, read_state


class Channel:
    """The channel between a task or a trigger and Airflow."""

    def __init__(self, states: dict[str, Any]) -> None:
        self.states = states
        self.asked: list[GetTaskStates] = []

    def send(self, message: GetTaskStates) -> TaskStatesResult:
        self.asked.append(message)
        return TaskStatesResult(task_states=self.states)


@pytest.mark.parametrize(
    ("map_index", "states", "state"),
    [
        (-1, {"run": {"wait": "deferred"}}, "deferred"),
        (-1, {"run": {"wait": None}}, None),
        (-1, {"run": {}}, "removed"),
        (-1, {}, "removed"),
        (3, {"run": {"wait_3": "failed", "wait_4": "running"}}, "failed"),
        (3, {"run": {"wait": "failed"}}, "removed"),
    ],
)
def test_the_state_is_that_of_the_task_instance(
    monkeypatch: pytest.MonkeyPatch, map_index: int, states: dict[str, Any], state: str | None
) -> None:
    channel = Channel(states)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", channel, raising=False)
    assert read_state(TaskIdentity("dag", "run", "wait", map_index)) == state
    (asked,) = channel.asked
    assert (asked.dag_id, asked.run_ids, asked.task_ids) == ("dag", ["run"], ["wait"])


@pytest.mark.parametrize(
    ("try_number", "max_tries", "last"), [(1, 0, True), (1, 1, False), (2, 1, True), (2, 2, False)]
)
def test_the_last_try_is_the_one_after_all_retries(try_number: int, max_tries: int, last: bool) -> None:
    identity = TaskIdentity("dag", "run", "wait", try_number=try_number, max_tries=max_tries)
    assert is_last_try(identity) is last


class Answers:
    """Airflow, whose task instance is in a state, and which knows one id of it."""

    def __init__(self, state: str, current: UUID, refusal: int = 404) -> None:
        self.state, self.current, self.refusal = state, current, refusal

    def send(self, message: Any) -> Any:
        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={"run": {"wait": self.state}})
        assert isinstance(message, ValidateInletsAndOutlets)
        if message.ti_id == self.current:
            return InactiveAssetsResult(inactive_assets=[])
        detail = {"status_code": self.refusal, "message": "Task Instance not found"}
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


FIRST, SECOND = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("state", "current", "refusal", "over"),
    [
        ("running", FIRST, 404, True),
        ("running", SECOND, 404, False),
        ("running", SECOND, 403, False),
        ("running", SECOND, 500, True),
        ("restarting", SECOND, 404, False),
        ("failed", SECOND, 404, True),
    ],
)
def test_a_running_try_with_another_id_has_followed_the_last_one(
    monkeypatch: pytest.MonkeyPatch, state: str, current: UUID, refusal: int, over: bool
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Answers(state, current, refusal), raising=False)
    last = TaskIdentity("dag", "run", "wait", try_number=1, max_tries=0)
    assert is_over(last, when_running=True, ti_id=FIRST) is over


@pytest.mark.parametrize(("refusal", "over"), [(401, False), (403, False), (404, False), (500, True)])
def test_a_process_that_airflow_refuses_is_not_the_task_any_more(
    monkeypatch: pytest.MonkeyPatch, refusal: int, over: bool
) -> None:
    def refuse(message: Any) -> Any:
        detail = {"status_code": refusal, "message": "Invalid auth token"}
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=refuse), raising=False)
    last = TaskIdentity("dag", "run", "wait", try_number=1, max_tries=0)
    assert is_over(last, when_running=True, ti_id=FIRST) is over
    assert is_superseded(last, FIRST) is not over


@pytest.mark.parametrize(
    ("state", "current", "superseded"),
    [("running", FIRST, False), ("running", SECOND, True), ("queued", SECOND, True), ("failed", SECOND, False)],
)
def test_another_try_goes_on_in_its_place(
    monkeypatch: pytest.MonkeyPatch, state: str, current: UUID, superseded: bool
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Answers(state, current), raising=False)
    last = TaskIdentity("dag", "run", "wait", try_number=1, max_tries=0)
    assert is_superseded(last, FIRST) is superseded
    assert is_superseded(last, None) is False
