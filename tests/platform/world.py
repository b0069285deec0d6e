"""What the platform's tests work with: DAG runs whose apps wait until they are let go; what is counted of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from realairflow import poll, processes

from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.engines.airflow_cluster import AirflowCluster

#: Seconds; longer than any of Airflow's default timeouts. A wait ends as soon as what it waits for is there.
LONG = 700.0


@dataclass(frozen=True)
class Row:
    """What became of the trials of one scenario, and how long it took until its DAG runs had ended."""

    scenario: str
    trials: int
    lost: int
    doubled: int
    running: int
    open: int
    seconds: float

    @property
    def faults(self) -> tuple[int, int, int, int]:
        """How many trials were lost, doubled, left running and left open."""
        return self.lost, self.doubled, self.running, self.open


@dataclass(frozen=True)
class Run:
    """One DAG run with its experiment, and the folder through which its apps are counted and let go."""

    world: World
    dag_id: str
    run_id: str
    folder: Path
    experiment: str
    expected: int

    def let_go(self) -> None:
        """Let all its apps end, also those that start later."""
        (self.folder / "go").touch()

    def release(self) -> None:
        """Let its submit tasks, which were held inside the component, go on."""
        (self.folder / "hold").unlink()

    def await_held(self) -> None:
        """Wait until a submit task is inside the component."""
        poll(lambda: (self.folder / "held").exists() or None, LONG, lambda: f"a held task; {self.states()}")

    def started(self) -> list[int]:
        """Return the trial index of every app that was ever started."""
        file = self.folder / "starts"
        return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []

    def await_starts(self, count: int) -> None:
        """Wait until so many apps were started."""
        poll(lambda: len(self.started()) >= count or None, LONG, lambda: f"{count} apps; {self.states()}")

    def states(self) -> dict[str, str | None]:
        """Return the state of each of its task instances."""
        return self.world.cluster.api.task_states(self.dag_id, self.run_id)

    def await_task(self, task_id: str, *states: str, map_index: int = -1) -> dict[str, Any]:
        """Wait until the task instance is in one of the states, and return it."""
        return self.world.cluster.api.wait_for_task(self.dag_id, self.run_id, task_id, states, LONG, map_index)

    def await_waiting(self) -> None:
        """Wait until its apps run and its waiting tasks are deferred."""
        self.await_starts(self.expected)
        poll(lambda: "deferred" in self.states().values() or None, LONG, lambda: f"a deferred task; {self.states()}")

    def log(self, task_id: str, map_index: int = -1, try_number: int | None = None) -> str:
        """Return the log of a task instance, as the API server shows it."""
        return self.world.cluster.api.task_log(self.dag_id, self.run_id, task_id, map_index, try_number)

    def tries(self) -> int:
        """Return the highest number of tries of its task instances."""
        return max(ti["try_number"] for ti in self.world.cluster.api.task_instances(self.dag_id, self.run_id))

    def await_tries(self, count: int) -> None:
        """Wait until a task is in its try of that number."""
        poll(lambda: self.tries() >= count or None, LONG, lambda: f"try {count}; {self.states()}")

    def await_tries_of(self, task_id: str, count: int) -> None:
        """Wait until a task that is not mapped is in its try of that number."""

        def look() -> bool | None:
            (found,) = self.world.cluster.api.task_instances(self.dag_id, self.run_id, task_id)
            return found["try_number"] >= count or None

        poll(look, LONG, lambda: f"try {count} of {task_id}; {self.states()}")

    def await_end(self, expect: str | None = "success") -> None:
        """Wait until the DAG run has ended in that state."""
        self.world.cluster.api.wait_for_run(self.dag_id, self.run_id, LONG, expect)

    def has_ended(self) -> bool:
        """Return whether the DAG run has ended."""
        return self.world.cluster.api.dag_run(self.dag_id, self.run_id)["end_date"] is not None

    def ended_at(self) -> float:
        """Return when the DAG run ended, in seconds since the epoch."""
        ended: str = self.world.cluster.api.dag_run(self.dag_id, self.run_id)["end_date"]
        return datetime.fromisoformat(ended).timestamp()

    def attempts(self) -> list[AttemptRecord]:
        """Return the recorded attempts of its trials."""
        return self.world.store.attempts(self.experiment)

    def living(self) -> list[int]:
        """Return the pids of its apps that still run, on whichever host."""
        return [one.pid for one in processes.find(lambda process: str(self.folder) in process.cmdline())]

    def left_open(self) -> list[str]:
        """Return its trials that have not ended, and its attempts whose end is not recorded."""
        trials = self.world.store.trials(self.experiment)
        open_trials = [f"trial {t.index} {t.status}" for t in trials if not is_terminal_trial_status(t.status)]
        return open_trials + [f"attempt {a.submission_key}" for a in self.attempts() if a.finished_at is None]


@dataclass
class World:
    """A cluster, its experiment store, and what was counted so far."""

    cluster: AirflowCluster
    store: ExperimentStore
    rows: list[Row] = field(default_factory=list)
    _runs: int = 0

    def run(self, dag_id: str, trials: int = 1, *, held: bool = False, experiment: str = "", **params: Any) -> Run:
        """Start a run of a DAG.

        :param trials: how many trials it is to complete.
        :param held: keeps its submit tasks inside the component.
        :param experiment: its name where several DAG runs share it: they share the folder then, since all trials of an
            experiment run the same app.
        """
        self._runs += 1
        run_id = f"run-{self._runs}"
        folder = self.cluster.shared / (experiment or run_id)
        folder.mkdir(exist_ok=bool(experiment))
        if held:
            (folder / "hold").touch()
        given = {"folder": str(folder), "trials": trials, "experiment": experiment, **params}
        self.cluster.api.trigger(dag_id, given, run_id=run_id, timeout=LONG)
        return Run(self, dag_id, run_id, folder, experiment or f"{dag_id}-{run_id}", trials)

    def assert_whole(self, scenario: str, runs: Sequence[Run], since: float) -> Row:
        """Wait for the end of the DAG runs; count what became of their trials and assert that nothing is missing.

        :param since: ``time.time()`` at the moment of the event that the scenario is about.
        """
        for run in runs:
            run.await_end()
        row = self.count(scenario, runs, max(run.ended_at() for run in runs) - since)
        assert row.faults == (0, 0, 0, 0), (row, [(run.dag_id, run.run_id, run.left_open()) for run in runs])
        return row

    def count(self, scenario: str, runs: Sequence[Run], seconds: float) -> Row:
        """Count what became of the trials of DAG runs that have ended, and keep it for the table."""
        expected = Counter[str]()
        for run in runs:
            expected[run.experiment] += run.expected
        experiments = {run.experiment: run for run in runs}
        lost = doubled = running = left_open = 0
        for name, run in experiments.items():
            completed = [trial for trial in self.store.trials(name) if trial.status == "COMPLETED"]
            lost += max(0, expected[name] - len(completed))
            doubled += sum(count - 1 for count in Counter(run.started()).values())
            running += len(run.living())
            left_open += len(run.left_open())
        row = Row(scenario, expected.total(), lost, doubled, running, left_open, seconds)
        self.rows.append(row)
        return row


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the table of all scenarios."""
    width = max(len(row.scenario) for row in rows)
    head = f"{'scenario':<{width}}  trials  lost  doubled  left running  left open  seconds"
    lines = [
        f"{r.scenario:<{width}}  {r.trials:6}  {r.lost:4}  {r.doubled:7}  {r.running:12}  {r.open:9}  {r.seconds:7.0f}"
        for r in rows
    ]
    return [head, *lines]
