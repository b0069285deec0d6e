"""Runs one step of a trial in a new interpreter, as its Airflow task does.

``python -m benchmarks.paths STEP HANDOVER [warm]`` prints, as JSON, the seconds of the step, its parts, and the
imported modules. With ``warm`` it first imports the modules that warm workers preload.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_axtx import preload
from benchmarks.parts import Parts

#: Libraries that only a task with Ax may load.
HEAVY = ("ax", "botorch", "gpytorch", "pandas", "scipy", "torch", "alembic")
STEPS = ("create", "generate", "submit", "wait", "complete")


class TaskInstance:
    """The part of a task instance that the operators use."""

    dag_id, run_id, map_index, try_number, max_tries = "dag", "run", -1, 1, 0

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id

    def xcom_push(self, key: str, value: Any) -> None:
        """Accept a value."""


def _operator(step: str, before: Any, task_id: str) -> Any:
    """Return the operator of a step. The import of its module belongs to parsing, not to the step."""
    from airflow_provider_axtx.operators import ax, torchx
    from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
    from benchmarks.booth import EXPERIMENT

    made: dict[str, Callable[[], Any]] = {
        "create": lambda: ax.AxCreateExperimentOperator(task_id=task_id, experiment=EXPERIMENT),
        "generate": lambda: ax.AxGenerateTrialOperator(task_id=task_id, experiment_name=before),
        "submit": lambda: torchx.TorchXSubmitTrialOperator(task_id=task_id, trial=before, component="utils.booth"),
        "wait": lambda: TorchXTrialSensor(task_id=task_id, run=before, poke_interval=0.05),
        "complete": lambda: ax.AxCompleteTrialOperator(task_id=task_id, run=before),
    }
    return made[step]()


def _execute(step: str, before: Any, task_id: str) -> tuple[Any, float]:
    operator = _operator(step, before, task_id)
    started = time.perf_counter()
    answer = operator.execute({"ti": TaskInstance(task_id)})
    return answer, time.perf_counter() - started


def main(step: str, handover: Path, *, warm: bool) -> None:
    """Run one step with the XCom that the previous step wrote to the file ``handover``."""
    before = json.loads(handover.read_text()) if handover.exists() else None
    _operator(step, before, "unused")
    parts = {}
    if warm:
        for module in preload.MODULES:
            importlib.import_module(module)
        parts = Parts().seconds
    modules = set(sys.modules)
    answer, seconds = _execute(step, before, step)
    new = set(sys.modules) - modules
    heavy = [name for name in HEAVY if name in sys.modules]
    handover.write_text(json.dumps(answer))
    print(json.dumps({"seconds": seconds, "parts": parts, "modules": len(new), "heavy": heavy}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), warm="warm" in sys.argv[3:])
