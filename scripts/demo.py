"""Tune a model with a real Airflow on this machine: start it, run the DAG `tune_digits`, show the trials, stop it.

Exits with 0 when the DAG run succeeded and enough trials have ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from realairflow import AirflowApi, AirflowEnv, AirflowEnvError, ApiError, RunFailed

if TYPE_CHECKING:
    from airflow_provider_axtx.core.records import Observation, TrialRecord
    from airflow_provider_axtx.store.experiments import ExperimentStore

ROOT = Path(__file__).resolve().parents[1]
DAG_ID = "tune_digits"
METRIC = "accuracy"
MIN_TRIALS = 12
RUN_SECONDS = 900
LOOK_SECONDS = 1


def demo_env() -> AirflowEnv:
    """Return the Airflow of the demo, not started yet; its home is the folder `.airflow` of the project."""
    return AirflowEnv(ROOT / ".airflow", ROOT / "dags", warm_workers=True)


def stop_on_signals() -> None:
    """Make SIGTERM and SIGHUP do what Ctrl-C does, so that Airflow is stopped with us.

    SIGINT too: a shell starts background jobs with it ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        print("\nStopping Airflow ...", file=sys.stderr)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def main() -> int:
    """Run the demo and return the exit code."""
    stop_on_signals()
    began = time.monotonic()
    try:
        print("Starting Airflow (about 20 seconds) ...", flush=True)
        with demo_env() as env:
            print(f"Airflow is ready at {env.url} (user {env.username}, password {env.password}).", flush=True)
            ended = Demo(env).run()
        print(f"Airflow is stopped. {time.monotonic() - began:.0f} seconds in all.")
    except KeyboardInterrupt:
        print("Interrupted; Airflow is stopped.", file=sys.stderr)
        return 130
    except (AirflowEnvError, ApiError, RunFailed, TimeoutError) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1
    if ended < MIN_TRIALS:
        print(f"Only {ended} trials have ended; {MIN_TRIALS} were expected.", file=sys.stderr)
        return 1
    return 0


class Demo:
    """One run of the DAG, followed on the screen."""

    def __init__(self, env: AirflowEnv) -> None:
        self.env = env
        self.api: AirflowApi = env.api
        self.shown: set[int] = set()
        # The hook finds the store of this Airflow as a task does: through its environment.
        os.environ.update(env.environ())

    @cached_property
    def store(self) -> ExperimentStore:
        """The experiment store, through the hook as in a task."""
        from airflow_provider_axtx.hooks.ax import AxHook

        return AxHook().store

    def run(self) -> int:
        """Trigger the DAG, print its trials as they end and its result, and return how many trials have ended."""
        for left in self.api.unfinished_runs(DAG_ID):
            self.api.set_run_state(DAG_ID, left, "failed")
            print(f"The run {left} of an interrupted demo is marked as failed.")
        run_id = self.api.trigger(DAG_ID)
        print(f"DAG run {DAG_ID} {run_id}\n\n{'trial':>5}  {'status':<10} {METRIC:<18} parameters", flush=True)
        deadline = time.monotonic() + RUN_SECONDS
        while self.api.dag_run(DAG_ID, run_id)["state"] in ("queued", "running"):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the run has not ended after {RUN_SECONDS} s: {self.api.task_states(DAG_ID, run_id)}"
                )
            self.show_trials(run_id)
            time.sleep(LOOK_SECONDS)
        self.show_trials(run_id)
        self.api.wait_for_run(DAG_ID, run_id)
        self.show_result(run_id)
        return len(self.shown)

    def show_trials(self, run_id: str) -> None:
        """Print the trials that have ended since the last call, from the experiment store."""
        from airflow_provider_axtx.core.status import is_terminal_trial_status

        try:
            experiment = self.api.xcom(DAG_ID, run_id, "tune.create")
        except ApiError as error:
            if error.status == 404:
                return  # the experiment is not created yet
            raise
        for trial in self.store.trials(experiment):
            if trial.index not in self.shown and is_terminal_trial_status(trial.status):
                self.shown.add(trial.index)
                print(trial_line(trial, self.store.observations(experiment, trial.index)), flush=True)

    def show_result(self, run_id: str) -> None:
        """Print what the DAG found, and where to look."""
        best: dict[str, Any] = self.api.xcom(DAG_ID, run_id, "best")
        print(f"\nBest: trial {best['trial_index']} with {parameters_text(best['parameters'])}")
        print(f"Accuracy on held-out images: {self.api.xcom(DAG_ID, run_id, 'final_fit'):.4f}")
        print(f"\nTask logs:  {self.env.paths.logs}\nTrials:     {self.env.paths.home / 'axtx'}")
        print("In the browser: make serve", flush=True)


def trial_line(trial: TrialRecord, observations: list[Observation]) -> str:
    """Return the line of the table for a trial that has ended."""
    found = next((each for each in observations if each.metric == METRIC and each.step is None), None)
    value = "-" if found is None else f"{found.mean:.4f} +- {found.sem:.4f}" if found.sem else f"{found.mean:.4f}"
    reason = f"  ({trial.reason})" if trial.reason else ""
    return f"{trial.index:>5}  {trial.status:<10} {value:<18} {parameters_text(trial.parameters)}{reason}"


def parameters_text(parameters: dict[str, Any]) -> str:
    """Return parameters on one line, floats with four digits."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in parameters.items()
    )


if __name__ == "__main__":
    sys.exit(main())
