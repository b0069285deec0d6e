"""Measures how long a task spends in the store, in Ax, in TorchX and in sleeping."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any


class Parts:
    """Adds up the seconds of the calls into each part; for nested calls only the outer one counts."""

    def __init__(self) -> None:
        from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
        from airflow_provider_axtx.optimizer import engine as optimizer
        from airflow_provider_axtx.store._database import Database

        self._inside = False
        self.seconds = {"store": 0.0, "Ax": 0.0, "TorchX": 0.0, "waiting": 0.0}
        doors: dict[str, list[tuple[Any, tuple[str, ...]]]] = {
            "store": [(Database, ("__init__", "read", "write"))],
            "Ax": [(optimizer, ("propose", "validate"))],
            "TorchX": [(TorchXLauncher, ("__init__", "check", "plan", "submit", "find", "observe"))],
            "waiting": [(time, ("sleep",))],
        }
        for part, places in doors.items():
            for owner, names in places:
                for name in names:
                    setattr(owner, name, self._timed(part, getattr(owner, name)))

    def _timed(self, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def door(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return work(*arguments, **options)
            self._inside, started = True, time.perf_counter()
            try:
                return work(*arguments, **options)
            finally:
                self.seconds[part] += time.perf_counter() - started
                self._inside = False

        return door
