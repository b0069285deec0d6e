"""Paused trials go on with a larger budget: the best of each rung, each attempt once, whatever is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE
from airflow_provider_axtx.core.promotion import since_last_pause
from airflow_provider_axtx.lifecycle import attempts as attempts_module
from airflow_provider_axtx.lifecycle.checkpoints import prune_checkpoints
from airflow_provider_axtx.lifecycle.optimize import Loop
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxOptimizeOperator
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from tests.lifecycle.rig import SPEC, Rig, settled

#: Imported here, so that a forked process need not import it.
PRELOADED = (optimizer,)
HALVING: dict[str, Any] = {
    "type": "successive_halving",
    "min_resource": 1,
    "reduction_factor": 3,
    "max_resource": 9,
    "promotion": {"argument": "epochs"},
}
PROMOTING = {**SPEC, "early_stopping": HALVING}
COMPONENT = f"{Path(__file__).with_name('components.py')}:budgeted"


def loop_of(rig: Rig, **arguments: Any) -> Loop:
    return rig.loop(spec=PROMOTING, component=COMPONENT, **{"max_trials": 9, "parallelism": 2, **arguments})


def budgets(rig: Rig) -> dict[int, list[float | None]]:
    found: dict[int, list[float | None]] = {}
    for attempt in rig.store.attempts("loop"):
        found.setdefault(attempt.trial_index, []).append(attempt.budget)
    return found


def run_to_the_end(rig: Rig, loop: Loop) -> str:
    """Let every app succeed; return why the loop has ended."""
    while (step := settled(loop)).finished is None:
        for attempt in step.live:
            assert rig.app_of(attempt.trial_index)[1]["roles"][0]["args"][-1] == f"{attempt.budget:g}"
            rig.end(attempt.trial_index)
    return step.finished


def assert_promoted_as_asha_does(rig: Rig, trials: int) -> None:
    """Assert that the best trial has come to the end, the others to a rung, and that every attempt was made once."""
    x = {trial.index: trial.parameters["x"] for trial in rig.store.trials("loop")}
    found, best = budgets(rig), min(x, key=lambda index: float(x[index]))
    assert found[best] == [1, 3, 9]
    assert all(one in ([1], [1, 3], [1, 3, 9]) for one in found.values())
    whole = {index for index, one in found.items() if one == [1, 3, 9]}
    assert rig.statuses() == {index: "COMPLETED" if index in whole else "EARLY_STOPPED" for index in range(trials)}
    assert sum(one[:2] == [1, 3] for one in found.values()) >= trials // 3
    attempts = rig.store.attempts("loop")
    assert rig.started() == {attempt.submission_key: 1 for attempt in attempts}
    assert {attempt.app_state for attempt in attempts} == {"SUCCEEDED"}
    seen = {(one.trial_index, one.step): one.mean for one in rig.store.snapshot("loop").observations}
    rungs = {(index, None if budget == 9 else budget) for index, one in found.items() for budget in one}
    assert seen == {(index, step): x[index] for index, step in rungs}


def test_the_best_of_each_rung_go_on_with_the_next_budget(rig: Rig) -> None:
    assert run_to_the_end(rig, loop_of(rig)) == "max_trials: the experiment has 9 trials"
    assert_promoted_as_asha_does(rig, 9)
    paused = {trial.reason for trial in rig.store.trials("loop") if trial.status == "EARLY_STOPPED"}
    assert paused == {"paused at epochs=1", "paused at epochs=3"}


@pytest.mark.parametrize("parallelism", [1, 3])
def test_the_baseline_has_the_whole_budget_at_once(rig: Rig, parallelism: int) -> None:
    spec = {**PROMOTING, "baseline": {"x": 0.9}}
    loop = rig.loop(spec=spec, component=COMPONENT, max_trials=4, parallelism=parallelism)
    run_to_the_end(rig, loop)
    assert rig.statuses()[0] == "COMPLETED"
    found = budgets(rig)
    assert found.pop(0) == [9]
    assert len(found) == 3 and all(one[0] == 1 for one in found.values())


def test_with_too_few_trials_for_a_rung_the_best_one_goes_on_at_the_end(rig: Rig) -> None:
    run_to_the_end(rig, loop_of(rig, max_trials=2))
    x = [trial.parameters["x"] for trial in rig.store.trials("loop")]
    assert budgets(rig) == {x.index(min(x)): [1, 3, 9], x.index(max(x)): [1]}


def test_a_task_that_resumes_an_experiment_completes_its_own_best_trial(rig: Rig) -> None:
    def run(run_id: str, losses: dict[int, float], **limits: Any) -> str:
        loop = rig.loop(spec=PROMOTING, component=COMPONENT, run_id=run_id, parallelism=3, **limits)
        while (step := settled(loop)).finished is None:
            for attempt in step.live:
                rig.end(attempt.trial_index, loss=losses[attempt.trial_index])
            if run_id == "earlier":
                loop.limits = loop.limits.model_copy(update={"max_seconds": 1e-6})
        return step.finished

    assert run("earlier", {0: 0.1, 1: 0.2, 2: 0.3}, max_trials=3).startswith("max_seconds")
    assert run("later", {3: 0.5, 4: 0.4, 5: 0.6}, max_trials=6).startswith("max_trials")
    assert budgets(rig) == {0: [1], 1: [1], 2: [1], 3: [1], 4: [1, 3, 9], 5: [1]}
    assert rig.statuses()[4] == "COMPLETED"


@pytest.mark.parametrize(("observed", "parallelism"), [(None, 2), (3, 2), (3, 1)])
def test_the_model_takes_over_although_most_trials_of_the_initialization_only_paused(
    rig: Rig, observed: int | None, parallelism: int
) -> None:
    # Ax's model waits for COMPLETED trials, by default for two, and five trials of the initialization complete none.
    generation = {"random_seed": 7, "min_observed_initialization_trials": observed}
    spec = {**PROMOTING, "generation": generation}
    loop = rig.loop(spec=spec, component=COMPONENT, max_trials=9, parallelism=parallelism)
    assert run_to_the_end(rig, loop) == "max_trials: the experiment has 9 trials"
    assert "MBM" in {trial.generation_node for trial in rig.store.trials("loop")}
    assert list(rig.statuses().values()).count("COMPLETED") >= (observed or 1)


def test_an_attempt_after_an_infrastructure_failure_has_the_same_budget(rig: Rig) -> None:
    loop = loop_of(rig, max_trials=1, parallelism=1, trial_retries=1)
    settled(loop)
    rig.end(0)
    settled(loop)  # nothing else can start: it goes on
    rig.end(0, "FAILED", message="node failure: lost")
    run_to_the_end(rig, loop)
    assert rig.statuses() == {0: "FAILED"}  # the app's own fault
    assert budgets(rig) == {0: [1, 3]}


def test_a_paused_trial_keeps_its_checkpoints_until_the_experiment_has_ended(rig: Rig) -> None:
    run_to_the_end(rig, loop_of(rig, max_trials=2))
    (paused,) = (index for index, status in rig.statuses().items() if status == "EARLY_STOPPED")
    assert prune_checkpoints(rig.store, "loop", "best") == []
    assert prune_checkpoints(rig.store, "loop", "best", is_over=True) == [paused]


def test_the_usage_of_an_attempt_is_counted_once(rig: Rig) -> None:
    run_to_the_end(rig, loop_of(rig, max_trials=1, parallelism=1))
    attempts = rig.store.attempts("loop", 0)
    assert [since_last_pause(attempts[:number]) for number in (1, 2, 3)] == [[one] for one in attempts]


POINTS = (
    *("submit.before_begin_attempt", "store.before_begin_attempt_commit", "store.after_begin_attempt_commit"),
    *("submit.before_submit", "submit.after_submit", "submit.after_record_handle"),
    *("complete.before_record", "store.before_end_attempt_commit", "complete.after_record"),
)


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_a_trial_is_promoted(rig: Rig, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts_module, "CLAIM_SECONDS", 0.0)  # the writer of the row is dead
    for attempt in settled(loop_of(rig, max_trials=3, parallelism=3)).live:
        rig.end(attempt.trial_index)
    # The next step records three ends, and promotes the best of them.
    killed = multiprocessing.get_context("fork").Process(target=_step_armed, args=(rig, point))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    run_to_the_end(rig, loop_of(rig, max_trials=3, parallelism=3))
    assert_promoted_as_asha_does(rig, 3)


def _step_armed(rig: Rig, point: str) -> None:
    loop = loop_of(rig, max_trials=3, parallelism=3)
    os.environ[ARMED_VARIABLE] = point
    settled(loop)


def test_a_loop_of_tasks_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="not possible in a loop of tasks"):
        AxCreateExperimentOperator(task_id="create", experiment=PROMOTING)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"max_resource": None}, "early_stopping.max_resource"),
        ({"promotion": {"argument": "x"}}, "is a parameter of the experiment"),
        ({"promotion": {"argment": "x"}}, "early_stopping.promotion"),
    ],
)
def test_what_cannot_be_promoted_is_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        ExperimentSpec.load({**PROMOTING, "early_stopping": {**HALVING, **changed}})
    both = {"type": "or", "left": HALVING, "right": {"type": "percentile"}}
    with pytest.raises(InvalidInputError, match="cannot be combined with promotion"):
        ExperimentSpec.load({**PROMOTING, "early_stopping": both})


def test_a_placeholder_for_the_budget_is_known_when_the_dag_is_parsed() -> None:
    script = {"script": "train.py", "args": ["--x={x}", "--epochs={epochs}"]}
    arguments: dict[str, Any] = {"task_id": "tune", "component": "axtx.script", "component_args": script}
    AxOptimizeOperator(**arguments, experiment=PROMOTING, max_trials=1)
    with pytest.raises(InvalidInputError, match="epochs"):
        AxOptimizeOperator(**arguments, experiment=SPEC, max_trials=1)
