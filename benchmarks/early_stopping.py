"""Measures what early stopping saves: the same experiment with and without it, as processes on ``local_detached``.

``python -m benchmarks.early_stopping`` prints a table over 10 seeds. The exit code is 1 when a claim does not hold. By
default both sides try the same points (``--method random_search``), so that only the stopping differs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchx import specs

from airflow_provider_axtx.core.app_observation import LostAppPolicy
from airflow_provider_axtx.core.errors import TrialsPendingError
from airflow_provider_axtx.core.keys import tracker_step_key
from airflow_provider_axtx.core.records import AttemptRecord, TaskIdentity
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.launcher.tracker import list_steps
from airflow_provider_axtx.lifecycle.attempts import await_end, poll_attempt
from airflow_provider_axtx.lifecycle.complete import complete_trial, conclude, finalize
from airflow_provider_axtx.lifecycle.early_stop import stop_early
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.lifecycle.submit import AppRequest, submit_trial
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore

NAME = "curves"
EARLY_STOPPING = {
    "type": "percentile",
    "percentile_threshold": 70,
    "min_progression": 3,
    "min_curves": 2,
    "n_best_trials_to_complete": 1,
}


@dataclass(frozen=True)
class Setting:
    """The size of one experiment."""

    trials: int = 18
    parallelism: int = 4
    epochs: int = 30
    method: str = "random_search"


@dataclass(frozen=True)
class Result:
    """The cost and the result of one experiment.

    :param live_apps: number of apps that still run when the experiment has ended.
    """

    steps: int
    best: float
    stopped: int
    live_apps: int


def curve(lr: float, decay: float, trial_idx: int, tracker_base: str, epochs: int) -> specs.AppDef:
    """Fit a curve.

    Args:
        lr: learning rate
        decay: weight decay
        trial_idx: index of the trial
        tracker_base: where to report
        epochs: how many progressive results
    """
    app = str(Path(__file__).with_name("curve_fit.py"))
    arguments = [lr, decay, tracker_base, trial_idx, epochs]
    role = specs.Role(
        name="fit",
        image="",
        entrypoint=sys.executable,
        args=["-S", "-I", app, *map(str, arguments)],
        resource=specs.Resource(cpu=1, gpu=0, memMB=100),
    )
    return specs.AppDef(name="curve", roles=[role])


def spec(seed: int, early_stopping: dict[str, Any] | None, method: str) -> ExperimentSpec:
    """Return the experiment's definition."""
    generation = {"method": method, "initialization_random_seed": seed, "random_seed": seed}
    log_scaled = {"type": "range", "parameter_type": "float", "scaling": "log"}
    return ExperimentSpec.load(
        {
            "name": NAME,
            "parameters": [
                {"name": "lr", "bounds": [1e-3, 2.0], **log_scaled},
                {"name": "decay", "bounds": [1e-6, 1.0], **log_scaled},
            ],
            "objective": "-loss",
            "generation": generation,
            "early_stopping": early_stopping,
        }
    )


class Experiment:
    """One experiment in its own folder, driven by the functions of the package."""

    def __init__(self, root: Path, seed: int, early_stopping: dict[str, Any] | None, setting: Setting) -> None:
        self.store = ExperimentStore(f"sqlite:///{root / 'store.db'}")
        self.launcher = TorchXLauncher("local_detached", scheduler_args={"max_parallel": setting.parallelism})
        self.setting = setting
        self.request = AppRequest(curve, {"epochs": setting.epochs}, tracker_root=str(root / "results"))
        create_experiment(self.store, spec(seed, early_stopping, setting.method), if_exists="fail")

    def run(self) -> Result:
        """Keep ``parallelism`` trials running until all have ended."""
        while self._step():
            pass
        attempts = self.store.attempts(NAME)
        seen = self.launcher.observe([attempt.app_handle or "" for attempt in attempts])
        trials = self.store.trials(NAME)
        completed = {trial.index for trial in trials if trial.status == "COMPLETED"}
        finals = [o for o in self.store.snapshot(NAME).observations if o.step is None and o.trial_index in completed]
        return Result(
            steps=sum(len(list_steps(attempt.tracker_base, attempt.trial_index)) for attempt in attempts),
            best=min(o.mean for o in finals),
            stopped=sum(trial.status == "EARLY_STOPPED" for trial in trials),
            live_apps=sum(not observed.is_terminal for observed in seen.values()),
        )

    def _step(self) -> bool:
        """Let every app run one epoch, then do one step of the loop; return whether any trial is left."""
        started = [(attempt, self._begin_epoch(attempt)) for attempt in self.store.open_attempts(experiment=NAME)]
        for attempt, number in started:
            self._await_epoch(attempt, number)
        live = {attempt.trial_index: attempt for attempt in self.store.open_attempts(experiment=NAME)}
        for index in stop_early(self.store, lambda attempt: self.launcher, NAME, list(live.values())):
            cancelled = self.store.attempt(NAME, index, live[index].number)
            conclude(self.store, *await_end(self.store, self.launcher, cancelled))
        while (have := len(self.store.trials(NAME))) < self.setting.trials:
            if len(self.store.open_attempts(experiment=NAME)) >= self.setting.parallelism:
                break
            try:
                (trial,) = generate_trials(self.store, NAME, 1, task_key=f"benchmark/{have}").trials
            except TrialsPendingError:
                break
            submit_trial(self.store, self.launcher, trial, self.request, TaskIdentity())
        return bool(self.store.open_attempts(experiment=NAME))

    def _begin_epoch(self, attempt: AttemptRecord) -> int:
        go = Path(attempt.tracker_base, f"{attempt.trial_index}.epochs")
        go.mkdir(parents=True, exist_ok=True)
        number = len(list(go.iterdir())) + 1
        (go / str(number)).touch()
        return number

    def _await_epoch(self, attempt: AttemptRecord, number: int) -> None:
        step = Path(attempt.tracker_base, tracker_step_key(attempt.trial_index, number))
        while not step.exists():
            time.sleep(0.01)  # the app is another process that offers no event to wait for
        while number == self.setting.epochs:
            observed = poll_attempt(self.store, self.launcher, attempt, LostAppPolicy())
            if observed.is_terminal:
                complete_trial(self.store, finalize(self.store, attempt, observed))
                break
            time.sleep(0.01)


def compare(seed: int, setting: Setting) -> tuple[Result, Result]:
    """Run the experiment of one seed without and with early stopping."""
    results = []
    for early_stopping in (None, EARLY_STOPPING):
        with tempfile.TemporaryDirectory(prefix="axtx-early-") as folder:
            results.append(Experiment(Path(folder), seed, early_stopping, setting).run())
    return results[0], results[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--method", default=Setting.method, choices=["random_search", "fast"])
    options = parser.parse_args(arguments)
    os.environ.setdefault("AXTX_LOCAL_ROOT", tempfile.mkdtemp(prefix="axtx-apps-"))
    columns = ("seed", "steps", "stopping", "saved", "best loss", "stopping", "stopped", "live")
    print(" ".join(f"{column:>10}" for column in columns))
    pairs = []
    for seed in options.seeds:
        full, early = compare(seed, Setting(method=options.method))
        pairs.append((full, early))
        saved = 1 - early.steps / full.steps
        row = (seed, full.steps, early.steps, f"{saved:.0%}", f"{full.best:.5f}", f"{early.best:.5f}")
        print(" ".join(f"{value:>10}" for value in (*row, early.stopped, early.live_apps)), flush=True)
    saved = 1 - sum(early.steps for _, early in pairs) / sum(full.steps for full, _ in pairs)
    best = [statistics.median(result.best for result in side) for side in zip(*pairs, strict=True)]
    print(f"all: {saved:.0%} of the steps saved, median best loss {best[0]:.5f} without, {best[1]:.5f} with stopping")
    return int(saved < 0.3 or best[1] > best[0] * 1.01 or any(early.live_apps for _, early in pairs))


if __name__ == "__main__":
    sys.exit(main())
