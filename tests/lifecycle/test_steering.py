"""What users want of an experiment, carried out by its loop: once, at the next step, whatever process is killed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import ExperimentPausedError, TrialStoppedError
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.lifecycle.generate import generate_trials
from airflow_provider_axtx.lifecycle.optimize import Loop
from airflow_provider_axtx.lifecycle.steering import check_may_start
from airflow_provider_axtx.optimizer import engine as optimizer
from tests.lifecycle.rig import Rig, indexes, settled
from tests.store.material import killed_at

#: Imported here, so that a forked process need not import it.
PRELOADED = optimizer


def want(rig: Rig, action: Action, trial: int | None = None, **given: Any) -> None:
    """Record what the user Vera wants."""
    number = len(rig.store.changes("loop"))
    rig.store.steer("loop", NewChange(action, str(number), "vera", "cli", "why", trial, given))


def wanted(rig: Rig) -> list[str | None]:
    """Return what became of each change."""
    return [change.outcome for change in rig.store.changes("loop")]


def ask_in_next_step(rig: Rig, loop: Loop, action: Action, **given: Any) -> None:
    """Let Vera want something after the next step has read what users want, and before it decides."""

    def check() -> None:
        loop.check = lambda: None
        want(rig, action, **given)

    loop.check = check


def test_a_paused_experiment_starts_nothing_and_lets_apps_end(rig: Rig) -> None:
    loop = rig.loop(parallelism=2)
    settled(loop)
    want(rig, Action.PAUSE)
    rig.end(0)
    assert indexes(settled(loop)) == [1]
    rig.end(1)
    step = settled(loop)
    assert (step.live, step.finished, step.until, step.steering_seen) == ((), None, None, 0)
    assert rig.statuses() == {0: "COMPLETED", 1: "COMPLETED"}
    want(rig, Action.RUN)
    assert indexes(settled(loop)) == [2, 3]


def test_a_deadline_ends_a_paused_experiment_too(rig: Rig) -> None:
    settled(rig.loop())
    want(rig, Action.PAUSE)
    rig.end(0)
    step = settled(rig.loop(max_seconds=100))
    assert step.until is not None
    assert step.until <= time.time() + 100
    finished = settled(rig.loop(max_seconds=0.001)).finished
    assert finished is not None
    assert finished.startswith("max_seconds: ")


def test_a_drained_experiment_ends_when_its_apps_have(rig: Rig) -> None:
    loop = rig.loop(parallelism=2)
    settled(loop)
    want(rig, Action.DRAIN)
    generate = indexes(settled(loop))
    assert generate == [0, 1]
    rig.end(0)
    assert settled(loop).finished is None
    rig.end(1)
    assert settled(loop).finished == "drain: asked by vera: why"
    assert rig.statuses() == {0: "COMPLETED", 1: "COMPLETED"}
    assert rig.store.summary("loop").stop_reason == "drain: asked by vera: why"


@pytest.mark.parametrize(
    ("limits", "before", "meanwhile", "given"),
    [
        ({"max_trials": 1}, None, Action.LIMITS, {"limits": {"max_trials": 5}}),
        ({"max_seconds": 1e-6}, None, Action.LIMITS, {"limits": {"max_seconds": 3600.0}}),
        ({}, Action.DRAIN, Action.RUN, {}),
    ],
)
def test_what_lets_an_experiment_go_on_during_its_last_step_is_obeyed(
    rig: Rig, limits: dict[str, Any], before: Action | None, meanwhile: Action, given: dict[str, Any]
) -> None:
    loop = rig.loop()
    settled(loop)
    if before is not None:
        want(rig, before)
    loop.limits = loop.limits.model_copy(update=limits)
    rig.end(0)
    ask_in_next_step(rig, loop, meanwhile, **given)
    step = loop.step()
    assert (step.finished, step.is_filling, step.live) == (None, True, ())
    assert rig.store.summary("loop").stop_reason is None
    assert indexes(settled(loop)) == [1]


@pytest.mark.parametrize("action", [Action.NOTE, Action.QUEUE_TRIAL, Action.ANALYZE])
def test_any_other_change_during_the_last_step_does_not_keep_an_experiment_from_ending(
    rig: Rig, action: Action
) -> None:
    loop = rig.loop(max_trials=1)
    settled(loop)
    rig.end(0)
    asked = {Action.NOTE: {"text": "well done"}, Action.QUEUE_TRIAL: {"parameters": {"x": 0.5}}}
    ask_in_next_step(rig, loop, action, **asked.get(action, {}))
    assert settled(loop).finished == "max_trials: the experiment has 1 trials"
    assert rig.statuses() == {0: "COMPLETED"}


def test_a_stopped_experiment_cancels_its_apps_whatever_a_limit_would_do(rig: Rig) -> None:
    loop = rig.loop(parallelism=2, on_stop="drain")
    settled(loop)
    generate_trials(rig.store, "loop", 3, task_key=loop.task_key)  # the third was not submitted
    want(rig, Action.STOP)
    assert settled(loop).finished == "stop: asked by vera: why"
    assert [app["state"] for app in rig.cluster.apps().values()] == ["CANCELLED", "CANCELLED"]
    assert rig.statuses() == dict.fromkeys(range(3), "ABANDONED")
    assert rig.store.trial("loop", 0).reason == "stopped: stop: asked by vera: why"
    assert rig.store.open_attempts() == []


def test_a_stop_cancels_what_a_limit_would_have_drained(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))
    loop = rig.loop(parallelism=2, max_seconds=0.001)
    assert indexes(settled(loop)) == [0, 1]
    want(rig, Action.STOP)
    finished = settled(loop).finished
    assert finished is not None
    assert rig.statuses() == {0: "ABANDONED", 1: "ABANDONED"}


def test_a_new_dag_run_of_a_stopped_experiment_ends_at_once_until_it_runs_again(rig: Rig) -> None:
    settled(rig.loop())
    want(rig, Action.STOP)
    settled(rig.loop())
    assert settled(rig.loop(run_id="other")).finished == "stop: asked by vera: why"
    want(rig, Action.RUN)
    assert rig.store.summary("loop").stop_reason is None
    assert indexes(settled(rig.loop(run_id="third"))) == [1]


def test_what_was_drained_goes_on_when_the_user_takes_it_back(rig: Rig) -> None:
    loop = rig.loop(parallelism=2)
    settled(loop)
    want(rig, Action.DRAIN)
    rig.end(0)
    settled(loop)
    want(rig, Action.RUN)
    assert indexes(settled(loop)) == [1, 2]


def test_a_limit_is_raised_lowered_and_given_back_to_the_dag(rig: Rig) -> None:
    loop = rig.loop(max_trials=2)
    settled(loop)
    want(rig, Action.LIMITS, limits={"max_trials": 3})
    for index in (0, 1):
        rig.end(index)
        assert indexes(settled(loop)) == [index + 1]
    want(rig, Action.LIMITS, limits={"max_trials": 1})
    assert indexes(settled(loop)) == [2]  # lets the app end
    rig.end(2)
    want(rig, Action.LIMITS, limits={"max_trials": None})
    assert settled(loop).finished == "max_trials: the experiment has 3 trials"


def test_a_loop_whose_time_was_up_goes_on_when_it_gets_more(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))
    loop = rig.loop(parallelism=2, max_seconds=0.001)
    rig.end(0)
    assert indexes(settled(loop)) == [1]
    want(rig, Action.LIMITS, limits={"max_seconds": 3600.0})
    assert indexes(settled(loop)) == [1, 2]


def test_one_trial_is_stopped_and_its_slot_filled(rig: Rig) -> None:
    loop = rig.loop(parallelism=2, trial_retries=3)
    settled(loop)
    want(rig, Action.STOP_TRIAL, 0)
    assert indexes(settled(loop)) == [1, 2]
    trial = rig.store.trial("loop", 0)
    assert (trial.status, trial.reason) == ("ABANDONED", "stopped by a user, asked by vera: why")
    assert [app["state"] for app in rig.cluster.apps().values()] == ["CANCELLED", "RUNNING", "RUNNING"]
    assert rig.store.steering("loop").open_requests == ()


def test_a_stopped_trial_that_had_succeeded_is_completed(rig: Rig) -> None:
    loop = rig.loop()
    settled(loop)
    want(rig, Action.STOP_TRIAL, 0)
    rig.end(0)
    settled(loop)
    assert rig.statuses()[0] == "COMPLETED"


def test_a_stopped_trial_without_an_app_gets_none(rig: Rig) -> None:
    loop = rig.loop()
    generate_trials(rig.store, "loop", 1, task_key=loop.task_key)
    want(rig, Action.STOP_TRIAL, 0)
    assert indexes(settled(loop)) == [1]
    assert rig.statuses()[0] == "ABANDONED"
    assert len(rig.cluster.apps()) == 1


@pytest.mark.parametrize("point", ["submit.before_submit", "submit.after_submit"])
def test_a_stopped_trial_whose_submission_was_killed_leaves_no_attempt_open_and_no_app(rig: Rig, point: str) -> None:
    killed_at(point, lambda: settled(rig.loop()))
    want(rig, Action.STOP_TRIAL, 0)
    assert indexes(settled(rig.loop(try_number=2))) == [1]
    [attempt] = rig.store.attempts("loop", 0)
    assert attempt.finished_at is not None
    assert rig.statuses() == {0: "ABANDONED", 1: "RUNNING"}
    assert [app["state"] for app in rig.cluster.apps().values()] == (
        ["CANCELLED", "RUNNING"] if point == "submit.after_submit" else ["RUNNING"]
    )


def test_trials_by_hand_come_before_the_optimizers_in_their_order(rig: Rig) -> None:
    loop = rig.loop(max_trials=4)
    settled(loop)
    for x in (0.25, 0.75):
        want(rig, Action.QUEUE_TRIAL, parameters={"x": x})
    for index in (0, 1, 2):
        rig.end(index)
        settled(loop)
    trials = rig.store.trials("loop")
    assert [trial.parameters["x"] for trial in trials[1:3]] == [0.25, 0.75]
    assert [trial.origin for trial in trials] == ["generated", "attached", "attached", "generated"]
    assert wanted(rig) == ["trial 1", "trial 2"]
    want(rig, Action.QUEUE_TRIAL, parameters={"x": 0.1})
    rig.end(3)
    assert settled(loop).finished == "max_trials: the experiment has 4 trials"
    assert wanted(rig)[2] is None  # still open


def test_a_queued_trial_that_does_not_fit_any_more_is_refused_and_the_loop_goes_on(rig: Rig) -> None:
    loop = rig.loop()
    want(rig, Action.QUEUE_TRIAL, parameters={"x": 7.0})
    assert indexes(settled(loop)) == [0]
    (outcome,) = wanted(rig)
    assert outcome is not None
    assert outcome.startswith("refused: ")
    assert rig.store.trial("loop", 0).origin == "generated"


def test_a_queued_trial_runs_although_ax_has_none_to_propose(rig: Rig) -> None:
    spec: dict[str, Any] = {
        "name": "loop",
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
        "objective": "-loss",
        "generation": {"initialization_budget": 1, "max_parallelism": 1},
    }
    loop = rig.loop(spec=spec, parallelism=2)
    assert indexes(settled(loop)) == [0]
    want(rig, Action.QUEUE_TRIAL, parameters={"x": 0.25})
    assert indexes(settled(loop)) == [0, 1]


def fail_first(rig: Rig, **options: Any) -> None:
    (rig.cluster.root / "app-0.log").write_text("")
    settled(rig.loop(**options))
    rig.end(0, "FAILED", message="exit code 1")


def test_a_failed_trial_of_the_loop_runs_again_as_another_attempt(rig: Rig) -> None:
    fail_first(rig)
    loop = rig.loop(parallelism=2)
    settled(loop)
    want(rig, Action.RETRY_TRIAL, 0)
    rig.end(1)
    step = settled(loop)
    assert [(run.trial_index, run.number) for run in step.live] == [(0, 2), (2, 1)]
    rig.end(0)
    settled(loop)
    assert rig.statuses()[0] == "COMPLETED"
    assert wanted(rig) == ["trial 0 runs again"]
    assert [run.number for run in rig.store.attempts("loop", 0)] == [1, 2]


def test_a_trial_that_fails_again_is_failed(rig: Rig) -> None:
    fail_first(rig)
    loop = rig.loop()
    settled(loop)
    want(rig, Action.RETRY_TRIAL, 0)
    rig.end(1)
    settled(loop)
    (rig.cluster.root / "app-2.log").write_text("")
    rig.end(0, "FAILED", message="exit code 2")
    settled(loop)
    trial = rig.store.trial("loop", 0)
    assert (trial.status, trial.reason) == ("FAILED", "exit code 2")
    assert len(rig.store.attempts("loop", 0)) == 2


def test_a_failed_trial_that_waits_to_run_again_is_stopped_and_keeps_its_attempt_as_it_ended(rig: Rig) -> None:
    fail_first(rig)
    loop = rig.loop()
    settled(loop)  # trial 1 holds the only slot
    [ended] = rig.store.attempts("loop", 0)
    want(rig, Action.RETRY_TRIAL, 0)
    assert indexes(settled(loop)) == [1]
    assert rig.statuses()[0] == "CANDIDATE"
    want(rig, Action.STOP_TRIAL, 0)
    assert indexes(settled(loop)) == [1]
    assert rig.store.attempts("loop", 0) == [ended]
    trial = rig.store.trial("loop", 0)
    assert (trial.status, trial.reason) == ("ABANDONED", "exit code 1")


def test_a_failed_trial_of_another_task_runs_again_as_a_new_trial(rig: Rig) -> None:
    fail_first(rig, max_trials=1)
    settled(rig.loop(max_trials=1))
    want(rig, Action.RETRY_TRIAL, 0)
    assert indexes(settled(rig.loop(run_id="other"))) == [1]
    first, second = rig.store.trials("loop")
    assert (first.status, first.parameters) == ("FAILED", second.parameters)
    assert wanted(rig) == ["trial 1"]


def test_an_operator_that_generates_obeys_too(rig: Rig) -> None:
    settled(rig.loop())
    want(rig, Action.PAUSE)
    with pytest.raises(ExperimentPausedError, match="asked by vera: why"):
        generate_trials(rig.store, "loop", 1, task_key="dag/generate/-1")
    want(rig, Action.RUN)
    want(rig, Action.LIMITS, limits={"max_trials": 2})
    want(rig, Action.QUEUE_TRIAL, parameters={"x": 0.25})
    generation = generate_trials(rig.store, "loop", 3, task_key="dag/generate/-1", max_trials=50)
    assert [trial.parameters for trial in generation.trials] == [{"x": 0.25}]
    want(rig, Action.DRAIN)
    generation = generate_trials(rig.store, "loop", 3, task_key="dag/later/-1")
    assert (generation.trials, generation.finished) == ((), "drain: asked by vera: why")


def test_a_task_that_submits_one_trial_obeys_too(rig: Rig) -> None:
    loop = rig.loop()
    generate_trials(rig.store, "loop", 2, task_key=loop.task_key)
    check_may_start(rig.store, "loop", 0)
    want(rig, Action.PAUSE)
    with pytest.raises(ExperimentPausedError):
        check_may_start(rig.store, "loop", 0)
    want(rig, Action.STOP_TRIAL, 0)
    for index, action in ((0, None), (1, Action.DRAIN)):
        if action:
            want(rig, action)
        for _ in range(2):
            with pytest.raises(TrialStoppedError):
                check_may_start(rig.store, "loop", index)
    assert rig.statuses() == {0: "ABANDONED", 1: "ABANDONED"}


# Killed at every point between what is wanted and what is done about it


def running(rig: Rig) -> None:
    settled(rig.loop(parallelism=2))


def failed(rig: Rig) -> None:
    fail_first(rig, parallelism=2)
    settled(rig.loop(parallelism=2))
    rig.end(1)


def one_ended(rig: Rig) -> None:
    running(rig)
    rig.end(0)


#: What is wanted after what has happened, and the points that a step passes when it obeys.
KILLS: dict[str, tuple[Callable[[Rig], None], Callable[[Rig], None], list[str]]] = {
    "stop": (
        running,
        lambda rig: want(rig, Action.STOP),
        ["steering.after_read", "cancel.after_request", "cancel.after_cancel", "store.after_stop_loop_commit"],
    ),
    "stop_trial": (
        running,
        lambda rig: want(rig, Action.STOP_TRIAL, 1),
        ["steering.after_read", "cancel.after_request", "cancel.after_cancel", "store.before_end_attempt_commit"],
    ),
    "queue": (
        one_ended,
        lambda rig: want(rig, Action.QUEUE_TRIAL, parameters={"x": 0.25}),
        [
            *("steering.after_read", "steering.before_add", "store.before_add_queued_trial_commit"),
            *("store.after_add_queued_trial_commit", "steering.after_add", "submit.after_submit"),
        ],
    ),
    "retry": (
        failed,
        lambda rig: want(rig, Action.RETRY_TRIAL, 0),
        [
            *("steering.after_read", "store.before_reopen_trial_commit", "steering.after_reopen"),
            *("submit.before_begin_attempt", "submit.after_submit"),
        ],
    ),
    "change_definition": (
        one_ended,
        lambda rig: want(rig, Action.CHANGE_DEFINITION, changes={"parameters": {"x": {"bounds": [0.0, 2.0]}}}),
        [
            *("definition.before_change", "store.before_change_definition_commit"),
            *("store.after_change_definition_commit", "definition.after_change"),
        ],
    ),
    "analyze": (
        running,
        lambda rig: want(rig, Action.ANALYZE),
        [
            *("explain.before_compute", "explain.before_record", "store.before_record_explanation_commit"),
            *("store.after_record_explanation_commit", "explain.after_record"),
        ],
    ),
}


@pytest.mark.parametrize(
    ("name", "point"), [(name, point) for name, (_, _, points) in KILLS.items() for point in points]
)
def test_a_killed_step_leaves_what_is_wanted_open_or_done_once(rig: Rig, name: str, point: str) -> None:
    before, asked, _ = KILLS[name]
    before(rig)
    asked(rig)
    killed_at(point, lambda: settled(rig.loop(parallelism=2)))
    settled(rig.loop(parallelism=2, try_number=2))
    settled(rig.loop(parallelism=2, try_number=2))  # sees the end of an app that the step before has cancelled
    assert rig.store.steering("loop").open_requests == ()
    assert set(rig.started().values()) == {1}
    if name == "stop":
        assert rig.statuses() == {0: "ABANDONED", 1: "ABANDONED"}
    elif name == "stop_trial":
        assert rig.statuses() == {0: "RUNNING", 1: "ABANDONED", 2: "RUNNING"}
    elif name == "queue":
        assert [trial.index for trial in rig.store.trials("loop") if trial.parameters == {"x": 0.25}] == [2]
    elif name == "change_definition":
        assert wanted(rig) == ["from trial 2 on"]
        assert rig.store.spec("loop")["parameters"][0]["bounds"] == [0.0, 2.0]
        assert [(one.trials, one.spec["parameters"][0]["bounds"]) for one in rig.store.snapshot("loop").history] == [
            (2, [0.0, 1.0])
        ]
    elif name == "analyze":
        assert wanted(rig) == [
            "Ax has no model yet: 0 trials have completed, and it fits one after the initialization."
        ]
        assert [card.name for card in rig.store.explanation("loop")] == ["summary"]
    else:
        assert [run.number for run in rig.store.attempts("loop", 0)] == [1, 2]
        assert rig.statuses()[0] == "RUNNING"
