"""Operators outside a scheduler: a task instance as they see it, and real components on the real local scheduler."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from airflow.sdk.execution_time.comms import DagRunStateResult
from airflow.sdk.execution_time.context import set_current_context
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers import timing

BOOTH: dict[str, Any] = {
    "name": "booth",
    "parameters": [
        {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
    ],
    "objective": "-booth_eval",
    "generation": {"initialization_budget": 4, "initialization_random_seed": 1, "random_seed": 1},
}


@dataclass
class FakeTaskInstance:
    """What an operator uses of a task instance."""

    task_id: str
    dag_id: str = "dag"
    run_id: str = "run"
    map_index: int | None = -1
    try_number: int = 1
    max_tries: int = 0
    start_date: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: UUID | None = None
    pushed: dict[str, Any] = field(default_factory=dict)

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        # Airflow's own answer: an enum whose str() is not its value.
        return DagRunStateResult(state="running").state

    def get_first_reschedule_date(self, context: Any) -> datetime:
        return self.start_date

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


Execute = Callable[..., Any]


@pytest.fixture
def execute() -> Execute:
    """Execute an operator as the given try of a task."""

    def run(operator: Any, **identity: Any) -> Any:
        context = {"ti": FakeTaskInstance(**{"task_id": operator.task_id, **identity})}
        operator.render_template_fields(context)
        with set_current_context(context):
            return operator.execute(context)

    return run


@pytest.fixture(autouse=True)
def no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let triggers fire at once: there is no scheduler that reads the end of the task's process."""
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "0")
    monkeypatch.setattr(timing, "_MARGIN_SECONDS", 0.0)


class AirflowStates:
    """What Airflow answers about the state of a task instance.

    :ivar state: the state; ``"missing"`` when there is no such task instance.
    :ivar answers: cleared while Airflow does not answer.
    """

    def __init__(self) -> None:
        self.state: str | None = "running"
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def get_task_states(self, dag_id: str, run_ids: list[str], task_ids: list[str], map_index: int | None) -> Any:
        self.answers.wait(30)
        if self.error is not None:
            raise self.error
        name = task_ids[0] if map_index is None else f"{task_ids[0]}_{map_index}"
        return {} if self.state == "missing" else {run_ids[0]: {name: self.state}}


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> AirflowStates:
    """Answer in the place of Airflow's Execution API."""
    states = AirflowStates()
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", states.get_task_states)
    return states


@pytest.fixture
def resume() -> Execute:
    """Go on with an operator after its trigger's event, as the given try of a task."""

    def run(operator: Any, event: Any, **identity: Any) -> Any:
        context = {"ti": FakeTaskInstance(operator.task_id, **identity)}
        with set_current_context(context):
            return operator.execute_complete(context, event)

    return run


@pytest.fixture
def store() -> ExperimentStore:
    return AxHook().store


@pytest.fixture
def components(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a component ``app(x1, x2, trial_idx, tracker_base)`` whose app is the given Python code."""

    def write(code: str, signature: str = "x1: float, x2: float, trial_idx: int, tracker_base: str") -> str:
        path = tmp_path / f"components_{len(list(tmp_path.glob('components_*')))}.py"
        path.write_text(
            "import sys\n"
            "from torchx import specs\n"
            f"CODE = {code!r}\n"
            f"def app({signature}) -> specs.AppDef:\n"
            "    values = dict(locals())\n"
            "    args = ['-c', CODE, *[f'{k}={v}' for k, v in sorted(values.items())]]\n"
            "    role = specs.Role(name='app', image='', entrypoint=sys.executable, args=args,\n"
            "                      resource=specs.Resource(cpu=1, gpu=0, memMB=100))\n"
            "    return specs.AppDef(name='app', roles=[role])\n"
        )
        return f"{path}:app"

    return write


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Poll until the condition gives something true; fail after the deadline."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s")


def app_state(handle: str) -> str:
    """Return the app's state as the scheduler knows it."""
    return TorchXLauncher("local_detached").observe([handle])[handle].app_state
