"""Ten experiments for an hour, while every process is killed: ``python -m tests.soak [--seconds 3600] [--seed N]``.

A real Airflow with its own tables and the experiment store in PostgreSQL. Every few seconds something happens at
random: a component, the process of a task, or a supervisor or app is killed; the database is restarted; a user pauses
and resumes an experiment, or stops a trial, through the REST API. In between memory, threads, open files, connections,
rows and files are measured. At the end no app may live, no trial may be open, and no attempt may have been started
twice. The exit code is 1 if one of these has happened.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import psycopg
from realairflow import AirflowEnv, AirflowEnvError, ApiError, poll, processes

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.engines.postgres import LOGIN, PostgresServer
from tests.soak.samples import COMPONENTS, Samples

DAGS = Path(__file__).with_name("dags")
APP = str(Path(__file__).with_name("app.py"))
EXPERIMENTS = 10
#: Seconds between two events, and between two samples.
EVENT_SECONDS = 20.0
SAMPLE_SECONDS = 30.0
#: How long the experiments may take to end after their time.
END_SECONDS = 900.0


class Soak:
    """One soak.

    :param env: the Airflow.
    :param server: the database server of Airflow's tables and of the store.
    :param store: the experiment store.
    :param folder: where the apps note their starts.
    :param chance: what decides at random.
    """

    def __init__(
        self, env: AirflowEnv, server: PostgresServer, store: ExperimentStore, folder: Path, chance: random.Random
    ) -> None:
        self.env, self.server, self.store, self.folder, self.chance = env, server, store, folder, chance
        self.events: Counter[str] = Counter()
        self.runs = [f"run-{number}" for number in range(EXPERIMENTS)]

    def start(self, seconds: float) -> None:
        """Start an experiment for each DAG run."""
        for run_id in self.runs:
            self.env.api.trigger("soak", {"seconds": seconds}, run_id=run_id, timeout=300)

    # Events

    def disturb(self) -> None:
        """Let one thing happen."""
        kills = [self.kill_component, self.kill_task, self.kill_app] * 3
        users = [self.pause_and_resume, self.stop_trial] * 2
        event = self.chance.choice([*kills, *users, self.restart_database])
        self.events[event()] += 1

    def kill_component(self) -> str:
        """Kill a component with its tasks, and start it again."""
        name = self.chance.choice(COMPONENTS)
        self.env.kill_tree(name)
        self.env.start(name)
        self.revive()
        return f"{name} killed"

    def kill_task(self) -> str:
        """Kill a process that the scheduler has started."""
        session = self.env.pid("scheduler")
        found = [each for each in processes.find(processes.in_session(session)) if each.pid != session]
        return self._kill(found, "process of a task or of the executor killed")

    def kill_app(self) -> str:
        """Kill a supervisor or an app."""
        apps = self._apps()
        supervisors = [parent for app in apps if (parent := app.parent()) is not None and parent.pid > 1]
        return self._kill([*apps, *supervisors], "app or supervisor killed")

    def _kill(self, found: list[psutil.Process], name: str) -> str:
        if not found:
            return f"{name}: none was there"
        processes.send([self.chance.choice(found)], signal.SIGKILL)
        return name

    def restart_database(self) -> str:
        """Cut every connection for some seconds."""
        self.server.stop(crash=self.chance.random() < 0.5)
        time.sleep(self.chance.uniform(0, 5))
        self.server.start()
        self.revive()
        return "database restarted"

    def revive(self) -> None:
        """Start components that have ended: Airflow's own do when their database is away for long."""
        for name in COMPONENTS:
            try:
                self.env.start(name)
                self.events[f"{name} started again"] += 1
            except AirflowEnvError:
                continue  # it runs
        self.env.wait_ready(timeout=300)

    def pause_and_resume(self) -> str:
        """Pause an experiment, and resume it a little later."""
        name = f"soak-{self.chance.choice(self.runs)}"
        for state in ("pause", "run"):
            self._ask("PATCH", f"/experiments/{name}", {"state": state, "reason": "soak"})
            time.sleep(2)
        return "paused and resumed by a user"

    def stop_trial(self) -> str:
        """Stop a running trial."""
        name = f"soak-{self.chance.choice(self.runs)}"
        trials = self.store.trials(name) if name in {found.name for found in self.store.summaries()} else []
        running = [trial.index for trial in trials if trial.status == "RUNNING"]
        if not running:
            return "trial stopped by a user: none was running"
        self._ask("POST", f"/experiments/{name}/trials/{self.chance.choice(running)}/stop", {"reason": "soak"})
        return "trial stopped by a user"

    def _ask(self, method: str, path: str, body: dict[str, str]) -> None:
        login = {"username": self.env.username, "password": self.env.password}
        with httpx.Client(base_url=self.env.url, timeout=60, trust_env=False) as client:
            token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": uuid.uuid4().hex}
            answer = client.request(method, f"/axtx/v1{path}", json=body, headers=headers)
        if answer.status_code not in (202, 404, 409):
            self.events[f"{method} answered {answer.status_code}: {answer.text[:200]}"] += 1

    # The end

    def await_end(self) -> list[str]:
        """Wait until the DAG runs have ended, end what is left as an operator does, and return what is wrong."""
        wrong = []
        for run_id in self.runs:
            try:
                state = self.env.api.wait_for_run("soak", run_id, END_SECONDS, expect=None)["state"]
            except TimeoutError as error:
                state = str(error)
            if state != "success":
                wrong.append(f"{run_id} ended as {state}")
        self.env.airflow("ax", "reap")
        poll(lambda: not self._open() or None, 120, lambda: f"{self._open()}")
        doubled = [base for base, count in Counter(line.split()[0] for line in self._starts()).items() if count > 1]
        wrong += [f"started twice: {base}" for base in doubled] + [f"still running: {app}" for app in self._apps()]
        recorded = {attempt.tracker_base for name in self._names() for attempt in self.store.attempts(name)}
        lost = {line.split()[0] for line in self._starts()} - recorded
        return wrong + [f"started and not recorded: {base}" for base in sorted(lost)]

    def _names(self) -> list[str]:
        return [found.name for found in self.store.summaries()]

    def _open(self) -> list[str]:
        trials = [(name, trial) for name in self._names() for trial in self.store.trials(name)]
        return [f"{name}/{trial.index}" for name, trial in trials if not is_terminal_trial_status(trial.status)]

    def _apps(self) -> list[psutil.Process]:
        """Return the apps that live.

        They are not looked up by the pids that they noted: in an hour, the system gives a pid to another process.
        """
        return processes.find(lambda process: {APP, str(self.folder)} <= {*process.cmdline()})

    def _starts(self) -> list[str]:
        file = self.folder / "starts"
        return file.read_text().splitlines() if file.exists() else []

    def statuses(self) -> Counter[str]:
        """Return how many trials have each status."""
        return Counter(trial.status for name in self._names() for trial in self.store.trials(name))


def repeated(action: Callable[[], None], trouble: Counter[str]) -> None:
    """Do something that a disturbed Airflow or database may refuse at the moment; count the refusals."""
    try:
        action()
    except (httpx.HTTPError, ApiError, AirflowEnvError, AxtxError, psycopg.Error, psutil.Error, OSError) as error:
        trouble[type(error).__name__] += 1


def soak(soaked: Soak, samples: Samples, seconds: float, conninfo: str) -> None:
    """Disturb and measure for a time."""
    begun, sampled = time.monotonic(), 0.0
    soaked.start(seconds)
    while (now := time.monotonic() - begun) < seconds:
        repeated(soaked.disturb, soaked.events)
        if now - sampled >= SAMPLE_SECONDS:
            repeated(lambda at=now: samples.take(at, conninfo), soaked.events)  # type: ignore[misc]
            sampled = now
        time.sleep(EVENT_SECONDS * soaked.chance.uniform(0.3, 1.7))
    repeated(soaked.revive, soaked.events)
    soaked.revive()


def main() -> int:
    """Run a soak and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long the experiments run")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of what happens at random")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:.0f} s", flush=True)
    server = PostgresServer()
    try:
        server.start()
        metadata, database = server.new_database(), server.new_database()
        connection = {"conn_type": "ax", "host": "127.0.0.1", "port": server.port, "login": LOGIN, "schema": database}
        connection |= {"password": server.password, "extra": {"drivername": "postgresql+psycopg"}}
        with tempfile.TemporaryDirectory(prefix="axtx-soak-") as name:
            folder = Path(name)
            environ = {
                "AXTX_SOAK_FOLDER": str(folder),
                "AIRFLOW_CONN_AX_DEFAULT": json.dumps(connection),
                "AIRFLOW_CONN_TORCHX_DEFAULT": json.dumps(
                    {"conn_type": "torchx", "extra": {"scheduler_args": {"max_parallel": 50}}}
                ),
            }
            url = server.url(metadata)
            with AirflowEnv(folder / "home", DAGS, metadata_url=url, environ=environ, warm_workers=True) as env:
                soaked = Soak(env, server, ExperimentStore(server.url(database)), folder, random.Random(options.seed))
                samples = Samples(env, folder / "home")
                soak(soaked, samples, options.seconds, server.url(database).replace("+psycopg", ""))
                wrong = soaked.await_end()
                print(samples.table())
                print("\n".join(f"{count:5} {what}" for what, count in sorted(soaked.events.items())))
                print(f"trials: {dict(soaked.statuses())}; apps started: {len(soaked._starts())}")
    finally:
        server.remove()
    print("\n".join(wrong) or "nothing was lost, doubled or left")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
