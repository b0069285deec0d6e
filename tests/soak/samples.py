"""What a soak measures at intervals, and the table of how it has changed."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path

import psutil
import psycopg
from realairflow import AirflowEnv

#: Components whose processes run until they are killed.
COMPONENTS = ("scheduler", "triggerer", "dag-processor", "api-server")
TABLES = ("axtx_experiments", "axtx_trials", "axtx_runs", "axtx_observations", "axtx_changes")
MEGABYTE = 2**20


class Samples:
    """Values by name, with the seconds at which they were taken.

    :param env: the Airflow whose processes are measured.
    :param folder: the home whose files are counted.
    """

    def __init__(self, env: AirflowEnv, folder: Path) -> None:
        self._env = env
        self._folder = folder
        self._values: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def take(self, now: float, conninfo: str) -> None:
        """Measure once.

        :param now: seconds since the start.
        :param conninfo: the database server with the experiment store.
        """
        for component in COMPONENTS:
            self._take_component(now, component)
        with psycopg.connect(conninfo) as database:
            (connections,) = database.execute("SELECT count(*) FROM pg_stat_activity").fetchone() or (0,)
            self._add(now, "database: connections", connections)
            rows = {name: self._rows(database, name) for name in TABLES}
        for name, count in rows.items():
            self._add(now, f"rows: {name}", count)
        trials = max(1, rows["axtx_trials"])
        self._add(now, "rows of axtx_runs for each trial", rows["axtx_runs"] / trials)
        files = sum(1 for path in (self._folder / "axtx").rglob("*") if path.is_file())
        self._add(now, "files of apps and trackers for each trial", files / trials)
        self._add(now, "supervisors and apps that live", self._living())

    def _rows(self, database: psycopg.Connection, table: str) -> int:
        (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone() or (0,)  # type: ignore[call-overload]
        return int(count)

    def _take_component(self, now: float, component: str) -> None:
        try:
            process = psutil.Process(self._env.pid(component))
            with process.oneshot():
                memory, threads, files = process.memory_info().rss, process.num_threads(), process.num_fds()
        except (KeyError, psutil.Error):
            return  # it is just being killed
        self._add(now, f"{component}: memory in MB", memory / MEGABYTE)
        self._add(now, f"{component}: threads", threads)
        self._add(now, f"{component}: open files", files)

    def _living(self) -> int:
        count = 0
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            count += "local_detached" in words or "soak/app.py" in words
        return count

    def _add(self, now: float, name: str, value: float) -> None:
        self._values[name].append((now, value))

    def table(self) -> str:
        """Return a line for each value: the medians of the first and of the last quarter, and the largest value."""
        lines = [f"{'':<46} {'first quarter':>14} {'last quarter':>13} {'largest':>9}"]
        for name, taken in self._values.items():
            values = [value for _, value in taken]
            quarter = max(1, len(values) // 4)
            first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
            lines.append(f"{name:<46} {first:>14.1f} {last:>13.1f} {max(values):>9.1f}")
        return "\n".join(lines)
