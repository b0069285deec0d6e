"""A Kubernetes API server over HTTP whose Volcano jobs really run: each pod is a child process of the test.

No control plane can be had on a bare machine. What is real here is the client, TorchX's scheduler, HTTP and the
processes; what is simulated is the API server's answers. Deleting a job ends its pods (TERM, a grace, KILL) and with
them their logs, as in Kubernetes.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.kubernetes_api import FakeKubernetes, status_in_phase

_POD_LOG = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/log")
_GRACE_SECONDS = 1.0


@dataclass
class _Pod:
    name: str
    task: str
    process: subprocess.Popen[bytes]
    log: Path

    def phase(self) -> str:
        code = self.process.poll()
        if code is None:
            return "Running"
        return "Succeeded" if code == 0 else "Failed"


class KubernetesCluster(FakeKubernetes):
    """The server; a context manager.

    :param folder: for the kubeconfig and the pods' logs.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "kubeconfig")
        self.kubeconfig = folder / "kubeconfig"
        #: Whether new jobs wait for room, as in a full queue.
        self.full = False
        self._folder = folder
        self._pods: dict[tuple[str, str], list[_Pod]] = {}
        self._lock = threading.RLock()

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        for job in list(self._pods):
            self._end(job)

    @property
    def port(self) -> int:
        """The server's port on loopback."""
        return self._server.server_port

    def start_waiting(self) -> None:
        """Let waiting jobs start, and new ones at once."""
        with self._lock:
            self.full = False
            for job in [job for job in self.jobs if job not in self._pods]:
                self._start(job)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return status and body of a request."""
        with self._lock:
            for job in self.jobs:
                self._refresh(job)
            if not self.broken and (match := _POD_LOG.fullmatch(path)):
                return self._log(match[1], match[2])
            namespace = path.split("/")[5] if path.count("/") > 4 else ""
            if method == "POST" and not self.broken and (namespace, body["metadata"]["name"]) in self.jobs:
                return 409, {"reason": "Conflict", "details": {"name": body["metadata"]["name"]}}
            if method == "DELETE" and not self.broken:
                self._end((namespace, path.rpartition("/")[2]))
            status, answer = super().answer(method, path, body)
            if method == "POST" and status == 201:
                job = (namespace, body["metadata"]["name"])
                self.jobs[job]["spec"] = body["spec"]
                if self.full:
                    self._refresh(job)
                else:
                    self._start(job)
            return status, answer

    def _start(self, job: tuple[str, str]) -> None:
        self._pods[job] = []
        for task in self.jobs[job]["spec"]["tasks"]:
            container = task["template"]["spec"]["containers"][0]
            name = f"{job[1]}-{task['name']}-0"
            log = self._folder / f"{name}.log"
            environment = {e["name"]: e["value"] for e in container.get("env", []) if "value" in e}
            with log.open("wb") as output:
                process = subprocess.Popen(
                    container["command"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={"PATH": os.environ["PATH"], **environment},
                    start_new_session=True,
                )
            self._pods[job].append(_Pod(name, task["name"], process, log))
        self._refresh(job)

    def _refresh(self, job: tuple[str, str]) -> None:
        pods = self._pods.get(job)
        before = self.jobs[job].get("status")
        if pods is None:
            self.jobs[job]["status"] = status_in_phase(before, "Pending")
            return
        phases = [pod.phase() for pod in pods]
        phase = "Failed" if "Failed" in phases else "Running" if "Running" in phases else "Completed"
        counts = {pod.task: {"phase": dict(Counter([pod.phase()]))} for pod in pods}
        self.jobs[job]["status"] = {**status_in_phase(before, phase), "taskStatusCount": counts}

    def _log(self, namespace: str, name: str) -> tuple[int, Any]:
        for (space, _), pods in self._pods.items():
            for pod in pods:
                if (space, pod.name) == (namespace, name):
                    return 200, pod.log.read_text(errors="replace")
        return 404, {"reason": "NotFound"}

    def _end(self, job: tuple[str, str]) -> None:
        pods = self._pods.pop(job, [])
        for number, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 10.0)):
            living = [pod.process for pod in pods if pod.process.poll() is None]
            for process in living:
                os.killpg(process.pid, number)
            deadline = time.monotonic() + grace
            while any(process.poll() is None for process in living) and time.monotonic() < deadline:
                time.sleep(0.02)
        for pod in pods:
            pod.log.unlink()
