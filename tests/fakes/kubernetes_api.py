"""A Kubernetes API server over HTTP that knows Volcano jobs, but runs none."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PATH = re.compile(r"/apis/batch\.volcano\.sh/v1alpha1/namespaces/([^/]+)/jobs(?:/([^/]+)(?:/status)?)?")


class FakeKubernetes:
    """The server; a context manager.

    :param kubeconfig: file that is written for clients; its context has the namespace ``default``.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.broken = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        context = {"cluster": "c", "user": "u", "namespace": "default"}
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "x",
                    "contexts": [{"name": "x", "context": context}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}],
                    "users": [{"name": "u", "user": {}}],
                }
            )
        )

    def __enter__(self) -> FakeKubernetes:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, phase: str | None, namespace: str = "default") -> None:
        """Add a job, or change its phase; None is a job without a status."""
        status = {} if phase is None else {"status": {"state": {"phase": phase}}}
        self.jobs[namespace, name] = {"metadata": {"name": name, "namespace": namespace}, **status}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status and body of a request."""
        match = _PATH.fullmatch(path)
        if self.broken or match is None:
            return 500, {"message": f"fake Kubernetes does not answer {path}"}
        namespace, name = match[1], match[2]
        if name is None and method == "POST":
            self.add(body["metadata"]["name"], None, namespace)
            return 201, self.jobs[namespace, body["metadata"]["name"]]
        if name is None:
            return 200, {"items": [job for (ns, _), job in self.jobs.items() if ns == namespace]}
        if (namespace, name) not in self.jobs:
            return 404, {"reason": "NotFound"}
        if method == "DELETE":
            self.deleted.append(name)
            return 200, self.jobs.pop((namespace, name))
        return 200, self.jobs[namespace, name]


def _handler(server: FakeKubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = server.answer(self.command, self.path.partition("?")[0], json.loads(sent) if sent else None)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            """Nothing on the test's output."""

    return Handler
