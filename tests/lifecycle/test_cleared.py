"""A task is marked while its app needs a while to end, and then cleared: its trial runs again, once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.core.xcom import SubmittedTrial, Trial
from airflow_provider_axtx.lifecycle import attempts as attempts_module
from airflow_provider_axtx.lifecycle.attempts import KILLED, await_end, cancel_attempt, end_attempt
from airflow_provider_axtx.lifecycle.body import start_trial
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.lifecycle.reap import end_task
from airflow_provider_axtx.lifecycle.submit import AppRequest, submit_trial
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from tests.lifecycle.rig import COMPONENT, SPEC, Rig, settled

TASK = TaskIdentity("dag", "run", "run_trial", installation="site")
CLEARED = replace(TASK, try_number=2, max_tries=1)


@pytest.fixture
def trial(rig: Rig) -> Trial:
    create_experiment(rig.store, ExperimentSpec.load(SPEC), if_exists="resume")
    return generate_trials(rig.store, "loop", 1, task_key="dag/generate/-1").trials[0]


def submit(rig: Rig, trial: Trial, identity: TaskIdentity = TASK) -> SubmittedTrial:
    request = AppRequest(COMPONENT, {"folder": str(rig.root)}, tracker_root=str(rig.root / "t"))
    return submit_trial(rig.store, rig.launcher, trial, request, identity)


def mark(rig: Rig, trial: Trial) -> None:
    """Let a user mark the task as failed, while its app does not end at once."""
    submit(rig, trial)
    rig.cluster.survive_next_cancels(1)
    attempt = rig.store.attempt("loop", 0, 1)
    end_attempt(rig.store, rig.launcher, attempt, f"{KILLED}: marked failed", seconds=0.0)
    assert (rig.statuses(), rig.store.attempt("loop", 0, 1).finished_at) == ({0: "ABANDONED"}, None)


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLED", "FAILED", "SUCCEEDED"])
def test_a_cleared_trial_runs_again_whatever_its_slow_app_does(rig: Rig, trial: Trial, state: str) -> None:
    mark(rig, trial)
    app_id, _ = rig.app_of(0)
    rig.end(0, state)
    assert submit(rig, trial, CLEARED).attempt == 2
    first, second = rig.store.attempts("loop", 0)
    assert first.app_state == ("SUCCEEDED" if state == "SUCCEEDED" else "CANCELLED")
    assert (rig.cluster.apps()[app_id]["state"] != "RUNNING", second.finished_at) == (True, None)
    assert rig.statuses() == {0: "RUNNING"}
    # The second attempt is the only one, however often the task is tried.
    assert submit(rig, trial, replace(CLEARED, try_number=3)).attempt == 2
    assert rig.started() == {first.submission_key: 1, second.submission_key: 1}


def test_an_app_that_still_runs_then_lets_the_task_be_tried_again(
    rig: Rig, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark(rig, trial)
    rig.cluster.survive_next_cancels(1)
    monkeypatch.setattr(await_end, "__kwdefaults__", {"seconds": 0.0})
    with pytest.raises(SchedulerUnavailableError, match="still runs"):
        submit(rig, trial, CLEARED)
    assert rig.statuses() == {0: "ABANDONED"}
    assert submit(rig, trial, replace(CLEARED, try_number=3)).attempt == 2


def test_a_cleared_trial_whose_app_was_never_submitted_runs_again(
    rig: Rig, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts_module, "CLAIM_SECONDS", 0.0)
    rig.cluster.fail_next("schedule", 20)
    with pytest.raises(SchedulerUnavailableError):
        submit(rig, trial)
    rig.cluster.fail_next("schedule", 0)
    attempt = cancel_attempt(rig.store, rig.launcher, rig.store.attempt("loop", 0, 1), f"{KILLED}: marked failed")
    attempts_module.abandon(rig.store, attempt, f"{KILLED}: marked failed")
    assert submit(rig, trial, CLEARED).attempt == 2


def test_a_cleared_body_begins_another_attempt(rig: Rig, trial: Trial) -> None:
    def start(identity: TaskIdentity) -> SubmittedTrial | None:
        handle, root = "airflow://dag/train", str(rig.root / "t")
        return start_trial(rig.store, trial, identity, app_handle=handle, tracker_root=root)

    start(TASK)
    attempts_module.abandon(rig.store, rig.store.attempt("loop", 0, 1), f"{KILLED}: marked failed")
    started = start(CLEARED)
    assert started is not None and started.attempt == 2
    assert rig.statuses() == {0: "RUNNING"}


def test_a_cleared_loop_runs_such_a_trial_again_when_its_app_is_gone(rig: Rig) -> None:
    loop = rig.loop(max_trials=1)
    settled(loop)
    rig.cluster.survive_next_cancels(100)
    with pytest.raises(SchedulerUnavailableError, match="is not gone"):
        end_task(rig.store, lambda attempt: rig.launcher, loop.identity, f"{KILLED}: marked failed", seconds=0.0)
    again = rig.loop(max_trials=1, try_number=2, max_tries=1)
    settled(again)
    assert rig.statuses() == {0: "ABANDONED"}
    rig.end(0, "CANCELLED")
    settled(again)
    assert [one.app_state for one in rig.store.attempts("loop", 0)] == ["CANCELLED", None]
    rig.end(0)
    settled(again)
    assert rig.statuses() == {0: "COMPLETED"}
