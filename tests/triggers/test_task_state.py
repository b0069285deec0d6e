"""The question about a task's state as it reaches Airflow."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.triggers.task_state import is_last_try, read_state


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
