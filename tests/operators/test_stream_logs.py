"""The output of a real app in the log of a task that is deferred: each line once, while the app runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxGenerateTrialOperator
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import following
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger
from tests.operators.conftest import BOOTH, Execute

#: Writes some lines, waits for the file "gate" in its tracker, writes the rest.
APP = (
    "import sys, pathlib, time; a = dict(v.split('=', 1) for v in sys.argv[1:]);"
    "p = pathlib.Path(a['tracker_base']); p.mkdir(parents=True, exist_ok=True);"
    "[print('line', i, flush=True) for i in range(5)];\n"
    "while not (p / 'gate').exists(): time.sleep(0.02)\n"
    "[print('line', i) for i in range(5, 8)]; sys.exit(3)"
)
LINES = [f"app/0: line {i}" for i in range(8)]


class Heard(logging.Handler):
    """What is logged; an event is set when a line has come."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.awaited: dict[str, asyncio.Event] = {}

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if "line" in line:
            self.lines.append(line)
        if line in self.awaited:
            self.awaited[line].set()

    async def until(self, line: str) -> None:
        self.awaited[line] = asyncio.Event()
        if line not in self.lines:
            await asyncio.wait_for(self.awaited[line].wait(), 120)


@pytest.fixture
def heard(request: pytest.FixtureRequest) -> Heard:
    """Hears what the trigger and the sensor write to the task's log."""
    handler = Heard()
    package = logging.getLogger("airflow_provider_axtx.triggers")
    package.addHandler(handler)
    request.addfinalizer(lambda: package.removeHandler(handler))
    level = package.level
    package.setLevel(logging.INFO)
    request.addfinalizer(lambda: package.setLevel(level))
    return handler


@pytest.fixture
def run(execute: Execute, components: Callable[[str, str], str]) -> dict[str, Any]:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    trial = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="booth"))
    return execute(TorchXSubmitTrialOperator(task_id="submit", trial=trial, component=components(APP)))


def deferred(sensor: TorchXTrialSensor, store: ExperimentStore) -> dict[str, Any]:
    """Return the arguments with which the triggerer makes the sensor's trigger."""
    arguments: dict[str, Any] = sensor.trigger(store.attempt("booth", 0, 1), sensor._trial()).serialize()[1]
    return arguments


def open_gate(run: dict[str, Any]) -> None:
    """Let the app go on."""
    tracker = Path(run["tracker_base"])
    tracker.mkdir(parents=True, exist_ok=True)
    (tracker / "gate").touch()


async def fired(trigger: TorchXTrialTrigger) -> dict[str, Any]:
    (event,) = [event.payload async for event in trigger.run()]
    return event


def sensor_of(
    run: dict[str, Any], heard: Heard, monkeypatch: pytest.MonkeyPatch, **arguments: Any
) -> TorchXTrialSensor:
    sensor = TorchXTrialSensor(task_id="wait", run=run, poke_interval=0.05, deferrable=True, **arguments)

    def hear(text: str, *values: Any) -> None:
        heard.lines += [text % values] * ("line" in text % values)

    monkeypatch.setattr(sensor.log, "info", hear)
    return sensor


async def test_each_line_is_shown_once_and_the_first_ones_while_the_app_runs(
    run: dict[str, Any], resume: Execute, store: ExperimentStore, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_LINES", 2)  # so that it comes in pieces
    sensor = sensor_of(run, heard, monkeypatch, stream_logs=True)
    waiting = asyncio.create_task(fired(TorchXTrialTrigger(**deferred(sensor, store))))
    await heard.until("app/0: line 4")
    open_gate(run)
    event = await waiting
    assert event["status"] == "observed"
    assert resume(sensor, event)["trial_status"] == "FAILED"
    assert heard.lines == LINES


async def test_a_restarted_triggerer_begins_again_and_loses_nothing(
    run: dict[str, Any], resume: Execute, store: ExperimentStore, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = sensor_of(run, heard, monkeypatch, stream_logs=True)
    arguments = deferred(sensor, store)
    killed = asyncio.create_task(fired(TorchXTrialTrigger(**arguments)))
    await heard.until("app/0: line 4")
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    heard.lines.clear()  # another file: Airflow shows both
    open_gate(run)
    resume(sensor, await fired(TorchXTrialTrigger(**arguments)))
    assert heard.lines == LINES


async def test_output_that_cannot_be_followed_does_not_end_the_wait(
    run: dict[str, Any], resume: Execute, store: ExperimentStore, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: following.Following) -> Any:
        raise OSError("line is broken")

    monkeypatch.setattr(following.Following, "_poll", broken)
    sensor = sensor_of(run, heard, monkeypatch, stream_logs=True)
    waiting = asyncio.create_task(fired(TorchXTrialTrigger(**deferred(sensor, store))))
    await heard.until(f"The output of {run['app_handle']} cannot be followed: line is broken")
    open_gate(run)
    assert resume(sensor, await waiting)["trial_status"] == "FAILED"
    assert heard.lines[1:] == LINES  # at the end, as a whole


async def test_nothing_is_read_when_it_is_off(
    run: dict[str, Any], store: ExperimentStore, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following.Following, "__init__", None)
    open_gate(run)
    event = await fired(TorchXTrialTrigger(**deferred(sensor_of(run, heard, monkeypatch), store)))
    assert (event["status"], "log_given" in event, heard.lines) == ("observed", False, [])
