"""A Kubernetes API server over HTTP that knows Volcano jobs, but runs none."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
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

    def add(self, name: str, phase: str | None, namespace: str = "default", at: str | None = None) -> None:
        """Add a job, or change its phase; None is a job without a status.

        :param at: when it came into this phase; None is now.
        """
        before = self.jobs.get((namespace, name), {})
        metadata = {**before.get("metadata", {}), "name": name, "namespace": namespace}
        self.jobs[namespace, name] = {**before, "metadata": metadata}
        if phase is not None:
            self.jobs[namespace, name]["status"] = status_in_phase(before.get("status"), phase, at)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status and body of a request."""
        match = _PATH.fullmatch(path)
        if self.broken or match is None:
            return 500, {"message": f"fake Kubernetes does not answer {path}"}
        namespace, name = match[1], match[2]
        if name is None and method == "POST":
            if problem := refusal(body):
                return 422, {"reason": "Invalid", "message": problem}
            self.add(body["metadata"]["name"], None, namespace)
            self.jobs[namespace, body["metadata"]["name"]]["metadata"]["labels"] = body["metadata"].get("labels", {})
            return 201, self.jobs[namespace, body["metadata"]["name"]]
        if name is None:
            return 200, {"items": [job for (ns, _), job in self.jobs.items() if ns == namespace]}
        if (namespace, name) not in self.jobs:
            return 404, {"reason": "NotFound"}
        if method == "DELETE":
            self.deleted.append(name)
            return 200, self.jobs.pop((namespace, name))
        return 200, self.jobs[namespace, name]


def status_in_phase(before: dict[str, Any] | None, phase: str, at: str | None = None) -> dict[str, Any]:
    """Return a job's status as Volcano keeps it: the phase with its time, and a condition for each phase before.

    :param before: the status so far.
    :param at: when the job came into the phase; None is now.
    """
    if before and before["state"]["phase"] == phase:
        return before
    at = at or datetime.now(UTC).isoformat().replace("+00:00", "Z")
    conditions = [*(before or {}).get("conditions", []), {"status": phase, "lastTransitionTime": at}]
    return {**(before or {}), "state": {"phase": phase, "lastTransitionTime": at}, "conditions": conditions}


def timed(text: str, tail: int = 0) -> bytes:
    """Return a log as the server sends it, with a time in front of each line; of ``tail`` lines, if given, the last."""
    lines = text.splitlines(keepends=True)
    stamped = [f"2026-01-02T03:04:05.{number:09d}Z {line}" for number, line in enumerate(lines, start=1)]
    return "".join(stamped[-tail:]).encode()


def refusal(job: Any) -> str | None:
    """Return why the real API server, or Volcano's admission, would not create a job; None if it would.

    Volcano's service plugin makes a service of the job's name, and a pod's name is its host name.
    """
    name, spec = job["metadata"]["name"], job["spec"]
    problems = [] if _SERVICE.fullmatch(name) and len(name) <= 63 else [f"metadata.name {name!r}"]
    problems += _label_problems("metadata", job["metadata"].get("labels", {}))
    tasks = [task["name"] for task in spec["tasks"]]
    problems += [f"task {task!r} twice" for task in tasks if tasks.count(task) > 1]
    for task in spec["tasks"]:
        if not _is_label(task["name"]):
            problems.append(f"task name {task['name']!r}")
        problems += [
            f"pod name {pod!r}"
            for pod in (f"{name}-{task['name']}-{n}" for n in range(task["replicas"]))
            if not _is_label(pod)
        ]
        problems += _label_problems(f"task {task['name']}", task["template"]["metadata"].get("labels", {}))
        for container in task["template"]["spec"]["containers"]:
            problems += [] if _is_label(container["name"]) else [f"container name {container['name']!r}"]
            variables = [variable["name"] for variable in container.get("env", [])]
            problems += [f"env {variable!r}" for variable in variables if not _VARIABLE.fullmatch(variable)]
    return f"Job.batch.volcano.sh is invalid: {', '.join(problems)}" if problems else None


def _is_label(name: str) -> bool:
    return len(name) <= 63 and _LABEL.fullmatch(name) is not None


def _label_problems(where: str, labels: dict[str, str]) -> list[str]:
    return [
        f"label {key}={value!r} of {where}"
        for key, value in labels.items()
        if not _LABEL_KEY.fullmatch(key) or len(value) > 63 or not _LABEL_VALUE.fullmatch(value)
    ]


def _handler(server: FakeKubernetes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            status, body = server.answer(self.command, path, json.loads(sent) if sent else None)
            for selector in parse_qs(query).get("labelSelector", []):
                label, _, value = selector.partition("=")
                body["items"] = [
                    job for job in body.get("items", []) if job["metadata"].get("labels", {}).get(label) == value
                ]
            is_text = isinstance(body, str)
            content = body.encode() if is_text else json.dumps(body).encode()
            if is_text and "timestamps" in query:
                content = timed(body, int(parse_qs(query).get("tailLines", ["0"])[0]))
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            """Nothing on the test's output."""

    return Handler
