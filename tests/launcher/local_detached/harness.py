"""Real apps in real processes: submitting them, waiting for them, looking at what is left."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from torchx.specs import AppDef, Role

from airflow_provider_axtx.launcher.local_detached.app_dir import try_lock
from airflow_provider_axtx.launcher.local_detached.scheduler import LocalDetachedScheduler, create_scheduler

#: Generous: a deadline ends a test that hangs, it never decides one that is merely slow.
DEADLINE = 60.0


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of ``condition``."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.02)
    return value


def fork(function: Callable[[], object], env: dict[str, str] | None = None) -> int:
    """Run ``function`` in a forked process with further environment variables; return its exit code."""

    def child() -> None:
        os.environ.update(env or {})
        function()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(DEADLINE)
    assert process.exitcode is not None
    return process.exitcode


class Apps:
    """What tests do with the apps under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scheduler = self.another()

    def another(self) -> LocalDetachedScheduler:
        """A scheduler as another process would have it."""
        return create_scheduler("torchx", local_root=str(self.root))

    def submit(self, name: str, script: str, replicas: int = 1, **options: Any) -> str:
        """Submit an app of one role ``trainer`` that runs a shell script with its replica's number as ``$0``."""
        args = ["-c", script, "${replica_id}"]
        role = Role(name="trainer", image="", entrypoint="sh", args=args, num_replicas=replicas)
        cfg = {"max_parallel": 100, "term_grace": 2, **options}
        return self.scheduler.schedule(self.scheduler.submit_dryrun(AppDef(name=name, roles=[role]), cfg))

    def state(self, name: str) -> str:
        """The state's name, ``absent`` when there is no such app."""
        response = self.another().describe(name)
        return response.state.name if response else "absent"

    def message(self, name: str) -> str:
        return self.another().describe(name).msg

    def until(self, name: str, *states: str) -> str:
        """Wait for one of the states (default: any final one) and return it."""
        wanted = states or ("SUCCEEDED", "FAILED", "CANCELLED")
        return wait_until(lambda: (s := self.state(name)) in wanted and s, f"{name} {wanted}")

    def supervisor(self, name: str) -> psutil.Process:
        started = wait_until(lambda: self.scheduler.directory(name).read("started.json"), "started.json")
        return psutil.Process(started["pid"])

    def kill_supervisor(self, name: str) -> None:
        """SIGKILL it and wait until it is gone, and its lock with it.

        A process whose first thread is a zombie holds its files until its last thread has ended.
        """
        supervisor, lock_file = self.supervisor(name), self.scheduler.directory(name).lock
        supervisor.kill()
        wait_until(lambda: not supervisor.is_running() or supervisor.status() == psutil.STATUS_ZOMBIE, "its death")

        def is_free() -> bool:
            if (lock := try_lock(lock_file)) is None:
                return False
            os.close(lock)
            return True

        wait_until(is_free, "the end of its lock")

    def final_json(self, name: str) -> dict[str, Any] | None:
        return self.scheduler.directory(name).read("final.json")


def processes_with(marker: str) -> list[int]:
    """Pids of the living processes with ``marker`` in their command line."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        alive = process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
        if alive and any(marker in argument for argument in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found
