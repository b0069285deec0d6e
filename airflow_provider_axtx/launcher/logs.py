"""An app's output: the last lines, or the lines since the last call. No call waits for output to be written."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher.log_sources import LogSource
from airflow_provider_axtx.launcher.scheduler_registry import describe_error

_MAX_LINE = 2000
#: Lines of a replica that a follower returns at once.
MOST_LINES = 2000


def last_lines(
    status: Callable[[], AppObservation],
    sources: Callable[[], list[LogSource]],
    *,
    lines: int,
    deadline_seconds: float,
) -> list[str]:
    """Return the last lines of each replica, each with the replica's name in front.

    The log iterators of some schedulers never end, or wait for an app that does not write any more. The status is
    therefore asked first, the logs are read in a thread, and what was read by the deadline is returned.

    :param status: looks at the app.
    :param sources: returns the logs of its replicas.
    :param lines: number of lines for each replica.
    :param deadline_seconds: seconds after which reading ends.
    :return: the lines; where there are none, a line in brackets that says why. Never raises for a missing log.
    """
    tails: dict[str, deque[str]] = {}

    def take(source: LogSource) -> None:
        tail = tails.setdefault(source.label, deque(maxlen=lines))
        for line in source.tail(lines):
            tail.append(shown(line))
            if reader.stopped.is_set():
                return

    reader = _Reader(status, sources, take)
    reader.start()
    reader.join(deadline_seconds)
    late = reader.is_alive()
    reader.stopped.set()
    found = [f"{label}: {line}" for label, tail in list(tails.items()) for line in list(tail)]
    found += [f"[{note}]" for note in list(reader.notes)]
    if late:
        found.append(f"[reading the log was ended after {deadline_seconds:g} s]")
    return found or ["[the log is empty]"]


class LogFollower:
    """Returns what an app has written since the last call, line by line, while it runs.

    :param status: looks at the app.
    :param sources: returns the logs of its replicas.
    :param given: positions that another follower of the app has reached (its ``given``).
    """

    def __init__(
        self,
        status: Callable[[], AppObservation],
        sources: Callable[[], list[LogSource]],
        given: Mapping[str, int] | None = None,
    ) -> None:
        self._status = status
        self._sources = sources
        #: By replica: the position behind the last line that was returned.
        self._given = dict(given or {})
        self._reader: _Reader | None = None
        self._lock = threading.Lock()

    @property
    def given(self) -> dict[str, int]:
        """The positions reached, as plain JSON: another process goes on from here."""
        with self._lock:
            return dict(self._given)

    def new_lines(self, deadline_seconds: float = 10.0, most: int | None = None) -> list[str]:
        """Return new lines of each replica, each with the replica's name in front.

        A log that cannot be read just now has no new lines.

        :param most: lines of each replica; ``MOST_LINES`` by default.
        :param deadline_seconds: seconds after which reading ends; what is left comes with the next call.
        """
        if self._reader is not None and self._reader.is_alive():
            return []  # the scheduler has not answered the previous call yet
        found: list[str] = []
        reader = _Reader(self._status, self._sources, lambda source: self._give(source, reader, found, most))
        self._reader = reader
        reader.start()
        reader.join(deadline_seconds)
        with self._lock:
            # A reader that is late adds nothing after this, so that its lines come with the next call.
            reader.stopped.set()
            return found

    def _give(self, source: LogSource, reader: _Reader, found: list[str], most: int | None) -> None:
        unread = source.after(self._given.get(source.label, 0), lambda: self._status().is_terminal)
        for position, line in itertools.islice(unread, most or MOST_LINES):
            with self._lock:
                if reader.stopped.is_set():
                    return
                self._given[source.label] = position
                found.append(f"{source.label}: {shown(line)}")


def shown(line: str) -> str:
    """Return a line without its end, cut to ``_MAX_LINE`` characters."""
    return line.rstrip("\r\n")[:_MAX_LINE]


class _Reader(threading.Thread):
    """Reads the logs of an app's replicas one after the other.

    :param take: reads one; it looks at ``stopped`` between two lines.
    """

    def __init__(
        self,
        status: Callable[[], AppObservation],
        sources: Callable[[], list[LogSource]],
        take: Callable[[LogSource], None],
    ) -> None:
        # A daemon: a reader that hangs must not keep the process alive.
        super().__init__(name="axtx-logs", daemon=True)
        self._status = status
        self._sources = sources
        self._take = take
        self.stopped = threading.Event()
        self.notes: list[str] = []

    def run(self) -> None:
        for source in self._open():
            try:
                self._take(source)
            except Exception as error:  # noqa: BLE001 - a log that cannot be read is reported in its place
                self.notes.append(f"no log of {source.label}: {describe_error(error)}")
            if self.stopped.is_set():
                return

    def _open(self) -> list[LogSource]:
        try:
            seen = self._status()
            if seen.app_state == "UNKNOWN":
                self.notes.append(f"no log: {seen.message}")
                return []
            sources = self._sources()
        except Exception as error:  # noqa: BLE001 - a log that cannot be read is reported in its place
            self.notes.append(f"no log: {describe_error(error)}")
            return []
        if not sources:
            self.notes.append(f"no log: the app is {seen.app_state}, and its scheduler names no replica")
        return sources
