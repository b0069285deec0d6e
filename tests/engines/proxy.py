"""A TCP proxy in front of a database server that cuts connections, also between a COMMIT and its acknowledgement."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Literal, Self

#: ``before_commit``: the COMMIT never reaches the server. ``after_commit``: the server commits, its answer is lost.
Moment = Literal["before_commit", "after_commit"]

_CHUNK = 65536


class CuttingProxy:
    """Forwards connections to one server until told to cut them. Use as a context manager.

    :param port: port of the server on 127.0.0.1.
    :param commit: what a COMMIT looks like on the wire.
    """

    def __init__(self, port: int, commit: bytes) -> None:
        self._target = port
        self._commit = commit
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._armed: Moment | None = None
        self._to_skip = 0
        self._refusing = False
        #: How many connections were cut at an armed moment.
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shutdown wakes the thread in accept; close alone would leave it there.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def arm(self, moment: Moment, *, skip: int = 0) -> None:
        """Cut the connection of one COMMIT, after letting ``skip`` of them pass."""
        with self._lock:
            self._armed, self._to_skip = moment, skip

    def cut(self) -> None:
        """Cut all connections now."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def refuse(self, refusing: bool) -> None:
        """Cut all connections and take no new ones (an outage), until called with False."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            if self._refusing:
                client.close()
                continue
            link = _Link(self, client, socket.create_connection(("127.0.0.1", self._target)))
            with self._lock:
                self._links.add(link)
            link.start()

    def moment_of(self, data: bytes) -> Moment | None:
        """Return what to do with this piece of a client's traffic: None to pass it on."""
        with self._lock:
            if self._armed is None or self._commit not in data:
                return None
            if self._to_skip:
                self._to_skip -= 1
                return None
            moment, self._armed = self._armed, None
            self.cuts += 1
            return moment

    def forget(self, link: _Link) -> None:
        """Drop a connection that has ended."""
        with self._lock:
            self._links.discard(link)


class _Link:
    """One client connection and its connection to the server."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._swallow_answer = False

    def start(self) -> None:
        threading.Thread(target=self._pump, args=(self._from_client,), daemon=True).start()
        threading.Thread(target=self._pump, args=(self._from_server,), daemon=True).start()

    def cut(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):  # the other side was first
                end.shutdown(socket.SHUT_RDWR)
        self._proxy.forget(self)

    def _pump(self, forward: object) -> None:
        assert callable(forward)
        try:
            while forward():
                pass
        except OSError:
            pass  # cut from the other thread
        finally:
            self.cut()

    def _from_client(self) -> bool:
        data = self._client.recv(_CHUNK)
        moment = self._proxy.moment_of(data)
        if moment == "before_commit" or not data:
            return False
        if moment == "after_commit":
            self._swallow_answer = True
        self._server.sendall(data)
        return True

    def _from_server(self) -> bool:
        data = self._server.recv(_CHUNK)
        if not data or self._swallow_answer:
            return False
        self._client.sendall(data)
        return True
