"""Measures deferred trials in one event loop, as in a triggerer: processor time, loop lag, polls, memory."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import REPEATS, ROOT, Check, Report, Samples, Table

#: Seconds between two polls. The default of the sensor is 10; a shorter interval demands more of the triggerer.
INTERVAL = 2.0
MAX_CPU_SHARE = 0.25
MAX_LAG_SECONDS = 0.2
MAX_MEMORY = 50 * 1024


async def _wait(name: str) -> None:
    from airflow_provider_axtx.triggers.trial import TorchXTrialTrigger

    trigger = TorchXTrialTrigger(
        run={"experiment": "booth", "trial_index": 0, "attempt": 1, "app_handle": f"local_detached://torchx/{name}"},
        scheduler="local_detached",
        submitted_at=time.time(),
        deadline=time.time() + 3600,
        poll_interval=INTERVAL,
        grace_seconds=60.0,
        grace_polls=3,
        ax_conn_id="ax_default",
        torchx_conn_id="torchx_default",
        lookup_options={},
    )
    async for _ in trigger.run():
        raise AssertionError("no app of this benchmark ends")


async def _figures(names: list[str], intervals: int, traced: bool) -> dict[str, Any]:
    process, loop = psutil.Process(), asyncio.get_running_loop()
    if traced:
        tracemalloc.start()
    # The first trigger loads the scheduler's client, once per triggerer. The others show the cost of a further trial.
    waiting = [asyncio.create_task(_wait(names[0]))]
    await asyncio.sleep(INTERVAL + 1)
    memory, _ = tracemalloc.get_traced_memory()
    waiting += [asyncio.create_task(_wait(name)) for name in names[1:]]
    await asyncio.sleep(INTERVAL)
    cpu, started, lags = process.cpu_times(), time.monotonic(), []
    end = loop.time() + INTERVAL * intervals
    while (before := loop.time()) < end:
        await asyncio.sleep(0.01)
        lags.append(loop.time() - before - 0.01)
    after, seconds = process.cpu_times(), time.monotonic() - started
    found = {
        "cpu_share": (after.user + after.system - cpu.user - cpu.system) / seconds,
        "lag": max(lags),
        "memory": (tracemalloc.get_traced_memory()[0] - memory) / max(len(names) - 1, 1),
    }
    for each in waiting:
        each.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    return found


def measure(trials: int, intervals: int, traced: bool) -> dict[str, Any]:
    """Let ``trials`` triggers wait for apps that do not end, and return the figures."""
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from tests.faults.thousand import FakeApps

    looked: list[int] = []
    observe = TorchXLauncher.observe

    def counted(launcher: TorchXLauncher, handles: Any) -> Any:
        looked.append(len(handles))
        return observe(launcher, handles)

    TorchXLauncher.observe = counted  # type: ignore[method-assign]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="axtx-bench-") as folder:
        os.environ["AXTX_LOCAL_ROOT"] = folder
        figures = asyncio.run(_figures(FakeApps(Path(folder), trials).names(), intervals, traced))
    seconds = time.monotonic() - started
    looks = {"observations": len(looked), "a_minute": 60 * len(looked) / seconds, "largest": max(looked)}
    return {**figures, **looks, "seconds": seconds}


def in_own_process(trials: int, intervals: int, *, traced: bool = False) -> dict[str, Any]:
    """Measure in a new process, so that earlier measurements do not affect its memory."""
    command = [sys.executable, "-m", "benchmarks.waiting", str(trials), str(intervals), "traced" if traced else ""]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(quick: bool) -> Report:
    """Measure with growing numbers of waiting trials."""
    report = Report("waiting", quick)
    table = Table(
        f"Deferred trials on local_detached, polled every {INTERVAL:g} s",
        ["trials", "share of a core", "longest block of the event loop", "polls per minute", "memory per trial"],
    )
    sizes = (1000,) if quick else (10, 100, 1000)
    memory = {size: in_own_process(size, 1, traced=True)["memory"] for size in sizes}
    found = {size: [in_own_process(size, 2 if quick else 5) for _ in range(1 if quick else REPEATS)] for size in sizes}
    for size, runs in found.items():
        share, lag, minute = (
            report.add(f"{figure}_{size}", Samples(tuple(one[figure] for one in runs)))
            for figure in ("cpu_share", "lag", "a_minute")
        )
        kilobytes = report.add(f"memory_{size}", Samples((memory[size],))).shown("kB")
        shown = [f"{100 * share.median:.1f} %", lag.shown("ms"), f"{minute.median:.0f}", kilobytes]
        table.rows.append([str(size), *shown])
    report.tables.append(table)
    report.checks += [
        Check("share of a core for 1000 waiting trials", share.median, MAX_CPU_SHARE),
        Check("seconds for which the event loop was blocked", lag.median, MAX_LAG_SECONDS),
        Check("bytes for each of 1000 waiting trials", memory[1000], MAX_MEMORY),
    ]
    report.notes += [
        "Each app is a directory with a held lock, like that of a real supervisor; the observer is the real one.",
        "Memory is what Python has allocated (tracemalloc, in a separate run), including the observer's.",
    ]
    return report


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), bool(sys.argv[3]))))
