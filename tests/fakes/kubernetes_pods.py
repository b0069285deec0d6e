"""A Kubernetes API server over HTTP that knows pods: it runs the command of each as a process of this machine.

It also has what ``KubernetesPodOperator(do_xcom_push=True)`` asks of a sidecar: to read one file, and to end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import subprocess
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/(pods|events)(?:/([^/]+))?(?:/(log|exec))?")
#: The volume that a pod shares with the operator's sidecar, and what the sidecar prints without a result there.
_XCOM, _NO_RESULT = "/airflow/xcom", b"__airflow_xcom_result_empty__"
#: What every server of a WebSocket adds to the client's key.
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class FakePods:
    """The server; a context manager. ``ended`` has the pods that were run, also those that were deleted.

    :param folder: the volumes of the pods are made in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        waiting = {"waiting": {"reason": "ContainerCreating"}}
        pod["status"] = _status(pod, "Pending", waiting, waiting)
        with self.lock:
            self.pods[pod["metadata"]["name"]] = pod
        threading.Thread(target=self._run, args=(pod,), daemon=True).start()
        return pod

    def _run(self, pod: dict[str, Any]) -> None:
        container, running = pod["spec"]["containers"][0], {"running": {"startedAt": _now()}}
        pod["status"] = _status(pod, "Running", running, running)
        volume = self._volume(pod["metadata"]["name"])
        volume.mkdir(parents=True)
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        command = [word.replace(_XCOM, str(volume)) for word in words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.output[pod["metadata"]["name"]] = done.stdout
        times = {"startedAt": _now(), "finishedAt": _now()}
        ended = {"terminated": {"exitCode": done.returncode, "reason": "Completed", **times}}
        phase = "Failed" if done.returncode else "Succeeded"
        with self.lock:
            pod["final"] = _status(pod, phase, ended, {"terminated": {"exitCode": 0, "reason": "Completed", **times}})
            has_sidecar = len(pod["spec"]["containers"]) > 1
            pod["status"] = _status(pod, "Running", ended, running) if has_sidecar else pod["final"]
            self.ended.append(pod)

    def _volume(self, name: str) -> Path:
        return self.folder / name

    def run_in_sidecar(self, name: str, command: list[str]) -> bytes:
        """Run a command of the operator in the sidecar: ``sh -c`` reads the result, a shell alone ends the sidecar."""
        if "-c" not in command:
            with self.lock:
                self.pods[name]["status"] = self.pods[name]["final"]
            return b""
        result = self._volume(name) / "return.json"
        return result.read_bytes() if result.exists() else _NO_RESULT


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(pod: dict[str, Any], phase: str, state: dict[str, Any], sidecar: dict[str, Any]) -> dict[str, Any]:
    names = [container["name"] for container in pod["spec"]["containers"]]
    each = {"ready": True, "restartCount": 0, "image": "", "imageID": ""}
    states = [{"name": name, **each, "state": sidecar if number else state} for number, name in enumerate(names)]
    return {"phase": phase, "startTime": _now(), "containerStatuses": states}


def _handler(server: FakePods) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, name, part = self._place()
            if part == "log":
                return self._answer(200, server.output.get(name, b""))
            if part == "exec":
                return self._exec(name)
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

        def _exec(self, name: str) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            accepted = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _WEBSOCKET).digest()
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(accepted).decode())
            self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
            self.end_headers()
            if asked["stdin"] == ["true"]:
                self._read_frame()
            said = server.run_in_sidecar(name, asked["command"])
            # Channel 1 is standard output, channel 3 how the command has ended; the last frame closes.
            for sent in (b"\1" + said, b'\3{"metadata":{},"status":"Success"}'):
                self.wfile.write(b"\x82\x7e" + struct.pack(">H", len(sent)) + sent)
            self.wfile.write(b"\x88\x02\x03\xe8")
            self._read_frame()  # the client closes too
            self.close_connection = True

        def _read_frame(self) -> None:
            head = self.rfile.read(2)
            length = head[1] & 0x7F if head else 0  # nothing comes from a client that has left
            if length == 126:
                (length,) = struct.unpack(">H", self.rfile.read(2))
            self.rfile.read(4 + length)  # with its mask

        def _place(self) -> tuple[str, str, str]:
            found = _PATH.fullmatch(urlsplit(self.path).path)
            assert found is not None, self.path
            return found[2], found[3] or "", found[4] or ""

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
