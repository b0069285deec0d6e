"""What ended well counts, however the wait for it was interrupted; and no wake-up comes too soon for Airflow."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from realairflow import poll

from tests.e2e.world import LONG, Scenario, World

pytestmark = [pytest.mark.airflow, pytest.mark.cases]

#: As in ``dags_cases/waiting.py``, in seconds.
SHORT_TIMEOUT = 45


def test_an_app_that_succeeded_while_the_triggerer_was_away_over_its_deadline_is_completed(cases: World) -> None:
    waits = {"deferred_loop_with_timeout": ("tune.round_0.wait", 0), "deferred_optimize_with_timeout": ("optimize", -1)}
    runs = {dag_id: cases.scenario(dag_id) for dag_id in waits}
    for dag_id, (task_id, map_index) in waits.items():
        runs[dag_id].await_starts(1)
        runs[dag_id].await_task(task_id, "deferred", map_index=map_index)
    cases.env.kill_tree("triggerer")
    for run in runs.values():
        run.let_go()
        run.await_app_states(["SUCCEEDED"])
    passed = max(attempt.submitted_at or 0 for run in runs.values() for attempt in run.runs()) + SHORT_TIMEOUT
    poll(lambda: time.time() > passed or None, LONG, "the deadline of all apps")
    cases.env.start("triggerer")
    for run in runs.values():
        run.await_end()
        run.assert_completed(1)


def terminate(run: Scenario, task_id: str, map_index: int) -> None:
    """Send the task's process SIGTERM, as a worker does that is shut down."""
    os.kill(run.await_task(task_id, "running", map_index=map_index)["pid"], signal.SIGTERM)
    index = max(map_index, 0)
    poll(lambda: run.tries(task_id)[index] == 2 or None, LONG, lambda: f"the second try; {run.states()}")


def clear(run: Scenario, task_id: str, map_index: int) -> None:
    """Clear the deferred task, as a user does."""
    run.await_task(task_id, "deferred", map_index=map_index)
    poll(lambda: ") starting" in run.log(task_id, map_index) or None, LONG, "the triggerer to run the trigger")
    run.world.env.api.clear(run.dag_id, run.run_id, [(task_id, map_index)])
    index = max(map_index, 0)
    poll(lambda: run.tries(task_id)[index] == 2 or None, LONG, lambda: f"the second try; {run.states()}")


Interrupt = Callable[[Scenario, str, int], None]
#: A task that waits, how it is interrupted, and how many trials it has.
INTERRUPTED: dict[str, tuple[Interrupt, str, int, int]] = {
    "poking_loop": (terminate, "tune.round_0.wait", 0, 1),
    "deferred_loop": (clear, "tune.round_0.wait", 0, 1),
    "fused_loop": (terminate, "tune.round_0.run", 0, 1),
    "poking_optimize": (terminate, "optimize", -1, 2),
}


@pytest.fixture(scope="module")
def interrupted(cases: World) -> dict[str, Scenario]:
    """A DAG run of each DAG, with all its apps, made at once because starting takes longest."""
    runs = {dag_id: cases.scenario(dag_id) for dag_id in INTERRUPTED}
    for dag_id, run in runs.items():
        run.await_starts(INTERRUPTED[dag_id][3])
    return runs


@pytest.mark.parametrize("dag_id", INTERRUPTED)
def test_an_interrupted_wait_loses_no_trial(interrupted: dict[str, Scenario], dag_id: str) -> None:
    interrupt, task_id, map_index, trials = INTERRUPTED[dag_id]
    run = interrupted[dag_id]
    interrupt(run, task_id, map_index)
    # It is tried again: whatever ended its process was not the end of the task.
    run.let_go()
    run.await_end()
    run.assert_completed(trials)


def await_deferred(run: Scenario, task_id: str, map_index: int) -> None:
    """Wait until the task is deferred; when its DAG run has failed, tell why."""
    if run.await_task(task_id, "deferred", "upstream_failed", map_index=map_index)["state"] != "deferred":
        run.await_end()


def test_a_task_that_is_resumed_at_once_after_its_deferral_goes_on(cases: World) -> None:
    """Six times each, as soon as Airflow says that the task is deferred: its supervisor does not know yet."""
    loops = [cases.scenario("deferred_loop_without_retries") for _ in range(3)]
    for number in range(2):
        for loop in loops:
            for index in range(3):
                await_deferred(loop, f"tune.round_{number}.wait", index)
                loop.let_go(3 * number + index)
    for loop in loops:
        loop.await_end()
        loop.assert_completed(6)


def test_an_optimize_task_that_is_resumed_at_once_after_each_deferral_goes_on(cases: World) -> None:
    runs = [cases.scenario("deferred_optimize_without_retries") for _ in range(3)]
    for trial in range(4):
        for run in runs:
            run.await_starts(min(4, trial + 3))
            run.await_task("optimize", "deferred", map_index=-1)
            run.let_go(trial)
            poll(lambda r=run, t=trial: r.statuses()[t] == "COMPLETED" or None, LONG, lambda r=run: f"{r.states()}")
    for run in runs:
        run.await_end()
        run.assert_completed(4)
