"""A thousand deferred trials in one event loop: what they cost the triggerer."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger

TRIALS = 1000
#: Airflow logs an event loop that was held for so long as blocked.
MAX_LAG_SECONDS = 0.2
_ROUNDS = 8


class FakeApps:
    """Apps of ``local_detached`` without processes: directories whose lock this process holds, as supervisors do.

    The real observer looks at them; a thousand real supervisors would need 10 GB.
    """

    def __init__(self, root: Path, number: int) -> None:
        self._root = root
        self._locks: dict[str, int] = {}
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = {"host": os.uname().nodename, "boot_id": boot_id, "pid": os.getpid(), "time": time.time()}
        for name in (f"app-{n}" for n in range(number)):
            folder = root / name
            folder.mkdir(parents=True)
            for file, content in (("request.json", {"roles": []}), ("started.json", started), ("running.json", {})):
                (folder / file).write_text(json.dumps(content))
            self._locks[name] = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._locks[name], fcntl.LOCK_EX)

    def names(self) -> list[str]:
        """Return the ids of the apps that still run."""
        return list(self._locks)

    def end(self, name: str, state: str) -> None:
        """Let an app end as its supervisor would: the final file first, then the lock."""
        final = {"state": state, "message": "", "infrastructure": False, "time": time.time()}
        temporary = self._root / name / "final.tmp"
        temporary.write_text(json.dumps(final))
        temporary.replace(self._root / name / "final.json")
        os.close(self._locks.pop(name))


@dataclass
class Figures:
    """What was measured.

    :param observations: of how many apps each batch observation was.
    :param max_lag: the longest time for which the event loop was held, in seconds.
    :param cpu: processor seconds of this process, for all trials over the whole run.
    :param memory: bytes for each waiting trial.
    """

    interval: float
    observations: list[int] = field(default_factory=list)
    max_lag: float = 0.0
    cpu: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0
    wrong: int = 0
    ended: int = 0

    def problems(self) -> list[str]:
        """Return what is not as promised."""
        found = []
        if len(self.observations) > self.seconds / self.interval + 1:
            found.append(
                f"{len(self.observations)} observations in {self.seconds:.1f} s, one in {self.interval:g} s wanted"
            )
        if self.max_lag >= MAX_LAG_SECONDS:
            found.append(f"the event loop was held for {self.max_lag:.3f} s")
        if self.wrong or self.ended != TRIALS:
            found.append(f"{self.ended} of {TRIALS} trials ended, {self.wrong} of them wrongly")
        return found


@contextmanager
def _counted(figures: Figures) -> Iterator[None]:
    original = TorchXLauncher.observe

    def observe(launcher: TorchXLauncher, handles: Sequence[str]) -> Mapping[str, AppObservation]:
        figures.observations.append(len(handles))
        return original(launcher, handles)

    TorchXLauncher.observe = observe  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        TorchXLauncher.observe = original  # type: ignore[method-assign]


async def _heartbeat(figures: Figures) -> None:
    loop, pause = asyncio.get_running_loop(), 0.005
    while True:
        before = loop.time()
        await asyncio.sleep(pause)
        figures.max_lag = max(figures.max_lag, loop.time() - before - pause)


async def _wait_for(name: str, expected: str, figures: Figures) -> None:
    arguments: dict[str, Any] = {
        "run": {"app_handle": f"local_detached://torchx/{name}"},
        "scheduler": "local_detached",
        "submitted_at": time.time(),
        "deadline": time.time() + 600,
        "poll_interval": figures.interval,
        "grace_seconds": 60.0,
        "grace_polls": 3,
        "ax_conn_id": "ax_default",
        "torchx_conn_id": "torchx_default",
        # As every attempt has had since schema 0002; without them each trigger would ask for the connection's.
        "lookup_options": {},
    }
    events = [event.payload async for event in TorchXTrialTrigger(**arguments).run()]
    figures.ended += 1
    figures.wrong += [(event["status"], event["app_state"]) for event in events] != [("observed", expected)]


async def _measure(apps: FakeApps, figures: Figures) -> None:
    process = psutil.Process()
    names = apps.names()
    outcome = {name: ("SUCCEEDED", "FAILED", "CANCELLED")[n % 3] for n, name in enumerate(names)}
    heart = asyncio.create_task(_heartbeat(figures))
    before, cpu, started = process.memory_info().rss, process.cpu_times(), time.monotonic()
    waiting = [asyncio.create_task(_wait_for(name, outcome[name], figures)) for name in names]
    # A part of the apps ends in each round, also while an observation is under way.
    for number in range(_ROUNDS):
        await asyncio.sleep(figures.interval)
        if number == 0:
            figures.memory = (process.memory_info().rss - before) / len(names)
        for name in names[number::_ROUNDS]:
            apps.end(name, outcome[name])
            await asyncio.sleep(0)
    await asyncio.wait(waiting, timeout=60)
    after = process.cpu_times()
    figures.cpu = after.user + after.system - cpu.user - cpu.system
    figures.seconds = time.monotonic() - started
    heart.cancel()


def measure(root: Path, interval: float) -> Figures:
    """Let ``TRIALS`` triggers wait in one event loop until their apps have ended.

    :param root: an empty folder.
    :param interval: seconds between two observations.
    """
    os.environ["AXTX_LOCAL_ROOT"] = str(root)
    figures = Figures(interval)
    with _counted(figures):
        asyncio.run(_measure(FakeApps(root, TRIALS), figures))
    return figures


def main(interval: float = 1.0) -> bool:
    """Measure in this process, print the figures, return whether they are as promised."""
    with tempfile.TemporaryDirectory(prefix="axtx-thousand-") as folder:
        figures = measure(Path(folder, "apps"), interval)
    print(
        f"{TRIALS} deferred trials in one event loop, {figures.seconds:.1f} s, one interval {interval:g} s: "
        f"{len(figures.observations)} batch observations, event loop held for {figures.max_lag:.3f} s at most, "
        f"{figures.cpu:.2f} s of processor time, {figures.memory / 1024:.1f} kB for each trial, "
        f"{figures.ended} ended, {figures.wrong} wrongly"
    )
    for problem in figures.problems():
        print(f"thousand trials: {problem}")
    return not figures.problems()


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
