"""What stands for the processes of Airflow in a cell of the matrix: their death, and their pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class WorkerDiedError(BaseException):
    """The process that waits is killed with SIGKILL: no handler of it runs."""


class TaskEndedError(Exception):
    """Airflow has ended the deferred task: nothing of it runs any more."""


class Clock:
    """The module ``time`` for the modules that wait: a pause is the cell's turn."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause

    def sleep(self, seconds: float) -> None:
        self._pause()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
