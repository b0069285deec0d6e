"""Operators outside a scheduler: a task instance as they see it, and real components on the real local scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.store.experiments import ExperimentStore

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
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


Execute = Callable[..., Any]


@pytest.fixture
def execute() -> Execute:
    """Execute an operator as the given try of a task."""

    def run(operator: Any, **identity: Any) -> Any:
        context = {"ti": FakeTaskInstance(operator.task_id, **identity)}
        operator.render_template_fields(context)
        with set_current_context(context):
            return operator.execute(context)

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
