"""A stand-in for the channel between a task and Airflow's API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.comms import (
    ConnectionResult,
    ErrorResponse,
    GetConnection,
    GetVariable,
    OKResponse,
    PutVariable,
    VariableResult,
)

#: Airflow 3.2 cannot list the keys of Variables.
GetVariableKeys = getattr(comms, "GetVariableKeys", GetVariable)


class FakeChannel:
    """Answers requests for Variables and connections as the API server does."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.connections: dict[str, ConnectionResult] = {}
        self.written: list[str] = []
        self.requests = 0
        self.after_write: Callable[[], None] = lambda: None
        self.failing: set[type] = set()
        self.error = ErrorType.API_SERVER_ERROR

    def send(self, message: Any) -> Any:
        self.requests += 1
        if type(message) in self.failing:
            return self._fail(message)
        if isinstance(message, PutVariable):
            self.variables[message.key] = str(message.value)
            self.written.append(str(message.value))
            self.after_write()
            return OKResponse(ok=True)
        if isinstance(message, GetVariable):
            if message.key not in self.variables:
                return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
            return VariableResult(key=message.key, value=self.variables[message.key])
        if isinstance(message, GetVariableKeys):
            keys = [key for key in self.variables if key.startswith(message.prefix or "")]
            return comms.VariableKeysResult(keys=keys, total_entries=len(keys))
        if isinstance(message, GetConnection):
            return self.connections.get(message.conn_id, ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND))
        return None

    async def asend(self, message: Any) -> Any:
        return self.send(message)

    def _fail(self, message: Any) -> Any:
        response = ErrorResponse(error=self.error, detail={"message": "the API server is away"})
        if isinstance(message, PutVariable):
            raise AirflowRuntimeError(response)
        return response


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> FakeChannel:
    """Make this process a task."""
    channel = FakeChannel()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", channel, raising=False)
    return channel
