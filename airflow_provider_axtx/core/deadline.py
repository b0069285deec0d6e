"""Calls that must not hold their caller without end: a dead file server or host gives no answer at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def in_time(call: Callable[[], _T], seconds: float) -> _T:
    """Call a function in a thread and return its result.

    :param seconds: how long it may take; the thread is then left to itself.
    :raises TimeoutError: it took longer.
    """
    outcome: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
            errors.append(error)

    # A daemon: one that hangs must not keep the process alive.
    thread = threading.Thread(target=run, name="axtx-in-time", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not outcome:
        raise TimeoutError(f"it did not answer within {seconds:g} s")
    return outcome[0]
