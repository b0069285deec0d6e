"""A StatsD server on loopback that keeps what it is sent."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Any

from airflow_provider_axtx.compat import AIRFLOW, stats_functions

STOP = b"stop"


class StatsdServer:
    """Receives metrics over UDP while it is used as a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._received: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._receive, name="statsd", daemon=True)

    def __enter__(self) -> StatsdServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.sendto(STOP, ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while (packet := self._socket.recv(65536)) != STOP:
            with self._changed:
                self._received += packet.decode().splitlines()
                self._changed.notify_all()

    def values(self, name: str) -> list[str]:
        """Return what was sent under the name, ``value|type`` each, in order."""
        with self._changed:
            return [line.partition(":")[2] for line in self._received if line.startswith(f"{name}:")]

    def await_values(self, name: str, count: int = 1, seconds: float = 60) -> list[str]:
        """Wait until the name was sent so often."""
        deadline = time.monotonic() + seconds
        while len(found := self.values(name)) < count:
            with self._changed:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() > deadline:
                    raise AssertionError(f"{name} was sent {len(found)} times, not {count}")
        return found

    def options(self) -> dict[str, str]:
        """Return the options, by ``section.option``, with which Airflow sends its metrics here."""
        return {
            "metrics.statsd_on": "True",
            "metrics.statsd_host": "127.0.0.1",
            "metrics.statsd_port": str(self.port),
            "metrics.statsd_prefix": "airflow",
        }


def set_up(stats_module: Any, get_factory: Any) -> None:
    """Set up Airflow's stats anew from its options, as the start of a process does."""
    stats = stats_functions(stats_module)
    if AIRFLOW >= (3, 3):
        stats.initialize(factory=get_factory(), export_legacy_names=True)
    else:
        stats.initialize(factory=get_factory(stats))
