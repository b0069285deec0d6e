"""A private Slurm cluster for tests: accounting and three nodes, on free ports, removed at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engines.commands import run_script

_DEADLINE_SECONDS = 90.0


class SlurmCluster:
    """One cluster. ``start`` begins it and ends every outage; each test process has a cluster of its own.

    :param nodes: number of node daemons, ``n1``, ``n2``, ... A TorchX app takes one for each replica.
    """

    def __init__(self, nodes: int = 3) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="axtx-slurm-", dir="/tmp"))
        self.environment = {"SLURM_CONF": str(self.folder / "etc/slurm.conf")}
        self._script_environment = {"AXTX_SLURM_DIR": str(self.folder), "AXTX_SLURM_NODES": str(nodes)}

    def start(self) -> float:
        """Start every daemon that does not run, wait until all nodes can take jobs; return the seconds it took."""
        began = time.monotonic()
        run_script("slurm_up.sh", self._script_environment)
        return time.monotonic() - began

    def remove(self) -> None:
        """Stop the cluster and remove its state."""
        run_script("slurm_down.sh", self._script_environment)

    def kill(self, daemon: str, *, hard: bool = False) -> None:
        """Stop ``slurmctld``, ``slurmdbd`` or ``slurmd-n1``; return when it is gone.

        :param hard: as a crash, without an orderly end.
        """
        file = self.folder / "run" / f"{daemon}.pid"
        pid = int(file.read_text())
        os.kill(pid, signal.SIGKILL if hard else signal.SIGTERM)
        self.await_true(lambda: not Path(f"/proc/{pid}").exists(), f"the end of {daemon}")
        file.unlink(missing_ok=True)

    @contextmanager
    def without(self, *daemons: str) -> Iterator[None]:
        """Stop daemons for the time of a block."""
        for daemon in daemons:
            self.kill(daemon)
        try:
            yield
        finally:
            self.start()

    def ask(self, *command: str) -> str:
        """Run a Slurm command and return its output."""
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | self.environment)
        return answer.stdout.strip()

    def await_true(self, condition: Callable[[], bool], what: str, seconds: float = _DEADLINE_SECONDS) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
            time.sleep(0.1)

    def await_saved(self, job: str) -> None:
        """Wait until slurmctld has saved its jobs: one that crashes earlier forgets that the job has started.

        :param job: a job of which a limit may be changed, which is what makes it save.
        """
        file = self.folder / "ctld" / "job_state"
        before = file.stat().st_mtime_ns if file.exists() else 0
        self.ask("scontrol", "update", f"JobId={job}", "TimeLimit=60")
        self.await_true(lambda: file.exists() and file.stat().st_mtime_ns > before, "saved state of slurmctld")

    def cancel_all(self) -> None:
        """Cancel every job and wait until the queue is empty."""

        # Twice if need be: a job that is just being submitted again escapes the first.
        def is_empty() -> bool:
            self.ask("scancel", "--user=root", "--quiet")
            return not self.ask("squeue", "-h")

        self.await_true(is_empty, "empty queue")
