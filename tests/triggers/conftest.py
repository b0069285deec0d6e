"""Triggers outside a triggerer: apps on a fake scheduler, polled through real launchers and pollers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.records import AttemptRecord, Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.fakes.scheduler import FakeCluster

WAITER = TaskIdentity("dag", "run", "wait", try_number=1, max_tries=2)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A fake scheduler with a required option, which every launcher of this process finds as ``fake``."""
    cluster = FakeCluster(tmp_path / "cluster", required=("queue",))
    original = TorchXLauncher.__init__

    def init(self: TorchXLauncher, scheduler: str, **arguments: Any) -> None:
        original(self, scheduler, **{**arguments, "scheduler_factories": {"fake": cluster.factory}})

    monkeypatch.setattr(TorchXLauncher, "__init__", init)
    return cluster


@pytest.fixture
def store() -> ExperimentStore:
    store = AxHook().store
    spec = {
        "name": "e",
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
        "objective": "loss",
    }
    store.create("e", spec)
    return store


def submitted(store: ExperimentStore, index: int = 0) -> AttemptRecord:
    """Submit the app of a new trial to the fake scheduler; return its attempt."""
    version = store.snapshot("e").version
    trial = ProposedTrial(f"{index}_0", {"x": 0.5}, None, {})
    store.add_trials("e", Proposal((trial,), None), task_key="key", first_slot=index, expected_version=version)
    launcher = TorchXLauncher("fake", scheduler_args={"queue": "night"})
    attempt = store.begin_attempt(
        "e",
        index,
        scheduler="fake",
        tracker_base=f"/tracker/{index}",
        identity=TaskIdentity("dag", "run", "tune", try_number=1, max_tries=2),
        lookup_options=launcher.lookup_options(),
    )
    plan = launcher.plan(
        "utils.sh",
        {},
        trial_index=index,
        experiment="e",
        tracker_base=attempt.tracker_base,
        submission_key=attempt.submission_key,
    )
    return store.record_handle(attempt, launcher.submit(plan))


def old_arguments(attempt: AttemptRecord, **changed: Any) -> dict[str, Any]:
    """Return the arguments of a trial trigger as the version before this one wrote them."""
    run = {
        "experiment": attempt.experiment,
        "trial_index": attempt.trial_index,
        "arm_name": f"{attempt.trial_index}_0",
        "parameters": {},
        "attempt": attempt.number,
        "app_handle": attempt.app_handle,
        "tracker_base": attempt.tracker_base,
    }
    return {
        "run": run,
        "scheduler": attempt.scheduler,
        "submitted_at": attempt.submitted_at,
        "deadline": time.time() + 600,
        "poll_interval": 0.02,
        "grace_seconds": 60.0,
        "grace_polls": 3,
        "ax_conn_id": "ax_default",
        "torchx_conn_id": "torchx_default",
        "early_stopping_interval": None,
        "steps_seen": 0,
        **changed,
    }
