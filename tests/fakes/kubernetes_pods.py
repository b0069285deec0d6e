"""A Kubernetes API server over HTTP that knows pods: it runs the command of each as a process of this machine."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/(pods|events)(?:/([^/]+))?(/log)?")


class FakePods:
    """The server; a context manager. ``ended`` has the pods that were run, also those that were deleted."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.ended: list[dict[str, Any]] = []
        self.output: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> FakePods:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kubeconfig(self) -> dict[str, Any]:
        """Return the configuration of a client."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._server.server_port}"}}],
            "users": [{"name": "u", "user": {}}],
        }

    def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Create a pod and run it."""
        pod["metadata"] |= {"uid": pod["metadata"]["name"], "creationTimestamp": _now(), "resourceVersion": "1"}
        pod["status"] = _status(pod, "Pending", {"waiting": {"reason": "ContainerCreating"}})
        with self.lock:
            self.pods[pod["metadata"]["name"]] = pod
        threading.Thread(target=self._run, args=(pod,), daemon=True).start()
        return pod

    def _run(self, pod: dict[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        pod["status"] = _status(pod, "Running", {"running": {"startedAt": _now()}})
        command = [*(container.get("command") or ()), *(container.get("args") or ())]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.output[pod["metadata"]["name"]] = done.stdout
        end = {"exitCode": done.returncode, "startedAt": _now(), "finishedAt": _now(), "reason": "Completed"}
        phase = "Failed" if done.returncode else "Succeeded"
        with self.lock:
            pod["status"] = _status(pod, phase, {"terminated": end})
            self.ended.append(pod)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(pod: dict[str, Any], phase: str, state: dict[str, Any]) -> dict[str, Any]:
    names = [container["name"] for container in pod["spec"]["containers"]]
    each = {"ready": "running" in state, "restartCount": 0, "image": "", "imageID": "", "state": state}
    return {"phase": phase, "startTime": _now(), "containerStatuses": [{"name": name, **each} for name in names]}


def _handler(server: FakePods) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, name, log = self._place()
            if log:
                return self._answer(200, server.output.get(name, b""))
            if kind == "events":
                return self._answer(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
            if name:
                return self._pod(name)
            wanted = parse_qs(urlsplit(self.path).query).get("labelSelector", [""])[0]
            found = [pod for pod in server.pods.values() if _matches(pod, wanted)]
            return self._answer(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})

        def do_POST(self) -> None:
            self._answer(201, server.create(self._sent()))

        def do_PATCH(self) -> None:
            _, name, _ = self._place()
            if name in server.pods:
                metadata = self._sent().get("metadata", {})
                for field in ("labels", "annotations"):
                    server.pods[name]["metadata"].setdefault(field, {}).update(metadata.get(field) or {})
            self._pod(name)

        def do_DELETE(self) -> None:
            _, name, _ = self._place()
            self._pod(name)
            server.pods.pop(name, None)

        def _place(self) -> tuple[str, str, bool]:
            found = _PATH.fullmatch(urlsplit(self.path).path)
            assert found is not None, self.path
            return found[2], found[3] or "", bool(found[4])

        def _sent(self) -> dict[str, Any]:
            sent: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            return sent

        def _pod(self, name: str) -> None:
            pod = server.pods.get(name)
            missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            self._answer(200 if pod else 404, pod or missing)

        def _answer(self, status: int, content: dict[str, Any] | bytes) -> None:
            is_text = isinstance(content, bytes)
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _matches(pod: dict[str, Any], selector: str) -> bool:
    labels = pod["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, has_value, value = part.partition("=")
        name, is_unequal = name.removesuffix("!"), name.endswith("!")
        if name.startswith("!"):
            if name[1:] in labels:
                return False
        elif has_value and (labels.get(name) == value.lstrip("=")) == is_unequal:
            return False
    return True
