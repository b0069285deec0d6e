"""One trial's bad result ends that trial and no other; a result that becomes visible late is a result."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from realairflow import poll
from torchx.runtime.tracking import FsspecResultTracker

from tests.e2e.world import LONG, Scenario, World

pytestmark = [pytest.mark.airflow, pytest.mark.cases]

#: What trial 1 leaves instead of a result file.
KINDS = ("folder", "symlink", "fifo")


def assert_only_trial_1_failed(run: Scenario) -> None:
    assert run.statuses() == {0: "COMPLETED", 1: "FAILED", 2: "COMPLETED", 3: "COMPLETED"}
    assert run.starts() == dict.fromkeys(range(4), 1)
    assert run.cancelled() == []
    assert run.left_open() == []
    assert run.living() == []
    assert run.trials()[1].reason


@pytest.fixture(scope="module")
def odd(cases: World) -> dict[str, Scenario]:
    """A DAG run for each kind, made at once because starting takes longest; trial 1 ends first."""
    runs = {kind: cases.scenario("deferred_optimize", behaviours=f"good-{kind}-good") for kind in KINDS}
    for run in runs.values():
        run.let_go(1)
    return runs


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_result_file_fails_its_trial_while_the_others_go_on(odd: dict[str, Scenario], kind: str) -> None:
    run = odd[kind]
    run.await_starts(3)  # the slot of trial 1 was refilled
    assert run.statuses() == {0: "RUNNING", 1: "FAILED", 2: "RUNNING"}
    run.let_go()
    run.await_end()
    assert_only_trial_1_failed(run)


def test_a_task_that_looks_all_the_time_does_not_give_up_the_others(cases: World) -> None:
    run = cases.scenario("poking_optimize_without_pause", behaviours="good-symlink-good")
    run.let_go(1)
    run.await_starts(3)
    run.let_go()
    run.await_end()
    assert_only_trial_1_failed(run)


@pytest.mark.parametrize("kind", ["symlink", "fifo"])
def test_a_loop_goes_on_after_a_trial_without_a_result_file(cases: World, kind: str) -> None:
    run = cases.scenario("two_rounds", behaviours=f"good-{kind}-good")
    run.let_go()
    run.await_end()
    assert_only_trial_1_failed(run)


def test_an_error_of_a_generator_of_ones_own_leaves_no_app_running(cases: World) -> None:
    run = cases.scenario("broken_generator")
    run.await_end("failed")
    assert "this generator is broken" in run.log("optimize", -1)
    assert run.statuses() == {0: "ABANDONED", 1: "ABANDONED", 2: "ABANDONED"}
    assert run.left_open() == []
    assert run.living() == []


def report(run: Scenario) -> None:
    """Write the result of trial 0, as a file system does that shows it late."""
    (attempt,) = run.runs()
    Path(attempt.tracker_base).mkdir(parents=True, exist_ok=True)
    FsspecResultTracker(attempt.tracker_base)[0] = {"loss": 0.25}


def await_exit(run: Scenario) -> None:
    run.await_starts(1)
    run.let_go()
    run.await_app_states(["SUCCEEDED"])


@pytest.mark.parametrize("dag_id", ["late_loop", "late_optimize"])
def test_a_result_that_becomes_visible_seconds_after_the_exit_counts(cases: World, dag_id: str) -> None:
    run = cases.scenario(dag_id, behaviours="nothing")
    await_exit(run)
    later = threading.Timer(3.0, report, [run])
    later.start()
    run.await_end()
    later.join()
    run.assert_completed(1)


def test_a_clear_completes_a_trial_whose_result_became_visible_too_late(cases: World) -> None:
    run = cases.scenario("late_loop", behaviours="nothing")
    await_exit(run)
    run.await_end(None)
    assert run.statuses() == {0: "FAILED"}
    assert "reported nothing" in str(run.trials()[0].reason)
    report(run)
    cases.env.api.clear(run.dag_id, run.run_id, [("tune.round_0.complete", 0)])
    poll(lambda: run.statuses() == {0: "COMPLETED"} or None, LONG, lambda: f"{run.statuses()}; {run.states()}")
    run.await_end()
    run.assert_completed(1)
