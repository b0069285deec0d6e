"""A reap on a scheduler that the test rules: each orphan is on its own, and a success is not thrown away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError, SchedulerUnavailableError, TrackerUnavailableError
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle import reap as reaping
from airflow_provider_axtx.lifecycle.body import start_trial
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.lifecycle.reap import Reaped, end_task, orphans_of, reap, settle_ended_dag_runs
from airflow_provider_axtx.lifecycle.submit import AppRequest, submit_trial
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from tests.lifecycle.rig import COMPONENT, SPEC, Rig, settled
from tests.store.material import add, begin, proposal


def reap_all(rig: Rig, **arguments: Any) -> list[Reaped]:
    found = orphans_of(rig.store, rig.loop().identity)
    return reap(rig.store, lambda attempt: rig.launcher, found, "its tasks are over", **arguments)


def test_all_are_cancelled_before_any_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(rig.loop(parallelism=3))
    running: list[int] = []
    monkeypatch.setattr(
        reaping.time, "sleep", lambda _: running.append(sum(rig.app_of(i)[1]["state"] == "RUNNING" for i in range(3)))
    )
    assert [one.trial_status for one in reap_all(rig)] == ["ABANDONED"] * 3
    assert running == [0]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SchedulerUnavailableError("away", fix="start it")])
def test_what_one_orphan_raises_keeps_no_other_running(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settled(rig.loop(parallelism=3))
    stubborn = rig.store.attempt("loop", 1, 1).app_handle
    cancel = TorchXLauncher.cancel

    def refuse(self: TorchXLauncher, handle: str) -> None:
        if handle == stubborn:
            raise error
        cancel(self, handle)

    monkeypatch.setattr(TorchXLauncher, "cancel", refuse)
    with pytest.raises(SchedulerUnavailableError, match=r"1 of 3 trials could not be ended: loop/1"):
        reap_all(rig)
    assert rig.statuses() == {0: "ABANDONED", 1: "RUNNING", 2: "ABANDONED"}


def test_one_whose_dag_run_has_become_active_again_is_left_alone(rig: Rig) -> None:
    settled(rig.loop())
    assert reap_all(rig, is_active=lambda owner: True) == []
    assert rig.app_of(0)[1]["state"] == "RUNNING"


def test_results_that_cannot_be_read_just_now_are_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(rig.loop())
    rig.end(0)
    read_results, failures = tracker.read_results, [TrackerUnavailableError("away", fix="wait")] * 4

    def look(tracker_base: str, trial_index: int) -> Any:
        if failures:
            raise failures.pop()
        return read_results(tracker_base, trial_index)

    monkeypatch.setattr(tracker, "read_results", look)
    assert [one.trial_status for one in reap_all(rig)] == ["COMPLETED"]


@pytest.mark.parametrize(
    "error", [InvalidInputError("no such protocol", fix="another one"), TrackerUnavailableError("away", fix="wait")]
)
def test_results_that_stay_unreadable_fail_their_trial(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settled(rig.loop(parallelism=2))
    rig.end(0)
    monkeypatch.setattr(tracker, "read_results", lambda *_: (_ for _ in ()).throw(error))
    monkeypatch.setattr(reaping, "RESULT_PATIENCE_SECONDS", 0.2)
    assert [one.trial_status for one in reap_all(rig)] == ["FAILED", "ABANDONED"]


def test_a_success_whose_results_are_not_there_in_time_is_left_to_the_next_reap(rig: Rig) -> None:
    settled(rig.loop())
    rig.cluster.set_state(rig.app_of(0)[0], "SUCCEEDED")
    with pytest.raises(SchedulerUnavailableError, match="cannot be read yet"):
        reap_all(rig, seconds=0.1)
    assert rig.statuses() == {0: "RUNNING"}
    rig.end(0)
    assert [one.trial_status for one in reap_all(rig)] == ["COMPLETED"]


def test_a_submission_that_may_still_arrive_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop()
    add(rig.store, "loop")
    begin(rig.store, "loop", scheduler="fake", identity=loop.identity)
    with pytest.raises(SchedulerUnavailableError, match="is not gone although it was cancelled"):
        reap_all(rig, seconds=0.1)
    attempt = rig.store.attempt("loop", 0, 1)
    assert (attempt.finished_at, attempt.cancel_requested_at is None) == (None, False)
    monkeypatch.setattr(reaping, "CLAIM_SECONDS", 0.0)
    assert [one.trial_status for one in reap_all(rig)] == ["ABANDONED"]
    assert rig.store.attempt("loop", 0, 1).app_state == "CANCELLED"


@pytest.mark.parametrize(("ours", "theirs"), [("a", "b"), ("b", "a")])
def test_trials_of_another_airflow_are_not_settled(rig: Rig, ours: str, theirs: str) -> None:
    task = rig.loop().identity
    for index, installation in enumerate((ours, theirs)):
        rig.store.add_trials(
            "loop",
            proposal(first=index),
            task_key=f"dag/{installation}/generate/-1",
            first_slot=0,
            expected_version=rig.store.snapshot("loop").version,
            requested_by=replace(task, run_id="earlier", installation=installation),
        )
    settle_ended_dag_runs(
        rig.store, lambda attempt: rig.launcher, "loop", replace(task, installation=ours), lambda owner: False
    )
    assert rig.statuses() == {0: "ABANDONED", 1: "CANDIDATE"}


def task_of(generation: int, task_id: str, run_id: str = "scheduled__1") -> TaskIdentity:
    """Return a task of a DAG run that was deleted and created again so often."""
    return TaskIdentity("dag", run_id, task_id, installation="site", dag_run_generation=generation)


def begin_trial(rig: Rig, kind: str, generator: TaskIdentity, runner: TaskIdentity) -> None:
    """Let one task ask for the trial 0, and another one run it."""
    create_experiment(rig.store, ExperimentSpec.load(SPEC), if_exists="resume")
    (trial,) = generate_trials(rig.store, "loop", 1, task_key=generator.task_key, requested_by=generator).trials
    if kind == "body":
        start_trial(rig.store, trial, runner, app_handle="airflow://dag/train", tracker_root=str(rig.root / "t"))
        return
    request = AppRequest(COMPONENT, {"folder": str(rig.root)}, tracker_root=str(rig.root / "t"))
    submit_trial(rig.store, rig.launcher, trial, request, runner)


def settle_before(rig: Rig, task: TaskIdentity) -> None:
    """Settle what ended DAG runs have left, as a task does that goes on with the experiment; Airflow says all run."""
    settle_ended_dag_runs(rig.store, lambda attempt: rig.launcher, "loop", task, lambda owner: True)


@pytest.mark.parametrize("kind", ["app", "body"])
@pytest.mark.parametrize("generation", [0, 1, 2])
def test_a_task_leaves_alone_what_its_own_dag_run_runs_however_often_that_was_created_again(
    rig: Rig, kind: str, generation: int
) -> None:
    begin_trial(rig, kind, task_of(generation, "generate"), task_of(generation, "run"))
    settle_before(rig, task_of(generation, "generate"))
    assert rig.statuses() == {0: "RUNNING"}
    assert rig.store.attempt("loop", 0, 1).cancel_requested_at is None


@pytest.mark.parametrize("kind", ["app", "body"])
def test_what_a_deleted_dag_run_has_left_is_ended_by_the_next_one_of_its_id(rig: Rig, kind: str) -> None:
    begin_trial(rig, kind, task_of(1, "generate"), task_of(1, "run"))
    settle_before(rig, task_of(2, "generate"))
    assert rig.statuses() == {0: "ABANDONED"}
    assert rig.store.open_attempts() == []


def test_a_trial_of_another_dag_run_that_may_be_our_own_is_left_alone(rig: Rig) -> None:
    begin_trial(rig, "app", task_of(0, "generate", "asks"), task_of(1, "run"))
    settle_before(rig, task_of(1, "generate"))
    assert rig.app_of(0)[1]["state"] == "RUNNING"


def test_an_abandoned_trial_whose_app_is_not_gone_is_told_apart_by_its_dag_run_too(rig: Rig) -> None:
    begin_trial(rig, "app", task_of(1, "generate"), task_of(1, "run"))
    rig.store.complete("loop", 0, status="ABANDONED", reason="its app is not gone")
    settle_before(rig, task_of(1, "generate"))
    assert rig.app_of(0)[1]["state"] == "RUNNING"
    settle_before(rig, task_of(2, "generate"))
    assert rig.app_of(0)[1]["state"] == "CANCELLED"
    assert rig.store.open_attempts() == []


def test_a_task_of_a_deleted_dag_run_ends_nothing_of_the_next_one(rig: Rig) -> None:
    begin_trial(rig, "app", task_of(1, "generate"), task_of(1, "run"))
    end_task(rig.store, lambda attempt: rig.launcher, task_of(0, "run"), "its DAG run was deleted")
    assert rig.app_of(0)[1]["state"] == "RUNNING"
    end_task(rig.store, lambda attempt: rig.launcher, task_of(1, "run"), "a user has ended it")
    assert rig.app_of(0)[1]["state"] == "CANCELLED"


@pytest.mark.parametrize(("try_number", "status"), [(1, "RUNNING"), (2, "ABANDONED"), (3, "ABANDONED")])
def test_the_end_of_a_task_ends_what_it_and_its_earlier_tries_have_left(rig: Rig, try_number: int, status: str) -> None:
    loop = rig.loop(try_number=2)
    settled(loop)
    ending = replace(loop.identity, try_number=try_number)
    end_task(rig.store, lambda attempt: rig.launcher, ending, "a user has ended it")
    assert rig.statuses() == {0: status}
    assert rig.app_of(0)[1]["state"] == ("RUNNING" if status == "RUNNING" else "CANCELLED")
