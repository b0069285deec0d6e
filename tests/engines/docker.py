"""A private Docker engine for tests, on a unix socket, removed at the end."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engines.commands import run_script

#: An image without any program: mount ``HOST_FOLDERS`` read-only to run the host's.
IMAGE = "axtx-tests:host"
HOST_FOLDERS = ("/usr", "/etc")


class DockerEngine:
    """One engine. ``start`` begins it and ends every outage; containers outlive an outage."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="axtx-docker-", dir="/tmp"))
        self.environment = {"DOCKER_HOST": f"unix://{self.folder}/docker.sock"}
        self._script_environment = {"AXTX_DOCKER_DIR": str(self.folder)}

    def start(self) -> float:
        """Start the engine and return the seconds it took until it answered."""
        began = time.monotonic()
        run_script("docker_up.sh", self._script_environment)
        return time.monotonic() - began

    def remove(self) -> None:
        """Stop the engine with its containers and remove its state."""
        run_script("docker_down.sh", self._script_environment)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the engine for the time of a block."""
        pid = int((self.folder / "dockerd.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 60
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, "dockerd did not end within 60 s"
            time.sleep(0.05)
        try:
            yield
        finally:
            self.start()

    def client(self) -> Any:
        """Return docker's own client."""
        import docker

        return docker.DockerClient(base_url=self.environment["DOCKER_HOST"])

    def remove_containers(self) -> None:
        """Remove every container."""
        client = self.client()
        for container in client.containers.list(all=True):
            container.remove(force=True, v=True)
        client.close()
