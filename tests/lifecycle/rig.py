"""A loop on the scriptable fake scheduler: the test lets apps end, one by one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.app_observation import LostAppPolicy
from airflow_provider_axtx.core.checkpoints import RetryFrom
from airflow_provider_axtx.core.keys import dag_run_key, task_key
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle.generate import start_loop
from airflow_provider_axtx.lifecycle.optimize import Loop, Step
from airflow_provider_axtx.lifecycle.submit import AppRequest
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.limits import Limits
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.fakes.scheduler import FakeCluster

#: Sobol only, unless a test wants the model.
SPEC: dict[str, Any] = {
    "name": "loop",
    "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
    "objective": "-loss",
    "generation": {"initialization_budget": 100, "initialization_random_seed": 7, "random_seed": 7},
}
COMPONENT = f"{Path(__file__).parents[1] / 'faults' / 'components.py'}:app"


@dataclass
class Rig:
    """One experiment with its store and its fake scheduler; ``root`` is a folder of its own."""

    root: Path

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(self.root / "cluster")
        self.store = ExperimentStore(f"sqlite:///{self.root / 'store.db'}")
        self.launcher = TorchXLauncher("fake", scheduler_factories={"fake": self.cluster.factory})

    def loop(
        self,
        *,
        spec: dict[str, Any] = SPEC,
        trial_timeout: float = 3600,
        trial_retries: int = 0,
        retry_from: RetryFrom = "checkpoint",
        try_number: int = 1,
        max_tries: int = 0,
        run_id: str = "run",
        launcher: TorchXLauncher | None = None,
        component: str = COMPONENT,
        propose_ahead: int | None = 0,
        **limits: Any,
    ) -> Loop:
        """Return the loop as a new process of the task makes it."""
        identity = TaskIdentity("dag", run_id, "optimize", -1, try_number, max_tries)
        key = task_key(dag_run_key("dag", run_id), "optimize", -1)
        fact = start_loop(self.store, ExperimentSpec.load(spec), if_exists="resume", task_key=key, max_tries=max_tries)
        return Loop(
            store=self.store,
            launcher=launcher or self.launcher,
            experiment=spec["name"],
            task_key=key,
            identity=identity,
            started_at=fact.started_at,
            request=AppRequest(
                component,
                {"folder": str(self.root)},
                tracker_root=str(self.root / "t"),
                trial_retries=trial_retries,
                retry_from=retry_from,
            ),
            limits=Limits.load(**{"max_trials": 100, **limits}),
            trial_timeout=trial_timeout,
            policy=LostAppPolicy(seconds=0.0, polls=2),
            propose_ahead=propose_ahead,
        )

    def app_of(self, index: int) -> tuple[str, dict[str, Any]]:
        """Return the id of the app of the trial's last attempt, and the app."""
        run = self.store.latest_attempt("loop", index)
        assert run is not None and run.app_handle is not None
        app_id = run.app_handle.rpartition("/")[2]
        return app_id, self.cluster.apps()[app_id]

    def report(self, index: int, step: int, loss: float) -> None:
        """Let the app of a trial report a progressive result."""
        _script, _x, trial_index, tracker_base, _folder, _mode = self.app_of(index)[1]["roles"][0]["args"]
        result = Path(tracker_base, f"{trial_index}.steps", str(step))
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps({"loss": loss}))

    def end(self, index: int, state: str = "SUCCEEDED", loss: float | None = None, message: str = "") -> None:
        """Let the app of a trial report and end."""
        app_id, app = self.app_of(index)
        _script, x, trial_index, tracker_base, _folder, _mode = app["roles"][0]["args"]
        if state == "SUCCEEDED":
            result = Path(tracker_base, trial_index)
            result.parent.mkdir(parents=True, exist_ok=True)
            result.write_text(json.dumps({"loss": float(x) if loss is None else loss}))
        self.cluster.set_state(app_id, state, message)

    def statuses(self) -> dict[int, str]:
        """Return the status of each trial."""
        return {trial.index: trial.status for trial in self.store.trials("loop")}

    def started(self) -> dict[str, int]:
        """Return how many apps were submitted under each key."""
        found: dict[str, int] = {}
        for app in self.cluster.apps().values():
            found[app["name"]] = found.get(app["name"], 0) + 1
        return found


def settled(loop: Loop) -> Step:
    """Take steps until one changes nothing."""
    while (step := loop.step()).changed and step.finished is None:
        pass
    return step


def indexes(step: Step) -> list[int]:
    """Return the trials that a step waits for."""
    return [run.trial_index for run in step.live]
