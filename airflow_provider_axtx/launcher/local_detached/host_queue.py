"""The queue of a host: of the apps that may start, the one that was submitted first starts.

An app may start while fewer apps run on the host than the host's limit, and fewer of those submitted before it than its
own limit ``max_parallel``. Apps with larger limits overtake it. They do not count against its own limit, or it would
wait for as long as such apps keep coming.

Everything is a file that its owner holds with ``flock``, so the kernel takes a dead supervisor out of the queue::

    <root>/.queue/<host>/guard               held for microseconds around every change
    <root>/.queue/<host>/waiting/<n>-<app>   one ticket for each waiting app, in order; holds its ``max_parallel``
    <root>/.queue/<host>/running/<n>-<app>   one slot for each running app
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys

from airflow_provider_axtx.launcher.local_detached.app_dir import try_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Queue:
    """One supervisor's place in the queue of its host.

    :param root: directory of all apps.
    :param host: name of this host; two hosts that share a root have two queues.
    :param app_id: the app id.
    :param max_parallel: the app's own limit.
    :param host_max_parallel: the host's limit.
    """

    def __init__(self, root: str, host: str, app_id: str, max_parallel: int, host_max_parallel: int) -> None:
        self._base = os.path.join(root, ".queue", host)
        self._app_id = app_id
        self._max_parallel = max_parallel
        self._host_max_parallel = host_max_parallel
        self._name = ""
        self._place: tuple[str, int] | None = None
        self._ahead: str | None = None
        self._has_slot = False

    def join(self) -> None:
        """Draw the next ticket, or take a slot at once when the app may start now.

        Of apps that were submitted at the same time each one used to find the ticket of the one before it, which had
        not asked for its slot yet, and looked again only after the next pause of its supervisor.
        """
        for directory in ("waiting", "running"):
            os.makedirs(self._path(directory), mode=0o700, exist_ok=True)
        with self._guard():
            names = [name for directory in ("waiting", "running") for name in os.listdir(self._path(directory))]
            last = max((int(name.partition("-")[0]) for name in names), default=0)
            self._name = f"{last + 1:012d}-{self._app_id}"
            if self._is_next():
                self._take("running")
                self._has_slot = True
            else:
                os.write(self._take("waiting"), str(self._max_parallel).encode())

    def enter(self) -> bool:
        """Take a slot if this app is the first of those that may start; return whether it was taken.

        While another app that has to start earlier is ahead this is one attempt at one lock, however long the queue is.
        """
        if self._has_slot:
            return True
        if self._ahead is not None and self._is_waiting(self._ahead):
            return False
        with self._guard():
            if self._is_next():
                ticket = self._place
                self._take("running")
                _give_back(ticket)
                self._has_slot = True
        return self._has_slot

    def _is_next(self) -> bool:
        """Return whether this app may start before all that wait; only under the guard."""
        ahead = {name: self._limit(name) for name in self._living("waiting") if name < self._name}
        # An app whose limit is as large as this one's may start whenever this one may.
        self._ahead = max((name for name, limit in ahead.items() if limit >= self._max_parallel), default=None)
        return self._ahead is None and self._may_start(ahead)

    def _may_start(self, ahead: dict[str, int]) -> bool:
        running = self._living("running")

        def fits(name: str, limit: int) -> bool:
            return sum(other < name for other in running) < limit

        reserved = sum(fits(name, limit) for name, limit in ahead.items())
        return fits(self._name, self._max_parallel) and len(running) + reserved < self._host_max_parallel

    def _limit(self, name: str) -> int:
        """Return the limit of a waiting app. An older version did not write it, and let all others wait behind it."""
        with open(self._path("waiting", name), encoding="ascii") as file:
            return int(file.read() or sys.maxsize)

    def leave(self) -> None:
        """Give the ticket or the slot back."""
        with self._guard():
            _give_back(self._place)
            self._place = None

    def _take(self, directory: str) -> int:
        path = self._path(directory, self._name)
        descriptor = try_lock(path, create=True)
        if descriptor is None:
            raise BlockingIOError(f"{path} is held by another process")
        self._place = (path, descriptor)
        return descriptor

    def _path(self, *parts: str) -> str:
        return os.path.join(self._base, *parts)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        descriptor = os.open(self._path("guard"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _is_waiting(self, name: str) -> bool:
        try:
            # Shared, so that two processes that ask at the same time do not take each other for the owner.
            descriptor = try_lock(self._path("waiting", name), shared=True)
        except FileNotFoundError:
            return False
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def _living(self, directory: str) -> list[str]:
        """Return the names in ``directory`` that a process holds, and remove the others; only under the guard."""
        living = []
        for name in os.listdir(self._path(directory)):
            descriptor = try_lock(self._path(directory, name))
            if descriptor is None:
                living.append(name)
            else:
                os.unlink(self._path(directory, name))
                os.close(descriptor)
        return living


def _give_back(place: tuple[str, int] | None) -> None:
    if place is not None:
        os.unlink(place[0])
        os.close(place[1])
