"""One reconcile step on a scheduler that the test rules: slots, ends, restarts, every reason to stop."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from realairflow import poll

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import (
    AppElsewhereError,
    ExperimentExistsError,
    InvalidInputError,
    SchedulerUnavailableError,
    StoreUnavailableError,
    TrackerUnavailableError,
    TrialNotFoundError,
)
from airflow_provider_axtx.core.records import Observation, Proposal
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle import optimize, reading
from airflow_provider_axtx.lifecycle.attempts import KILLED, cancel_attempt
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials, start_loop
from airflow_provider_axtx.lifecycle.reap import end_task, settle_ended_dag_runs
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from tests.lifecycle.rig import SPEC, Rig, indexes, settled


def test_a_slot_is_refilled_as_soon_as_any_trial_ends(rig: Rig) -> None:
    loop = rig.loop(parallelism=3)
    assert indexes(settled(loop)) == [0, 1, 2]
    rig.end(1)
    assert indexes(settled(loop)) == [0, 2, 3]
    rig.end(0)
    rig.end(3)
    assert indexes(settled(loop)) == [2, 4, 5]
    assert rig.statuses() == {0: "COMPLETED", 1: "COMPLETED", 2: "RUNNING", 3: "COMPLETED", 4: "RUNNING", 5: "RUNNING"}


def test_a_step_that_finds_nothing_new_neither_asks_ax_nor_writes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop(parallelism=2, max_trials=3)
    settled(loop)
    rig.end(0)
    settled(loop)
    rig.end(1)
    settled(loop)
    monkeypatch.setattr(optimizer, "propose", lambda *_: pytest.fail("asked Ax"))
    monkeypatch.setattr(rig.store._db, "write", lambda *_: pytest.fail("wrote"))
    before = rig.cluster.calls("describe")
    step = loop.step()
    assert (step.changed, indexes(step), step.finished) == (False, [2], None)
    assert rig.cluster.calls("describe") == before + 1


def test_one_trial_at_a_time_equals_the_sequential_loop(rig: Rig) -> None:
    generation = {"initialization_budget": 3, "initialization_random_seed": 7, "random_seed": 7}
    spec = {**SPEC, "generation": generation}
    loop = rig.loop(spec=spec, max_trials=6)
    while (step := settled(loop)).finished is None:
        rig.end(step.live[0].trial_index)
    by_hand = ExperimentSpec.load({**spec, "name": "by hand"})
    create_experiment(rig.store, by_hand, if_exists="fail")
    for number in range(6):
        (trial,) = generate_trials(rig.store, "by hand", 1, task_key=f"dag/{number}/-1").trials
        result = Observation(number, "loss", float(trial.parameters["x"]))
        rig.store.complete("by hand", number, status="COMPLETED", observations=[result])
    expected = [trial.parameters for trial in rig.store.trials("by hand")]
    assert [trial.parameters for trial in rig.store.trials("loop")] == expected
    assert {trial.generation_node for trial in rig.store.trials("loop")} >= {"MBM"}


# Ends of apps


def test_an_app_that_fails_fails_its_trial_and_the_loop_goes_on(rig: Rig) -> None:
    (rig.cluster.root / "app-0.log").write_text("out of memory\n")
    loop = rig.loop()
    settled(loop)
    rig.end(0, "FAILED", message="exit code 1")
    assert indexes(settled(loop)) == [1]
    (first, _) = rig.store.trials("loop")
    assert (first.status, first.reason) == ("FAILED", "exit code 1; its last line: out of memory")


def test_output_that_cannot_be_read_does_not_change_how_a_trial_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def logs(*_: object, **__: object) -> list[str]:
        raise RuntimeError("can't start new thread")

    loop = rig.loop()
    settled(loop)
    rig.end(0, "FAILED", message="exit code 1")
    with monkeypatch.context() as patched:
        patched.setattr(rig.launcher, "logs", logs)
        loop.step()
    (first, _) = rig.store.trials("loop")
    assert (first.status, first.reason) == ("FAILED", "exit code 1")


def test_an_app_that_is_lost_is_resubmitted_while_retries_are_left(rig: Rig) -> None:
    loop = rig.loop(trial_retries=1)
    settled(loop)
    for attempt in (2, 2):
        rig.cluster.forget(rig.app_of(0)[0])
        loop.step()
        step = settled(loop)
        if rig.statuses()[0] == "RUNNING":
            assert [(run.trial_index, run.number) for run in step.live] == [(0, attempt)]
    trial = rig.store.trial("loop", 0)
    assert trial.status == "FAILED"
    assert "lost" in (trial.reason or "")
    assert len(rig.store.attempts("loop", 0)) == 2
    assert rig.store.attempts("loop", 0)[1].is_infrastructure_failure


def test_an_attempt_that_another_one_follows_keeps_its_times(rig: Rig) -> None:
    loop = rig.loop(trial_retries=1)
    handle = str(settled(loop).live[0].app_handle)
    loop.step(
        {handle: AppObservation("FAILED", "node lost", is_infrastructure_failure=True, started_at=10.0, ended_at=20.0)}
    )
    first = rig.store.attempts("loop", 0)[0]
    assert (first.started_at, first.ended_at) == (10.0, 20.0)


def test_what_somebody_else_saw_ends_the_trial_too(rig: Rig) -> None:
    loop = rig.loop()
    step = settled(loop)
    loop.step(
        {str(step.live[0].app_handle): AppObservation("FAILED", "lost: not seen", is_infrastructure_failure=True)}
    )
    assert rig.statuses()[0] == "FAILED"


def test_an_app_that_takes_too_long_is_cancelled_and_its_trial_abandoned(rig: Rig) -> None:
    step = settled(rig.loop())
    submitted_at = step.live[0].submitted_at
    assert submitted_at is not None
    assert step.until == submitted_at + 3600
    settled(rig.loop(trial_timeout=0.001))
    assert rig.app_of(0)[1]["state"] == "CANCELLED"
    trial = rig.store.trial("loop", 0)
    assert (trial.status, (trial.reason or "").partition(":")[0]) == ("ABANDONED", "timeout")


def test_a_scheduler_that_does_not_answer_changes_nothing(rig: Rig) -> None:
    loop = rig.loop(parallelism=2)
    settled(loop)
    rig.end(0)
    rig.cluster.fail_next("describe", times=2)
    assert isinstance(loop.step().error, SchedulerUnavailableError)
    assert rig.statuses() == {0: "RUNNING", 1: "RUNNING"}
    assert indexes(settled(loop)) == [1, 2]


def test_a_trial_that_is_stopped_early_keeps_its_data_and_frees_its_slot(rig: Rig) -> None:
    stopping = {"type": "threshold", "metric_threshold": 1.0, "min_progression": 2, "min_curves": 0}
    spec = {**SPEC, "early_stopping": stopping}
    step = settled(rig.loop(spec=spec, parallelism=2))
    assert step.reporting == [[run.tracker_base, run.trial_index, 0] for run in step.live]
    assert step.until is not None and step.until > time.time() + 60  # progress wakes it, not the clock
    for number in (1, 2):
        rig.report(0, number, 0.1)
        rig.report(1, number, 2.0)
    step = settled(rig.loop(spec=spec, parallelism=2))
    assert indexes(step) == [0, 2]
    assert step.reporting is not None and step.reporting[0][2] == 2
    assert rig.app_of(1)[1]["state"] == "CANCELLED"
    assert rig.statuses() == {0: "RUNNING", 1: "EARLY_STOPPED", 2: "RUNNING"}
    assert [(seen.step, seen.mean) for seen in rig.store.observations("loop", 1)] == [(1.0, 2.0), (2.0, 2.0)]


# Restarts


def test_a_trial_that_was_generated_and_not_submitted_is_submitted(rig: Rig) -> None:
    loop = rig.loop(parallelism=2)
    generate_trials(rig.store, "loop", 1, task_key=loop.task_key)
    assert indexes(settled(loop)) == [0, 1]
    assert set(rig.started().values()) == {1}


def test_another_process_attaches_to_live_apps(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))
    rig.end(0)
    assert indexes(settled(rig.loop(parallelism=2, try_number=2))) == [1, 2]
    assert set(rig.started().values()) == {1}
    assert len(rig.started()) == 3


def test_an_end_that_was_observed_but_not_recorded_is_recorded(rig: Rig) -> None:
    loop = rig.loop()
    step = settled(loop)
    rig.end(0)
    rig.store.finish_attempt(step.live[0], "SUCCEEDED", "")
    assert indexes(settled(rig.loop(try_number=2))) == [1]
    assert rig.statuses()[0] == "COMPLETED"


def test_trials_whose_task_was_ended_run_again_after_a_clear(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))
    end_task(rig.store, lambda attempt: rig.launcher, rig.loop().identity, f"{KILLED}: by a user")
    assert rig.statuses() == {0: "ABANDONED", 1: "ABANDONED"}
    step = settled(rig.loop(parallelism=2, try_number=2, max_tries=1))
    assert [(run.trial_index, run.number) for run in step.live] == [(0, 2), (1, 2)]
    states = [app["state"] for app in rig.cluster.apps().values()]
    assert sorted(states) == ["CANCELLED", "CANCELLED", "RUNNING", "RUNNING"]
    assert len(rig.store.trials("loop")) == 2


def test_ending_a_task_completes_what_had_succeeded_and_leaves_what_a_later_try_owns(rig: Rig) -> None:
    settled(rig.loop(parallelism=3))
    rig.end(0)
    first_try, retry = rig.loop().identity, rig.loop(parallelism=3, try_number=2)
    rig.store.pass_to_try(rig.store.attempt("loop", 2, 1), retry.identity)
    end_task(rig.store, lambda attempt: rig.launcher, first_try, f"{KILLED}: a zombie")
    assert rig.statuses() == {0: "COMPLETED", 1: "ABANDONED", 2: "RUNNING"}
    assert rig.app_of(2)[1]["state"] == "RUNNING"


def test_another_dag_run_resumes_the_experiment_and_leaves_foreign_trials_alone(rig: Rig) -> None:
    settled(rig.loop(parallelism=1))
    other = rig.loop(parallelism=2, run_id="other")
    assert indexes(settled(other)) == [1, 2]
    end_task(rig.store, lambda attempt: rig.launcher, other.identity, "enough")
    assert rig.app_of(0)[1]["state"] == "RUNNING"


def test_trials_of_a_dag_run_that_is_over_are_settled_when_another_goes_on(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))
    rig.end(0)
    other = rig.loop(parallelism=1, run_id="other").identity
    assert settle_ended_dag_runs(rig.store, lambda attempt: rig.launcher, "loop", other, lambda owner: True) == []
    reaped = settle_ended_dag_runs(rig.store, lambda attempt: rig.launcher, "loop", other, lambda owner: False)
    assert [(one.trial_index, one.trial_status) for one in reaped] == [(0, "COMPLETED"), (1, "ABANDONED")]
    assert rig.app_of(1)[1]["state"] == "CANCELLED"


def test_an_experiment_of_somebody_else_is_refused_with_fail_but_not_ones_own(rig: Rig) -> None:
    spec = ExperimentSpec.load(SPEC)
    rig.store.start_loop("loop", "dag/optimize/-1", 0)  # killed before it had created the experiment
    for _ in range(2):
        start_loop(rig.store, spec, if_exists="fail", task_key="dag/optimize/-1", max_tries=0)
    with pytest.raises(ExperimentExistsError):
        start_loop(rig.store, spec, if_exists="fail", task_key="other/optimize/-1", max_tries=0)
    assert rig.store.loop("loop", "other/optimize/-1") is None


def test_a_component_that_does_not_fit_submits_nothing(rig: Rig) -> None:
    with pytest.raises(InvalidInputError, match="no_such"):
        rig.loop(component="no_such_module:app").step()
    assert rig.cluster.apps() == {}


def test_live_apps_go_on_with_their_scheduler_before_another_one_is_refused(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))
    elsewhere = TorchXLauncher("other", scheduler_factories={"other": rig.cluster.factory})
    loop = rig.loop(parallelism=2, try_number=2, launcher=elsewhere)
    loop.launcher_for = lambda attempt: rig.launcher
    rig.end(0)
    assert indexes(settled(loop)) == [1]
    assert rig.statuses() == {0: "COMPLETED", 1: "RUNNING"}
    rig.end(1)
    with pytest.raises(ExperimentExistsError, match=r"scheduler: recorded 'fake', given 'other'"):
        settled(loop)
    assert rig.statuses() == {0: "COMPLETED", 1: "COMPLETED"}


def test_what_one_app_reports_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop(parallelism=2, max_trials=4)
    settled(loop)
    rig.end(0)
    rig.end(1)

    def unreadable(tracker_base: str, trial_index: int) -> Any:
        if trial_index == 0:
            raise OSError("a loop of links")
        return read_results(tracker_base, trial_index)

    read_results = tracker.read_results
    monkeypatch.setattr(tracker, "read_results", unreadable)
    for _ in range(5):
        loop.step()
    assert rig.statuses() == {0: "FAILED", 1: "COMPLETED", 2: "RUNNING", 3: "RUNNING"}
    assert "a loop of links" in (rig.store.trial("loop", 0).reason or "")


def test_an_outage_of_an_object_store_fails_no_trial(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop(parallelism=1, max_trials=1)
    settled(loop)
    rig.end(0)
    read_results = tracker.read_results
    busy = TrackerUnavailableError("503 SlowDown", fix="wait")
    monkeypatch.setattr(reading, "is_object_store", lambda tracker_base: True)
    monkeypatch.setattr(tracker, "read_results", lambda *_: (_ for _ in ()).throw(busy))
    for _ in range(5):
        assert loop.step().error is busy
    assert rig.statuses() == {0: "RUNNING"}
    monkeypatch.setattr(tracker, "read_results", read_results)
    loop.step()
    assert rig.statuses() == {0: "COMPLETED"}


def test_a_result_that_cannot_be_used_as_it_is_fails_its_trial_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = rig.loop(parallelism=2, max_trials=4)
    settled(loop)
    rig.end(0)
    error = InvalidInputError("the tracker base cannot be used", fix="give another one")
    monkeypatch.setattr(tracker, "read_results", lambda *_: (_ for _ in ()).throw(error))
    step = loop.step()
    assert rig.statuses() == {0: "FAILED", 1: "RUNNING", 2: "RUNNING"}
    assert step.error is None


def test_an_outage_of_the_store_is_no_fault_of_the_results(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop(parallelism=1, max_trials=4)
    settled(loop)
    rig.end(0)

    def away(*_: Any) -> None:
        raise StoreUnavailableError("the database is away", fix="start it")

    with monkeypatch.context() as outage:
        outage.setattr(rig.store, "end_attempt", away)
        for _ in range(5):
            assert isinstance(loop.step().error, StoreUnavailableError)
    settled(loop)
    assert rig.statuses() == {0: "COMPLETED", 1: "RUNNING"}


def test_an_error_that_no_step_can_fix_counts_more_than_one_that_passes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = rig.loop(parallelism=2)
    settled(loop)

    def refuse(attempt: Any, seen: Any) -> None:
        if attempt.trial_index == 0:
            raise SchedulerUnavailableError("it does not answer", fix="start it")
        raise TrialNotFoundError("the trial is gone", fix="look at the store")

    monkeypatch.setattr(loop._ends, "_judge", refuse)
    assert isinstance(loop.step().error, TrialNotFoundError)


def test_what_only_another_host_can_observe_holds_up_no_other_app(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop(parallelism=2, max_trials=3)
    settled(loop)
    there = TorchXLauncher("fake", scheduler_factories={"fake": rig.cluster.factory})
    monkeypatch.setattr(there, "observe", lambda handles: (_ for _ in ()).throw(elsewhere))
    elsewhere = AppElsewhereError("The app belongs to host worker-7.", fix="poll it there")
    loop.launcher_for = lambda attempt: there if attempt.trial_index == 0 else rig.launcher
    assert indexes(settled(loop)) == [1]
    rig.end(1)
    assert indexes(settled(loop)) == [2]
    rig.end(2)
    with pytest.raises(AppElsewhereError, match="worker-7"):
        settled(loop)
    assert rig.statuses() == {0: "RUNNING", 1: "COMPLETED", 2: "COMPLETED"}
    loop.launcher_for = None
    rig.end(0)
    assert settled(loop).finished is not None


def test_progress_that_cannot_be_read_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = {"type": "threshold", "metric_threshold": 0.0, "min_progression": 1, "min_curves": 0}
    loop = rig.loop(spec={**SPEC, "early_stopping": stopping}, parallelism=2)
    loop.early_stopping_interval = 0.0
    settled(loop)
    rig.report(1, 1, 5.0)
    read_progress, list_steps = tracker.read_progress, tracker.list_steps

    def unreadable(read: Any) -> Any:
        def look(tracker_base: str, trial_index: int, *known: Any) -> Any:
            if trial_index == 0:
                raise TrackerUnavailableError("a folder that cannot be listed", fix="look at it")
            return read(tracker_base, trial_index, *known)

        return look

    monkeypatch.setattr(tracker, "read_progress", unreadable(read_progress))
    monkeypatch.setattr(tracker, "list_steps", unreadable(list_steps))
    step = settled(loop)
    assert step.error is None
    assert rig.statuses() == {0: "RUNNING", 1: "EARLY_STOPPED", 2: "RUNNING"}


def stop_all_but_one(rig: Rig, loop: optimize.Loop, trials: int) -> optimize.Step:
    """Let all trials but the first report a worse value, which stops them, and the first one succeed."""
    loop.early_stopping_interval = 0.0
    settled(loop)
    for index in range(trials):
        rig.report(index, 1, float(index))
    settled(loop)
    assert list(rig.statuses().values())[:trials] == ["RUNNING", *["EARLY_STOPPED"] * (trials - 1)]
    rig.end(0)
    return settled(loop)


def test_the_model_takes_over_when_all_trials_of_the_initialization_but_one_were_stopped(rig: Rig) -> None:
    stopping = {"type": "successive_halving", "min_resource": 1, "reduction_factor": 9}
    loop = rig.loop(spec={**SPEC, "early_stopping": stopping, "generation": {"random_seed": 7}}, parallelism=5)
    assert indexes(stop_all_but_one(rig, loop, 5)) == [5, 6, 7, 8, 9]
    assert {trial.generation_node for trial in rig.store.trials("loop")[5:]} == {"MBM"}


def test_the_end_tells_that_the_model_waits_for_trials_that_were_stopped(rig: Rig) -> None:
    stopping = {"type": "threshold", "metric_threshold": 0.5, "min_progression": 1, "min_curves": 0}
    loop = rig.loop(spec={**SPEC, "early_stopping": stopping, "generation": {"random_seed": 7}}, parallelism=5)
    finished = stop_all_but_one(rig, loop, 5).finished
    assert finished is not None and "generation.allow_exceeding_initialization_budget" in finished
    allowing = {"random_seed": 7, "allow_exceeding_initialization_budget": True}
    spec, other = {**SPEC, "early_stopping": stopping, "generation": allowing}, Rig(rig.root / "allowing")
    assert indexes(stop_all_but_one(other, other.loop(spec=spec, parallelism=5), 5)) == [5, 6, 7, 8, 9]


def test_an_app_that_had_succeeded_before_its_cancellation_is_completed(rig: Rig) -> None:
    step = settled(rig.loop())
    rig.store.request_cancel(step.live[0], "timeout: by another process")
    rig.end(0)
    settled(rig.loop(try_number=2))
    assert rig.statuses()[0] == "COMPLETED"


# Every reason to stop


def test_max_trials(rig: Rig) -> None:
    loop = rig.loop(max_trials=3, parallelism=2)
    while (step := settled(loop)).finished is None:
        rig.end(step.live[0].trial_index)
    assert step.finished == "max_trials: the experiment has 3 trials"
    assert rig.statuses() == dict.fromkeys(range(3), "COMPLETED")
    assert rig.store.summary("loop").stop_reason == step.finished


def test_an_exhausted_search_space(rig: Rig) -> None:
    parameter = {"type": "choice", "name": "x", "parameter_type": "float", "values": [0.0, 0.5, 1.0]}
    loop = rig.loop(spec={**SPEC, "parameters": [parameter]}, parallelism=2)
    while (step := settled(loop)).finished is None:
        rig.end(step.live[0].trial_index)
    assert step.finished.startswith("SearchSpaceExhausted")
    assert rig.statuses() == dict.fromkeys(range(3), "COMPLETED")


def test_an_experiment_that_does_not_improve_any_more(rig: Rig) -> None:
    spec = {**SPEC, "global_stopping": {"min_trials": 3, "window_size": 2}}
    loop = rig.loop(spec=spec, parallelism=2, on_stop="cancel")
    settled(loop)
    for index, loss in enumerate((0.0, 1.0, 1.0)):
        rig.end(index, loss=loss)
        step = settled(loop)
    assert step.finished is not None
    assert step.finished.startswith("global_stopping: ")
    assert "improvement" in step.finished
    assert list(rig.statuses().values()) == ["COMPLETED"] * 3 + ["ABANDONED"]
    assert rig.app_of(3)[1]["state"] == "CANCELLED"


def test_an_experiment_in_which_ax_waits_for_nobody_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = rig.loop(parallelism=2)
    generate_trials(rig.store, "loop", 1, task_key=loop.task_key)
    monkeypatch.setattr(optimizer, "propose", lambda *_, **__: Proposal((), None, pending="DataRequiredError: no data"))
    assert indexes(settled(loop)) == [0]
    rig.end(0)
    finished = settled(loop).finished
    assert finished == "Ax has no trial to propose, and none is in flight: DataRequiredError: no data"


def test_ax_may_wait_for_the_trials_of_another_task(rig: Rig) -> None:
    spec = {**SPEC, "generation": {**SPEC["generation"], "max_parallelism": 1}}
    settled(rig.loop(spec=spec))
    other = rig.loop(spec=spec, run_id="other")
    step = settled(other)
    assert (indexes(step), step.finished) == ([], None)
    assert step.until is not None
    rig.end(0)
    settled(rig.loop(spec=spec, max_trials=1))
    assert indexes(settled(other)) == [1]


FAILURES: dict[str, dict[str, Any]] = {
    "max_failed_trials": {"max_failed_trials": 2},
    "max_failure_rate": {"max_failure_rate": 0.4, "min_trials_for_rate": 2},
}


@pytest.mark.parametrize("name", FAILURES)
def test_too_many_failures(rig: Rig, name: str) -> None:
    (rig.cluster.root / "app-0.log").write_text("")
    loop = rig.loop(parallelism=3, **FAILURES[name])
    settled(loop)
    rig.end(0, "FAILED", message="exit code 1")
    assert settled(loop).finished is None
    rig.end(1, "FAILED", message="exit code 1")
    step = settled(loop)
    assert (indexes(step), step.finished) == ([2, 3], None)  # they are drained
    rig.end(2)
    rig.end(3)
    finished = settled(loop).finished
    assert finished is not None
    assert finished.startswith(f"{name}: 2 ")
    assert list(rig.statuses().values()) == ["FAILED", "FAILED", "COMPLETED", "COMPLETED"]


def test_the_first_failure_when_asked_for(rig: Rig) -> None:
    (rig.cluster.root / "app-0.log").write_text("")
    loop = rig.loop(parallelism=2, on_trial_failure="fail", on_stop="cancel")
    settled(loop)
    rig.end(1, "FAILED", message="exit code 1")
    step = settled(loop)
    assert step.finished == "on_trial_failure: 1 of 1 trials have failed"
    assert rig.app_of(0)[1]["state"] == "CANCELLED"
    assert rig.statuses() == {0: "ABANDONED", 1: "FAILED"}
    assert rig.store.trial("loop", 0).reason == f"stopped: {step.finished}"


TIMES: dict[str, Any] = {
    "deadline": lambda: {"deadline": "2026-01-01T00:00:00+00:00"},
    "max_seconds": lambda: {"max_seconds": 0.001},
    "max_resource_hours": lambda: {"max_resource_hours": 1e-9},
}


@pytest.mark.parametrize("name", TIMES)
def test_time_and_resources_cancel_what_runs_when_asked_for(rig: Rig, name: str) -> None:
    settled(rig.loop(parallelism=2))
    generate_trials(rig.store, "loop", 3, task_key=rig.loop().task_key)  # the third was not submitted
    step = settled(rig.loop(parallelism=2, on_stop="cancel", **TIMES[name]()))
    assert step.finished is not None
    assert step.finished.startswith(f"{name}: ")
    assert [app["state"] for app in rig.cluster.apps().values()] == ["CANCELLED", "CANCELLED"]
    assert rig.statuses() == dict.fromkeys(range(3), "ABANDONED")
    assert rig.store.open_attempts() == []


def test_a_deadline_is_waited_for(rig: Rig) -> None:
    step = settled(rig.loop(max_seconds=100))
    loop = rig.store.loop("loop", rig.loop().task_key)
    assert loop is not None
    assert step.until == loop.started_at + 100


def test_the_end_of_the_resource_budget_is_waited_for(rig: Rig) -> None:
    before = time.time()
    step = settled(rig.loop(parallelism=2, max_resource_hours=1.0))
    assert step.until is not None
    assert before + 1795 < step.until < time.time() + 1800  # two cores


def test_time_in_a_queue_and_after_the_end_is_no_resource_hour(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.cluster.submit_as("PENDING")
    loop = rig.loop(parallelism=1)
    settled(loop)
    (attempt,) = rig.store.open_attempts()
    assert loop.trials_of_task().progress(0.0).hours == {"cpu": 0.0, "gpu": 0.0}
    rig.cluster.set_state(rig.app_of(0)[0], "RUNNING")
    loop.step()
    (attempt,) = rig.store.open_attempts()
    assert attempt.started_at is not None
    ran = AppObservation("FAILED", "exit code 1", started_at=attempt.started_at, ended_at=attempt.started_at + 36.0)
    rig.store.end_attempt(attempt, ran)
    assert loop.trials_of_task().progress(0.0).hours == {"cpu": pytest.approx(0.01, abs=1e-6), "gpu": 0.0}


def test_another_app_is_refused_unless_it_is_asked_for(rig: Rig) -> None:
    settled(rig.loop())
    rig.end(0)
    changed = rig.loop(max_trials=2, try_number=2)
    changed.request = replace(changed.request, component_args={"folder": str(rig.root / "other")})
    with pytest.raises(ExperimentExistsError, match=r"component_args\.folder: recorded .*, given .*other"):
        settled(changed)
    assert rig.statuses() == {0: "COMPLETED"}
    changed = rig.loop(max_trials=2, try_number=3)
    changed.request = replace(
        changed.request, component_args={"folder": str(rig.root / "other")}, allow_app_change=True
    )
    assert indexes(settled(changed)) == [1]


def test_the_reason_to_stop_survives_a_restart_and_a_clear_takes_it_back(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))
    assert indexes(settled(rig.loop(parallelism=2, max_seconds=0.001))) == [0, 1]
    rig.end(0)
    assert indexes(settled(rig.loop(parallelism=2, try_number=2))) == [1]
    rig.end(1)
    finished = settled(rig.loop(parallelism=2, try_number=3)).finished
    assert finished is not None
    assert finished.startswith("max_seconds")
    cleared = rig.loop(parallelism=2, try_number=4, max_tries=3)
    assert rig.store.summary("loop").stop_reason is None
    assert indexes(settled(cleared)) == [2, 3]


def test_a_cleared_task_that_had_finished_is_finished_at_once(rig: Rig) -> None:
    settled(rig.loop(max_trials=1))
    rig.end(0)
    first = settled(rig.loop(max_trials=1)).finished
    assert first is not None
    assert rig.loop(max_trials=1, try_number=2, max_tries=1).step().finished == first
    assert indexes(settled(rig.loop(max_trials=2, try_number=3, max_tries=2))) == [1]


def test_a_task_that_was_ended_neither_submits_nor_settles(rig: Rig) -> None:
    class EndedError(Exception):
        pass

    def ended() -> None:
        raise EndedError

    loop = rig.loop(parallelism=2)
    step = settled(loop)
    cancel_attempt(rig.store, rig.launcher, step.live[0], f"{KILLED}: by a user")
    loop.check = ended
    with pytest.raises(EndedError):
        loop.step()
    assert rig.statuses() == {0: "RUNNING", 1: "RUNNING"}
    assert rig.store.attempt("loop", 0, 1).finished_at is None


def test_a_process_that_polls_again_soon_does_not_record_the_start_of_an_app_that_may_end_before(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize, "STARTED_SECONDS", 3600.0)
    launcher = TorchXLauncher("local_detached")
    component = f"{Path(__file__).with_name('components.py')}:epochs"
    loop = rig.loop(launcher=launcher, component=component, max_trials=1)

    step = loop.step()
    handle = str(step.live[0].app_handle)

    def is_start_recorded(poll_interval: float) -> bool:
        loop.await_end(replace(step, until=time.time()), poll_interval)
        (attempt,) = loop.step().live
        is_recorded = rig.store.attempt("loop", attempt.trial_index, attempt.number).started_at is not None
        assert is_recorded is (attempt.started_at is not None)
        return is_recorded

    try:
        poll(lambda: launcher.observe([handle])[handle].app_state == "RUNNING" or None, 60, "the start of the app")
        assert is_start_recorded(poll_interval=60.0) is False
        assert is_start_recorded(poll_interval=0.0) is True
    finally:
        launcher.cancel(handle)
