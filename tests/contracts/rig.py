"""What a test can do with a scheduler, whichever it is: submit a probe app, let it end, fill the queue, cut it off."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.keys import submission_key
from airflow_provider_axtx.launcher.plan import SubmissionPlan
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.contracts.apps import SCRIPT, probe

DEADLINE_SECONDS = 60.0
#: Seconds that each kind of call took, by scheduler.
TIMES: dict[tuple[str, str], list[float]] = defaultdict(list)


class Rig:
    """A scheduler under test.

    :param folder: a folder that the test and its apps share.
    """

    name = ""
    scheduler_args: Mapping[str, Any] = {}
    component_args: Mapping[str, Any] = {}
    #: Cases that this scheduler cannot have, and why; shown in the table.
    cannot: Mapping[str, str] = {}
    #: What the app's end after a cancellation may look like before the recorded intent is applied.
    after_cancel: frozenset[str] = frozenset({"CANCELLED"})
    tells_exit_code = True
    #: Whether the scheduler tells when an app began to run, and when it ended.
    tells_times = True
    #: Whether only the host of the submission can observe an app.
    is_local = False
    #: Options that lead to another place than those with which apps are submitted, and environment variables that do.
    other_args: Mapping[str, Any] = {}
    other_environment: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: A submission key of this test's own: a cluster remembers those of other tests.
        self.key = submission_key("contract", secrets.token_hex(8), 1, 1)
        folder.mkdir(parents=True, exist_ok=True)
        self.launcher = self.new_launcher()

    def new_launcher(self) -> TorchXLauncher:
        """Return an engine as another process would make it."""
        return TorchXLauncher(self.name, scheduler_args=self.scheduler_args)

    def attempt_launcher(self, recorded: Mapping[str, Any]) -> TorchXLauncher:
        """Return a launcher as a process makes it that knows only what was recorded with an attempt."""
        return TorchXLauncher.for_attempt(self.name, recorded)

    # -- what the launcher does, timed

    def submit(self, key: str, value: str = "v", mode: str = "wait", **arguments: Any) -> str:
        """Plan and submit a probe."""
        plan = self.planned(key, value, mode, **arguments)
        handle: str = self._timed("submit", lambda: self.launcher.submit(plan))
        return handle

    def planned(self, key: str, value: str = "v", mode: str = "wait", **arguments: Any) -> SubmissionPlan:
        """Plan a probe."""
        typed = {name: arguments.pop(name) for name in ("number", "count", "flag") if name in arguments}
        return self.launcher.plan(
            probe,
            {"value": value, **typed},
            {"folder": str(self.folder), "key": key, "mode": mode, **self.component_args, **arguments},
            trial_index=0,
            experiment="contract",
            tracker_base=str(self.folder),
            submission_key=key,
        )

    def observe(self, handle: str) -> AppObservation:
        """Look at one app."""
        return self._timed("observe", lambda: self.launcher.observe([handle]))[handle]

    def find(self, key: str) -> str | None:
        """Look for a key."""
        return self._timed("find", lambda: self.launcher.find(key))

    def cancel(self, handle: str) -> None:
        """Cancel one app."""
        self._timed("cancel", lambda: self.launcher.cancel(handle))

    def _timed(self, what: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        self.note(what, time.perf_counter() - began)
        return result

    def note(self, what: str, seconds: float) -> None:
        """Note how long something took, for the table."""
        TIMES[self.name, what].append(seconds)

    # -- waiting

    def await_state(self, handle: str, *states: str, seconds: float = DEADLINE_SECONDS) -> AppObservation:
        """Look until the app is in one of the states."""
        deadline = time.monotonic() + seconds
        while (seen := self.observe(handle)).app_state not in states:
            assert not seen.is_terminal, f"{seen} while waiting for {states}"
            assert time.monotonic() < deadline, f"still {seen} while waiting for {states}"
            time.sleep(0.1)
        return seen

    def await_true(self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
            time.sleep(0.1)

    def await_running(self, key: str, handle: str, replicas: int = 1) -> None:
        """Wait until every replica of the app has started, and is seen RUNNING."""
        self.await_true(lambda: all(self.starts(key, r) for r in range(replicas)), f"start of {key}")
        self.await_state(handle, "RUNNING")

    # -- the test's control over apps

    def release(self, key: str, exit_code: int = 0) -> None:
        """Let an app end."""
        (self.folder / f"{key}.tmp").write_text(str(exit_code))
        (self.folder / f"{key}.tmp").rename(self.folder / f"{key}.release")

    def plateau(self, key: str) -> None:
        """Let the app of a trial report progressive results that do not get better."""
        (self.folder / f"{key}.plateau").touch()

    def starts(self, key: str, replica: int = 0) -> int:
        """Return how often a replica was started."""
        file = self.folder / f"{key}.{replica}.started"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def submissions(self, key: str) -> int:
        """Return how often an app has run, or was submitted where the scheduler tells that."""
        return self.starts(key)

    def values(self, key: str) -> list[str]:
        """Return the arguments that arrived at an app."""
        return (self.folder / f"{key}.0.values").read_bytes().decode().split("\0")[:-1]

    def processes(self, key: str) -> int:
        """Return how many processes of an app there are."""
        found = 0
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
            found += words[1:2] == [str(SCRIPT).encode()] and words[3:4] == [key.encode()]
        return found

    def unknown_handle(self) -> str:
        """Return the handle of an app that never was."""
        return f"{self.name}://torchx/never-was-0123456789-t0-a1"

    def lead_elsewhere(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process's surroundings lead to another place than the one to which apps were submitted."""
        for variable, value in self.other_environment.items():
            patch.setenv(variable, value)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let new apps wait for room, for the time of a block."""
        raise NotImplementedError
        yield

    def outage(self) -> AbstractContextManager[None]:
        """Cut the scheduler off, for the time of a block."""
        raise NotImplementedError

    def clean(self) -> None:
        """End whatever apps there are."""
