"""The last lines of an app's output, without ever waiting for more of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from airflow_provider_axtx.core.observation import AppObservation
from airflow_provider_axtx.engine.observers import LogSource
from airflow_provider_axtx.engine.scheduler_registry import described

_MAX_LINE = 2000


def last_lines(
    status: Callable[[], AppObservation],
    sources: Callable[[], list[LogSource]],
    *,
    lines: int,
    deadline_seconds: float,
) -> list[str]:
    """Return the last lines of each replica, each with the replica's name in front.

    Some schedulers' log iterators wait for an app that will never write again, or for ever. So the status is asked
    first, all reading happens in a thread, and what was read by the deadline is returned.

    :param status: looks at the app.
    :param sources: returns the logs of its replicas.
    :param lines: number of lines for each replica.
    :param deadline_seconds: seconds after which reading ends.
    :return: the lines; where there are none, a line in brackets that says why. Never raises for a missing log.
    """
    reader = _Reader(status, sources, lines)
    reader.start()
    reader.join(deadline_seconds)
    late = reader.is_alive()
    reader.stopped.set()
    told = [f"{label}: {line}" for label, tail in list(reader.tails.items()) for line in list(tail)]
    told += [f"[{note}]" for note in list(reader.notes)]
    if late:
        told.append(f"[reading the log was ended after {deadline_seconds:g} s]")
    return told or ["[the log is empty]"]


class _Reader(threading.Thread):
    def __init__(
        self, status: Callable[[], AppObservation], sources: Callable[[], list[LogSource]], lines: int
    ) -> None:
        # A daemon: a reader that hangs must not keep the process alive.
        super().__init__(name="axtx-logs", daemon=True)
        self._status = status
        self._sources = sources
        self._lines = lines
        self.stopped = threading.Event()
        self.tails: dict[str, deque[str]] = {}
        self.notes: list[str] = []

    def run(self) -> None:
        for source in self._open():
            tail = self.tails.setdefault(source.label, deque(maxlen=self._lines))
            try:
                for line in source.read():
                    tail.append(line.rstrip("\r\n")[:_MAX_LINE])
                    if self.stopped.is_set():
                        return
            except Exception as error:  # noqa: BLE001 - a log that cannot be read is told in its place
                self.notes.append(f"no log of {source.label}: {described(error)}")

    def _open(self) -> list[LogSource]:
        try:
            seen = self._status()
            if seen.app_state == "UNKNOWN":
                self.notes.append(f"no log: {seen.message}")
                return []
            sources = self._sources()
        except Exception as error:  # noqa: BLE001 - a log that cannot be read is told in its place
            self.notes.append(f"no log: {described(error)}")
            return []
        if not sources:
            self.notes.append(f"no log: the app is {seen.app_state}, and its scheduler names no replica")
        return sources
