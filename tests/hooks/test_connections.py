"""Connections that need not be defined: a failure of Airflow is not taken for "not defined"."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException, ErrorType
from airflow.sdk.execution_time import supervisor, task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, GetConnection
from airflow.sdk.execution_time.secrets.execution_api import ExecutionAPISecretsBackend
from airflow.secrets import BaseSecretsBackend

from airflow_provider_axtx.core.errors import AirflowUnavailableError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.connections import afind_connection, find_connection
from airflow_provider_axtx.hooks.torchx import TorchXHook
from tests.hooks.conftest import FakeChannel

DEFINED = ConnectionResult(
    conn_id="ax_default",
    conn_type="ax",
    schema="/data/ax.db",
    host=None,
    login=None,
    password=None,
    port=None,
    extra=None,
)


async def test_a_connection_of_airflows_database_is_found(channel: FakeChannel) -> None:
    channel.connections["ax_default"] = DEFINED
    for found in (find_connection("ax_default"), await afind_connection("ax_default")):
        assert found is not None
        assert found.schema == "/data/ax.db"


async def test_a_connection_is_found_in_airflow_dags_test(
    channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.connections["ax_default"] = DEFINED
    monkeypatch.delattr(FakeChannel, "asend")  # as InProcessSupervisorComms
    found = await afind_connection("ax_default")
    assert found is not None
    assert found.schema == "/data/ax.db"
    assert await afind_connection("elsewhere") is None


async def test_a_connection_that_is_not_defined_is_none(channel: FakeChannel) -> None:
    assert find_connection("ax_default") is None
    assert await afind_connection("ax_default") is None


async def test_an_api_server_that_fails_does_not_choose_another_store_or_scheduler(channel: FakeChannel) -> None:
    channel.connections["ax_default"] = DEFINED
    channel.failing = {GetConnection}
    with pytest.raises(AirflowUnavailableError, match="ax_default"):
        AxHook().get_url()
    with pytest.raises(AirflowUnavailableError, match="ax_default"):
        await AxHook().aget_url()
    with pytest.raises(AirflowUnavailableError, match="torchx_default"):
        _ = TorchXHook().settings
    channel.failing = set()
    assert AxHook().get_url() == "sqlite:////data/ax.db"


def test_one_failed_request_is_told_apart_from_a_missing_connection(
    channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel.connections["ax_default"] = DEFINED
    answer, calls = channel.send, []

    def fail_once(message: object) -> object:
        calls.append(message)
        channel.failing = {GetConnection} if len(calls) == 1 else set()
        return answer(message)

    monkeypatch.setattr(channel, "send", fail_once)
    with pytest.raises(AirflowUnavailableError):
        AxHook().get_url()


class Vault(BaseSecretsBackend):
    """A secrets backend with ``ax_default`` and ``torchx_default`` that does not answer, or not at first."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        self.failures -= 1
        if self.failures >= 0:
            raise ConnectionError("the vault is sealed")
        return Connection(conn_id=conn_id, conn_type="ax", schema="/data/vault.db")


@pytest.mark.parametrize(("failures", "said"), [(9, "the vault is sealed"), (1, "an earlier request to Vault failed")])
def test_a_secrets_backend_that_fails_does_not_choose_another_store_or_scheduler(
    channel: FakeChannel, monkeypatch: pytest.MonkeyPatch, failures: int, said: str
) -> None:
    vault = Vault(failures)
    monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", lambda: [vault, ExecutionAPISecretsBackend()])
    for find in (lambda: AxHook().get_url(), lambda: TorchXHook().settings):
        vault.failures = failures
        with pytest.raises(AirflowUnavailableError, match=said):
            find()
    vault.failures = 0
    assert AxHook().get_url() == "sqlite:////data/vault.db"


def test_a_secrets_backend_that_raises_not_found_does_not_have_the_connection(
    channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Strict(BaseSecretsBackend):
        def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
            raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", lambda: [Strict(), ExecutionAPISecretsBackend()])
    assert find_connection("ax_default") is None


def test_the_channel_of_a_task_has_the_name_that_is_used() -> None:
    assert "SUPERVISOR_COMMS" in task_runner.__annotations__


def test_a_task_without_the_right_to_read_it_gets_no_default(channel: FakeChannel) -> None:
    channel.failing, channel.error = {GetConnection}, ErrorType.PERMISSION_DENIED
    with pytest.raises(PermissionError):
        AxHook().get_url()
