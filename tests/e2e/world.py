"""A real Airflow with the DAGs of ``dags_faults``, its experiment store and its apps, for the fault tests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from realairflow import AirflowEnv, poll, processes

from airflow_provider_axtx.core.records import AttemptRecord, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.launcher.local_detached.scheduler import LocalDetachedScheduler
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.fakes.airflow_output import json_printed

#: Seconds; a wait ends as soon as what it waits for is there, so that a slow machine only makes the tests slower.
LONG = 300.0
DAGS = Path(__file__).parent / "dags_faults"
CASES = Path(__file__).parent / "dags_cases"
#: Creates an empty database for an Airflow's own tables, and returns its SQLAlchemy URL.
NewDatabase = Callable[[], str]

# The apps of these tests only wait: all may run at once, on a machine of any size.
_MANY_SLOTS = json.dumps({"conn_type": "torchx", "extra": {"scheduler_args": {"max_parallel": 50}}})


@dataclass(frozen=True)
class Scenario:
    """One DAG run, with the experiment of it and the folder through which its apps are counted and let go."""

    world: World
    dag_id: str
    run_id: str
    folder: Path
    experiment: str

    def part(self, name: str) -> Scenario:
        """Return what belongs to one of several experiments of the DAG run."""
        return replace(self, folder=self.folder / name, experiment=f"{self.experiment}-{name}")

    def let_go(self, trial: int | None = None) -> None:
        """Let all its apps end, also those that start later, or those of one trial."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / ("go" if trial is None else f"go-{trial}")).touch()

    def started(self) -> list[tuple[int, int]]:
        """Return (trial index, pid) of every app that was ever started, in that order."""
        file = self.folder / "starts"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(int(trial), int(pid)) for trial, pid in map(str.split, lines)]

    def starts(self) -> dict[int, int]:
        """Return how often the app of each trial was started."""
        return dict(Counter(trial for trial, _ in self.started()))

    def await_starts(self, count: int) -> list[tuple[int, int]]:
        """Wait until ``count`` apps were started."""

        def look() -> list[tuple[int, int]] | None:
            return found if len(found := self.started()) >= count else None

        return poll(look, LONG, lambda: f"{count} apps, not {self.started()}; {self.states()}")

    def trials(self) -> list[TrialRecord]:
        """Return its trials as recorded."""
        return self.world.store.trials(self.experiment)

    def statuses(self) -> dict[int, str]:
        """Return the status of each trial."""
        return {trial.index: trial.status for trial in self.trials()}

    def runs(self) -> list[AttemptRecord]:
        """Return the recorded attempts of its trials."""
        return self.world.store.attempts(self.experiment)

    def app_states(self) -> list[str]:
        """Return what the scheduler says of the app of each attempt."""
        keys = [run.submission_key for run in self.runs()]
        seen = self.world.scheduler.describe_many(keys)
        return [seen[key].app_state for key in keys]

    def await_app_states(self, expected: list[str]) -> None:
        """Wait until the scheduler says this of the apps, and no process of an ended one is left."""
        poll(lambda: self.app_states() == expected or None, LONG, lambda: f"{expected}, not {self.app_states()}")

    def living(self) -> list[int]:
        """Return the pids of its apps that still run."""
        return [pid for _, pid in self.started() if psutil.pid_exists(pid) and processes.lives(psutil.Process(pid))]

    def states(self) -> dict[str, str | None]:
        """Return the state of each of its task instances."""
        return self.world.env.api.task_states(self.dag_id, self.run_id)

    def await_task(self, task_id: str, *states: str, map_index: int = 0) -> dict[str, Any]:
        """Wait until the task instance is in one of the states."""
        return self.world.env.api.wait_for_task(self.dag_id, self.run_id, task_id, states, LONG, map_index)

    def await_trigger(self, task_id: str, map_index: int = 0) -> None:
        """Wait until the triggerer runs the task's trigger: only then does Airflow tell a trigger that it is ended."""
        self.await_task(task_id, "deferred", map_index=map_index)
        poll(lambda: ") starting" in self.log(task_id, map_index) or None, LONG, "the triggerer to run the trigger")

    def tries(self, task_id: str) -> list[int]:
        """Return the number of the last try of each instance of the task."""
        found = self.world.env.api.task_instances(self.dag_id, self.run_id, task_id)
        return [ti["try_number"] for ti in sorted(found, key=lambda ti: ti["map_index"])]

    def log(self, task_id: str, map_index: int = 0, try_number: int | None = None) -> str:
        """Return the log of a task instance."""
        return self.world.env.api.task_log(self.dag_id, self.run_id, task_id, map_index, try_number)

    def await_end(self, expect: str | None = "success") -> str:
        """Wait until the DAG run has ended, and return how."""
        return str(self.world.env.api.wait_for_run(self.dag_id, self.run_id, LONG, expect)["state"])

    def cancelled(self) -> list[AttemptRecord]:
        """Return its attempts whose cancellation was asked for."""
        return [attempt for attempt in self.runs() if attempt.cancel_requested_at is not None]

    def await_settled(self) -> None:
        """Wait until no app of its runs and each of its trials has ended, without anything else being done."""

        def look() -> bool | None:
            return (not self.living() and not self.left_open()) or None

        poll(look, LONG, lambda: f"the end of {self.living()}, {self.left_open()}; {self.states()}")

    def await_attempts_ended(self) -> None:
        """Wait until none of its trials is open and the end of each of its attempts is recorded."""
        poll(lambda: not self.left_open() or None, LONG, lambda: f"the end of {self.left_open()}; {self.states()}")

    def left_open(self) -> list[str]:
        """Return its trials that have not ended, and its attempts whose end is not recorded."""
        trials = [f"trial {t.index} {t.status}" for t in self.trials() if not is_terminal_trial_status(t.status)]
        return trials + [f"attempt {a.submission_key}" for a in self.runs() if a.finished_at is None]

    def assert_completed(self, trials: int) -> None:
        """Assert that each of its trials was run once, to its end, and nothing of it is left."""
        assert self.statuses() == dict.fromkeys(range(trials), "COMPLETED")
        assert self.starts() == dict.fromkeys(range(trials), 1)
        assert self.cancelled() == []
        assert self.left_open() == []
        assert self.living() == []

    def fail(self) -> None:
        """Mark the DAG run as failed, as a user does."""
        self.world.env.api.set_run_state(self.dag_id, self.run_id, "failed")


class World:
    """What a fault test works with; ``folder`` is the place for what the scenarios leave."""

    def __init__(self, env: AirflowEnv, folder: Path, store_url: str | None = None) -> None:
        self.env = env
        self.store = ExperimentStore(store_url or f"sqlite:///{env.paths.home / 'axtx' / 'experiments.db'}")
        self.apps = env.paths.home / "axtx" / "apps"
        self.scheduler = LocalDetachedScheduler("torchx", self.apps)
        self._folder = folder
        self._runs = 0

    def scenario(
        self,
        dag_id: str,
        *,
        held: bool = False,
        experiment: str | None = None,
        run_id: str | None = None,
        **params: Any,
    ) -> Scenario:
        """Start a run of a DAG; ``held`` keeps its submit tasks inside the component.

        :param experiment: its name where several DAG runs share it. They share the folder then: all trials of an
            experiment must run the same app.
        :param run_id: of the DAG run; a new one by default.
        """
        self._runs += 1
        name = f"{dag_id}-{self._runs}"
        folder = self._folder / (experiment or name)
        folder.mkdir(exist_ok=experiment is not None)
        if held:
            (folder / "hold").touch()
        run_id = run_id or name
        self.env.api.trigger(dag_id, {"folder": str(folder), **params}, run_id=run_id, timeout=LONG)
        return Scenario(self, dag_id, run_id, folder, experiment or f"{dag_id}-{run_id}")

    @property
    def shared(self) -> Path:
        """The folder of DAG runs that Airflow makes by itself."""
        return self._folder.parent / "shared"

    def of(self, run: Scenario, experiment: str) -> Scenario:
        """Return the DAG run with another experiment than the one of its name."""
        return replace(run, experiment=experiment)

    def experiments(self, prefix: str) -> list[str]:
        """Return the names of the recorded experiments that begin so."""
        return [found.name for found in self.store.summaries() if found.name.startswith(prefix)]

    def airflow_json(self, *arguments: str) -> Any:
        """Run an ``airflow`` command with ``-o json`` and return what it printed."""
        return json_printed(self.env.airflow(*arguments, "-o", "json"))


@contextmanager
def fault_world(
    folder: Path,
    metadata_url: str,
    dags: Path = DAGS,
    *,
    environ: Mapping[str, str] | None = None,
    store_url: str | None = None,
    options: Mapping[str, str] | None = None,
    warm_workers: bool = True,
) -> Iterator[World]:
    """Run a real Airflow below ``folder`` with its default settings, with the fault DAGs or others.

    :param metadata_url: an empty database for Airflow's own tables.
    :param options: Airflow options that the tests are about.
    :param warm_workers: tasks find Ax imported, as ``docs/performance.md`` recommends: most of a test's time would go
        into its import otherwise.
    :param environ: connections other than the embedded scheduler and store; ``store_url`` is of the same store.
    """
    environ = {"AIRFLOW_CONN_TORCHX_DEFAULT": _MANY_SLOTS, **(environ or {})}
    home, scenarios = folder / "home", folder / "scenarios"
    (home / "axtx").mkdir(parents=True)
    scenarios.mkdir()
    with AirflowEnv(
        home, dags, metadata_url=metadata_url, environ=environ, options=options, warm_workers=warm_workers
    ) as env:
        yield World(env, scenarios, store_url)
