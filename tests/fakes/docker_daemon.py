"""A docker daemon over HTTP that knows containers, but runs none. To be reached through ``DOCKER_HOST``."""

from __future__ import annotations

import json
import re
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LABEL = "torchx.pytorch.org/"


class FakeDocker:
    """The daemon; a context manager. ``host`` is what ``DOCKER_HOST`` has to be."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        #: Of the requests for logs.
        self.queries: list[dict[str, list[str]]] = []
        #: By container: what it has written.
        self.logs: dict[str, str] = {}
        self.broken = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.host = f"tcp://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeDocker:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, app_id: str, status: str, *, replica: int = 0, age: float = 1.0, **state: Any) -> None:
        """Add a container of an app; ``state`` are fields of docker's State: ExitCode, OOMKilled, Error."""
        name = f"{app_id}-trainer-{replica}"
        self.containers[name] = {
            "Id": name,
            "Names": [f"/{name}"],
            "Name": f"/{name}",
            "Created": int(time.time() - age),
            "Labels": {f"{LABEL}app-id": app_id, f"{LABEL}role-name": "trainer", f"{LABEL}replica-id": str(replica)},
            "Image": "sha256:0",
            "State": {"Status": status, "ExitCode": 0, "OOMKilled": False, "Error": "", **state},
        }

    def answer(self, method: str, path: str, labels: list[str]) -> tuple[int, Any]:
        """Return status and body of a request; listed are containers with all ``labels`` (``key``, ``key=value``)."""
        self.requests.append(f"{method} {path}")
        if self.broken:
            return 500, {"message": "the daemon is broken"}
        if path == "/version":
            return 200, {"ApiVersion": "1.43"}
        if path == "/containers/json":
            return 200, [{**c, "State": c["State"]["Status"]} for c in self.containers.values() if _has(c, labels)]
        if match := re.fullmatch(r"/containers/([^/]+)/logs", path):
            # Each line is a frame, as of a container without a terminal.
            lines = [line.encode() for line in self.logs.get(match[1], "").splitlines(keepends=True)]
            stamped = [b"2026-01-02T03:04:05.%09dZ %s" % item for item in enumerate(lines, start=1)]
            return 200, b"".join(struct.pack(">BxxxL", 1, len(line)) + line for line in stamped)
        if match := re.fullmatch(r"/containers/([^/]+)/(json|stop|wait)", path):
            return self._container(match[1], match[2])
        if path.startswith("/images/"):
            return 200, {"Id": "sha256:0", "Config": {}}
        return 404, {"message": f"fake docker has no {path}"}

    def _container(self, name: str, what: str) -> tuple[int, Any]:
        container = self.containers.get(name)
        if container is None:
            return 404, {"message": f"No such container: {name}"}
        if what == "json":
            return 200, {**container, "Config": {"Labels": container["Labels"], "Image": "image", "Tty": False}}
        if what == "wait":
            return 200, {"StatusCode": container["State"]["ExitCode"]}
        container["State"].update(Status="exited", ExitCode=143)
        return 204, None


def _has(container: dict[str, Any], labels: list[str]) -> bool:
    pairs = [label.partition("=") for label in labels]
    return all(k in container["Labels"] and (not eq or container["Labels"][k] == v) for k, eq, v in pairs)


def _handler(daemon: FakeDocker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urlsplit(self.path)
            path = re.sub(r"^/v[\d.]+", "", url.path)
            filters = json.loads(parse_qs(url.query).get("filters", ["{}"])[0])
            status, body = daemon.answer(self.command, path, filters.get("label", []))
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            if path.endswith("/logs"):
                daemon.queries.append(parse_qs(url.query))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve

        def log_message(self, *_: object) -> None:
            """Nothing on the test's output."""

    return Handler
