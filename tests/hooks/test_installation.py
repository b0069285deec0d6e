"""The identity of a deployment."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetVariable

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.hooks import installation
from airflow_provider_axtx.hooks.installation import VARIABLE, ainstallation_id, installation_id
from tests.hooks.conftest import FakeChannel, GetVariableKeys


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_known", "")
    monkeypatch.setattr(installation, "_PAUSE_SECONDS", 0.0)


def test_outside_airflow_there_is_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS", raising=False)
    assert installation_id() == ""


def test_the_first_task_makes_the_variable_and_later_ones_read_it(
    channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = installation_id()
    assert len(made) == 36
    assert channel.variables == {VARIABLE: made}
    monkeypatch.setattr(installation, "_known", "")
    assert installation_id() == made
    assert channel.written == [made]


def test_a_process_asks_once(channel: FakeChannel) -> None:
    channel.variables[VARIABLE] = "tuebingen"
    assert installation_id() == "tuebingen"
    asked = channel.requests
    assert installation_id() == "tuebingen"
    assert channel.requests == asked


def test_of_two_tasks_that_make_it_at_once_both_use_what_was_written_last(channel: FakeChannel) -> None:
    channel.after_write = lambda: channel.variables.update({VARIABLE: "of the other task"})
    assert installation_id() == "of the other task"


def test_an_api_server_that_fails_gives_no_new_identity(channel: FakeChannel) -> None:
    channel.variables[VARIABLE] = "tuebingen"
    channel.failing = {GetVariable, GetVariableKeys}
    with pytest.raises(AirflowRuntimeError):
        installation_id()
    channel.failing = {GetVariable}
    with pytest.raises((RuntimeError, AirflowRuntimeError)):
        installation_id()
    channel.failing = set()
    assert installation_id() == "tuebingen"
    assert channel.written == []


def test_without_the_right_to_read_it_there_is_no_identity_and_a_warning(
    channel: FakeChannel, caplog: pytest.LogCaptureFixture
) -> None:
    channel.failing, channel.error = {GetVariable}, ErrorType.PERMISSION_DENIED
    assert installation_id() == ""
    assert "[axtx] installation" in caplog.text


def test_the_configured_identity_comes_first(channel: FakeChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AXTX__INSTALLATION", " production ")
    assert installation_id() == "production"
    assert channel.requests == 0


def test_an_identity_that_the_store_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__AXTX__INSTALLATION", "x" * 251)
    with pytest.raises(InvalidInputError, match=r"\[axtx\] installation"):
        installation_id()


async def test_a_trigger_asks_without_blocking_its_event_loop(
    channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "_PAUSE_SECONDS", 0.5)
    asked = asyncio.create_task(ainstallation_id())
    turns = 0
    while not asked.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert asked.result() == channel.variables[VARIABLE]
    assert turns >= 10


def test_airflow_shows_the_option() -> None:
    command = [sys.executable, "-m", "airflow", "config", "list", "--section", "axtx", "--include-descriptions"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    assert "[axtx]" in shown
    assert "installation" in shown
    assert "same in all processes" in " ".join(shown.split())


COMMAND_LINE = """
from airflow.models.variable import Variable
from airflow_provider_axtx.hooks.installation import VARIABLE, installation_id_in_database
assert installation_id_in_database() == "", installation_id_in_database()
Variable.set(VARIABLE, "tuebingen")
assert installation_id_in_database() == "tuebingen", installation_id_in_database()
"""


def test_the_command_line_reads_airflows_database() -> None:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=300)
    subprocess.run([sys.executable, "-c", COMMAND_LINE], check=True, timeout=300)
