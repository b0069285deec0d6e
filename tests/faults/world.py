"""One experiment's world: its store, scheduler, tracker and apps, and the facts that are left of it in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_axtx.core.records import AttemptRecord, TrialRecord
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.fakes.scheduler import FakeCluster

EXPERIMENT = "faults"
SPEC: dict[str, Any] = {
    "name": EXPERIMENT,
    "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
    "objective": "-loss",
    "generation": {"initialization_budget": 8, "initialization_random_seed": 7},
}
COMPONENT = f"{Path(__file__).with_name('components.py')}:app"
#: A deadline ends a case that hangs; it never decides one that is merely slow.
DEADLINE = 60.0
#: Seconds that what has ended gets to be gone.
_LEAVING_SECONDS = 10.0
_UNFINISHED = ("SUBMITTED", "PENDING", "RUNNING")


@dataclass(frozen=True)
class Expected:
    """How a trial has to end.

    :param statuses: the allowed Ax ``TrialStatus`` names.
    :param reason: what the reason of a trial that is not COMPLETED contains.
    :param attempts: how many runs it may have at most.
    """

    statuses: tuple[str, ...] = ("COMPLETED",)
    reason: str = ""
    attempts: int = 1


@dataclass
class Findings:
    """What is wrong with a world in its end state; each entry says it in words."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def said(self) -> list[str]:
        """Return everything that is wrong, one line each."""
        kinds = {
            "lost": self.lost,
            "doubled": self.doubled,
            "left running": self.left,
            "left open": self.open,
            "wrong status": self.wrong,
        }
        return [f"{kind}: {what}" for kind, found in kinds.items() for what in found]


@dataclass(frozen=True)
class World:
    """Where one experiment lives.

    :param root: folder of its own; no other process on this machine has it in its arguments or environment.
    :param url: the store, as the tasks reach it.
    :param scheduler: ``local_detached`` or ``fake``.
    :param direct_url: the store, as the test reaches it; None means ``url``.
    """

    root: Path
    url: str
    scheduler: str = "local_detached"
    direct_url: str | None = None

    @property
    def store(self) -> ExperimentStore:
        """The store, for the test."""
        return ExperimentStore(self.direct_url or self.url)

    @property
    def cluster(self) -> FakeCluster:
        """The fake scheduler's apps."""
        return FakeCluster(self.root / "cluster")

    @property
    def record(self) -> Path:
        """Where crash points write that they were passed."""
        return self.root / "passages"

    def environment(self) -> dict[str, str]:
        """Return what a task process of this world has in its environment."""
        settings = {
            "scheduler": self.scheduler,
            "tracker_base": str(self.root / "tracker"),
            "scheduler_args": {"max_parallel": 50, "term_grace": 1} if self.scheduler == "local_detached" else {},
        }
        return {
            "AIRFLOW_HOME": str(self.root),
            "AIRFLOW__AXTX__INSTALLATION": "here",
            # No scheduler reads the end of a deferred task's process here.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
            "AIRFLOW_CONN_AX_DEFAULT": json.dumps(_connection(self.url)),
            "AIRFLOW_CONN_TORCHX_DEFAULT": json.dumps({"conn_type": "torchx", "extra": settings}),
            **(self.cluster.environment() if self.scheduler == "fake" else {}),
        }

    @property
    def gate(self) -> Path:
        """Apps wait for this file before they finish."""
        return self.root / "gate"

    def let_finish(self) -> None:
        """Let the apps finish that want to; those of the fake scheduler that are submitted by now."""
        self.gate.touch()
        if self.scheduler == "fake":
            cluster = self.cluster
            for app_id, app in cluster.apps().items():
                if app["state"] in _UNFINISHED:
                    cluster.set_state(app_id, _play_app(app["roles"][0]["args"]))

    def supervisor(self, run: Mapping[str, Any]) -> int:
        """Return the pid of the process that supervises a run's app on ``local_detached``."""
        app_id = run["app_handle"].rpartition("/")[2]
        return int(json.loads((self.root / "axtx" / "apps" / app_id / "started.json").read_text())["pid"])

    def starts(self) -> Counter[str]:
        """Return how often an app was really started, by its submission key."""
        if self.scheduler == "fake":
            return Counter(app["name"] for app in self.cluster.apps().values())
        file = self.root / "starts"
        return Counter(line.split()[0] for line in file.read_text().splitlines()) if file.exists() else Counter()

    def processes(self) -> list[int]:
        """Return the living processes that belong to this world: supervisors, apps, and what apps have started."""
        mark = str(self.root).encode()
        return [pid for pid in psutil.pids() if _mentions(pid, mark)]

    def kill_remains(self) -> None:
        """Kill what is left running, after it was found."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def findings(self, requested: list[dict[str, Any]], expected: Mapping[int, Expected]) -> Findings:
        """Compare the facts with what they have to be.

        :param requested: the trials as the generating task handed them on.
        :param expected: how each trial, by its index, has to end; ``Expected()`` where none is named.
        """
        found = Findings()
        store = self.store
        trials, runs = store.trials(EXPERIMENT), store.attempts(EXPERIMENT)
        _check_lost(found, trials, requested)
        self._check_left(found, store.open_attempts())
        starts = self.starts()
        found.doubled += [f"{key} was started {times} times" for key, times in starts.items() if times > 1]
        for trial in trials:
            own = [run for run in runs if run.trial_index == trial.index]
            self._check_end(found, trial, own, expected.get(trial.index, Expected()), starts)
        store.close()
        return found

    def _check_left(self, found: Findings, open_attempts: list[AttemptRecord]) -> None:
        found.open += [f"the attempt {attempt.submission_key} is open" for attempt in open_attempts]
        if self.scheduler == "fake":
            apps = self.cluster.apps().items()
            found.left += [f"{app_id} is {app['state']}" for app_id, app in apps if app["state"] in _UNFINISHED]
        # A supervisor lives on for an instant after it has recorded the end of its app.
        if not until(lambda: not self.processes(), _LEAVING_SECONDS):
            found.left += [f"process {pid}: {_command(pid)}" for pid in self.processes()]

    def _check_end(
        self, found: Findings, trial: TrialRecord, runs: list[AttemptRecord], expected: Expected, starts: Counter[str]
    ) -> None:
        name = f"trial {trial.index}"
        if len(runs) > expected.attempts:
            found.doubled.append(f"{name} has {len(runs)} runs, at most {expected.attempts} are allowed")
        if trial.status not in expected.statuses:
            found.wrong.append(f"{name} is {trial.status} ({trial.reason}), not {' or '.join(expected.statuses)}")
        elif trial.status != "COMPLETED" and expected.reason not in (trial.reason or ""):
            found.wrong.append(f"{name} is {trial.status} because of {trial.reason!r}, not {expected.reason!r}")
        observed = [(o.metric, o.mean) for o in self.store.observations(EXPERIMENT, trial.index)]
        reported = [("loss", trial.parameters["x"])] if trial.status == "COMPLETED" else []
        if observed != reported:
            found.wrong.append(f"{name} ({trial.status}) has the observations {observed}, not {reported}")
        if trial.status == "COMPLETED" and not (runs and starts[runs[-1].submission_key]):
            found.wrong.append(f"{name} is COMPLETED although its app was never started")


def _check_lost(found: Findings, trials: list[TrialRecord], requested: list[dict[str, Any]]) -> None:
    stored = {trial.index: trial.parameters for trial in trials}
    if sorted(stored) != list(range(len(stored))):
        found.lost.append(f"the indexes have gaps: {sorted(stored)}")
    asked = {trial["trial_index"]: trial["parameters"] for trial in requested}
    found.lost += [f"trial {i} was requested but is not in the store" for i in asked if stored.get(i) != asked[i]]
    found.lost += [f"trial {i} was generated but nobody got it" for i in stored.keys() - asked.keys()]
    open_statuses = ("CANDIDATE", "STAGED", "RUNNING")
    found.open += [f"trial {trial.index} is {trial.status}" for trial in trials if trial.status in open_statuses]


def until(condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Return the first true value of the condition, or None after the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)
    return value


def _connection(url: str) -> dict[str, Any]:
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    place = {"login": parsed.username, "password": parsed.password, "host": parsed.host, "port": parsed.port}
    extra = {"drivername": parsed.drivername}
    return {"conn_type": "ax", "schema": parsed.database, "extra": extra, **{k: v for k, v in place.items() if v}}


def _play_app(args: list[str]) -> str:
    _script, x, trial_index, tracker_base, _folder, mode = args
    if mode in ("sleep", "fail"):
        return "RUNNING" if mode == "sleep" else "FAILED"
    result = Path(tracker_base, trial_index)
    result.parent.mkdir(parents=True, exist_ok=True)
    if mode != "silent":
        result.write_text(json.dumps({"loss": float(x)}))
    return "SUCCEEDED"


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is another user's
        return b""


def _mentions(pid: int, mark: bytes) -> bool:
    return mark in _read(pid, "environ") or mark in _read(pid, "cmdline")


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")


def passages(record: Path) -> Iterator[tuple[str, int, int]]:
    """Yield (point, passage, pid) for everything in a record, in order; passages count from 1 in each process."""
    counted: Counter[tuple[str, int]] = Counter()
    for line in record.read_text().splitlines() if record.exists() else ():
        name, pid = line.split()
        counted[name, int(pid)] += 1
        yield name, counted[name, int(pid)], int(pid)
