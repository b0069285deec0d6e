"""Apps on this machine: ``local_detached`` against TorchX's ``local_cwd`` and submitit's local executor."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchx import specs

from benchmarks.harness import REPEATS, Report, Samples, Table, interleaved, timed

SLOTS = 2
_LOOK_SECONDS = 0.02


def app(seconds: float = 0.0) -> specs.AppDef:
    """Sleep.

    Args:
        seconds: for how long
    """
    role = specs.Role(
        name="app",
        image="",
        entrypoint="sleep",
        args=[str(seconds)],
        resource=specs.Resource(cpu=1, gpu=0, memMB=10),
    )
    return specs.AppDef(name="app", roles=[role])


class Detached:
    """``local_detached``, through the launcher that the operators use."""

    def __init__(self, folder: Path) -> None:
        from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

        os.environ["AXTX_LOCAL_ROOT"] = str(folder / "apps")
        self._launcher = TorchXLauncher("local_detached", scheduler_args={"max_parallel": SLOTS})
        self._folder, self._number = folder, 0

    def submit(self, seconds: float = 0.0) -> str:
        """Submit an app, which waits in the queue for a slot."""
        self._number += 1
        plan = self._launcher.plan(
            app,
            {},
            {"seconds": seconds},
            trial_index=self._number,
            experiment="bench",
            tracker_base=str(self._folder / "tracker"),
            submission_key=f"bench-{self._number}",
        )
        return self._launcher.submit(plan)

    def ended(self, handles: list[Any]) -> int:
        """Return how many of the apps have ended."""
        return sum(seen.is_terminal for seen in self._launcher.observe(handles).values())


class Cwd:
    """TorchX's own local scheduler, whose apps end with this process."""

    def __init__(self, folder: Path) -> None:
        from torchx.runner import get_runner

        self._runner, self._folder = get_runner("bench"), folder

    def submit(self, seconds: float = 0.0) -> str:
        """Start an app at once."""
        return str(self._runner.run(app(seconds), "local_cwd", {"log_dir": str(self._folder / "logs")}))

    def ended(self, handles: list[Any]) -> int:
        """Return how many of the apps have ended."""
        states = [self._runner.status(handle) for handle in handles]
        return sum(status is not None and status.is_terminal() for status in states)


class Submitit:
    """submitit's local executor, whose jobs also outlive the process."""

    def __init__(self, folder: Path) -> None:
        import submitit

        self._executor = submitit.LocalExecutor(folder / "submitit")
        self._command = submitit.helpers.CommandFunction

    def submit(self, seconds: float = 0.0) -> Any:
        """Start a job at once."""
        return self._executor.submit(self._command(["sleep", str(seconds)], verbose=False))

    def ended(self, handles: list[Any]) -> int:
        """Return how many of the jobs have ended."""
        return sum(job.done(force_check=True) for job in handles)


def _finish(side: Any, handles: list[Any]) -> None:
    while side.ended(handles) < len(handles):
        time.sleep(_LOOK_SECONDS)


def _all_at_once(side: Any, number: int, seconds: float) -> None:
    _finish(side, [side.submit(seconds) for _ in range(number)])


def _two_at_a_time(side: Any, number: int, seconds: float) -> None:
    """Run at most ``SLOTS`` apps at once, for a scheduler without a queue."""
    running: list[Any] = []
    for _ in range(number):
        while len(running) >= SLOTS:
            running = [handle for handle in running if not side.ended([handle])]
            if len(running) >= SLOTS:
                time.sleep(_LOOK_SECONDS)
        running.append(side.submit(seconds))
    _finish(side, running)


def _latencies(side: Any) -> tuple[float, float]:
    started = time.perf_counter()
    handle = side.submit()
    submitted = time.perf_counter() - started
    looked = timed(lambda: side.ended([handle]))
    _finish(side, [handle])
    return submitted, looked


def run(quick: bool) -> Report:
    """Measure latencies, and the time of many apps on two slots."""
    report = Report("local_scheduler", quick)
    number, seconds = (20, 0.1) if quick else (200, 0.1)
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        sides = {
            "local_detached": Detached(Path(folder)),
            "local_cwd, one process": Cwd(Path(folder)),
            "submitit local": Submitit(Path(folder)),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(1 + REPEATS):
            for name, side in sides.items():
                found[name].append(_latencies(side))
        ways: dict[str, Callable[[], object]] = {
            name: functools.partial(_all_at_once if name == "local_detached" else _two_at_a_time, side, number, seconds)
            for name, side in sides.items()
        }
        queue = interleaved(
            {name: functools.partial(timed, way) for name, way in ways.items()}, 1 if quick else REPEATS
        )
    table = Table(
        f"Apps on one machine; {number} apps of {seconds:g} s on {SLOTS} slots",
        ["scheduler", "submit", "status", f"{number} apps", "overhead per app and slot"],
    )
    for name, measured in found.items():
        submit, status = (
            report.add(f"{name}: {what}", Samples(tuple(one[k] for one in measured[1:])))
            for k, what in enumerate(("submit", "status"))
        )
        whole = report.add(f"{name}: queue", queue[name])
        overhead = whole.median * SLOTS / number - seconds
        shown = [submit.shown("ms"), status.shown("ms"), whole.shown(), f"{overhead * 1e3:.0f} ms"]
        table.rows.append([name, *shown])
    report.tables.append(table)
    report.notes.append(
        "local_detached has a queue of its own, and its apps outlive the submitter. local_cwd and submitit start every "
        "app at once, so this process starts at most two at a time and must live until the last one has started."
    )
    return report
