"""Each row of the tables of ``docs/howto/killing.md`` is shown by tests that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "killing.md"

_FAULTS = "tests/e2e/test_faults_airflow.py"
_ENDED = "tests/e2e/test_cases_ended.py"
_RESULTS = "tests/e2e/test_cases_results.py"
_WAITING = "tests/e2e/test_cases_waiting.py"
_WHOSE = "tests/e2e/test_cases_whose_app.py"
_KILLED = "tests/operators/test_killed_tasks.py"
_LIFE = "tests/operators/test_trial_life.py"
_STEP = "tests/lifecycle/test_step.py"

#: The first cell of each row, and the tests that show it.
SHOWN_BY: dict[str, tuple[str, ...]] = {
    "a worker dies while it submits": (
        f"{_FAULTS}::test_a_killed_task_process_is_retried_and_its_app_runs_once",
        "tests/faults/test_kills.py::test_nothing_is_lost_doubled_or_left",
    ),
    "a worker dies or gets SIGTERM while it waits": (
        f"{_FAULTS}::test_a_killed_poking_sensor_is_retried_and_its_app_goes_on",
        f"{_WAITING}::test_an_interrupted_wait_loses_no_trial",
        "tests/faults/test_shapes.py::test_a_worker_that_is_asked_to_stop_leaves_nothing",
    ),
    "a worker is stopped for longer than Airflow waits, and continues": (
        "tests/e2e/test_cases_stopped.py::test_a_sensor_that_was_taken_for_dead_leaves_its_app_to_the_cleared_task",
        f"{_KILLED}::test_a_stranger_that_comes_back_ends_nothing_of_the_newer_try",
        f"{_KILLED}::test_a_sensor_that_comes_back_after_a_clear_leaves_the_app_to_the_newer_try",
    ),
    "the triggerer dies, restarts or is away": (
        f"{_FAULTS}::test_a_killed_triggerer_cancels_no_app",
        f"{_WAITING}::test_an_app_that_succeeded_while_the_triggerer_was_away_over_its_deadline_is_completed",
    ),
    "the scheduler or the API server of Airflow restarts": (
        f"{_FAULTS}::test_a_killed_scheduler_with_all_its_tasks_loses_nothing",
        f"{_FAULTS}::test_apps_outlive_a_restart_of_the_api_server",
    ),
    "the whole machine restarts": (
        "tests/launcher/local_detached/test_local_detached_end.py::test_after_a_restart_of_the_host_the_app_is_lost",
        f"{_STEP}::test_an_app_that_is_lost_is_resubmitted_while_retries_are_left",
    ),
    "the app exits non-zero": (
        "tests/e2e/test_dags.py::test_a_failing_app_fails_its_trial_with_a_reason_and_the_loop_goes_on",
        f"{_LIFE}::test_the_log_of_a_failed_app_is_in_the_task_log",
    ),
    "the app reports nothing": (
        f"{_RESULTS}::test_a_result_that_becomes_visible_seconds_after_the_exit_counts",
        f"{_RESULTS}::test_a_clear_completes_a_trial_whose_result_became_visible_too_late",
    ),
    "the app reports NaN or text, or a result that cannot be read": (
        f"{_LIFE}::test_what_an_app_does_wrong_fails_the_trial_not_the_task",
        f"{_RESULTS}::test_what_is_no_result_file_fails_its_trial_while_the_others_go_on",
    ),
    "a node fails, a job is preempted": (
        f"{_FAULTS}::test_an_app_lost_with_its_supervisor_is_submitted_again",
        "tests/e2e/test_slurm_airflow.py::test_a_killed_node_costs_one_resubmission_and_slurmdbd_away_nothing",
    ),
    "the TorchX scheduler does not answer": (
        "tests/operators/test_waiting.py::test_a_rescheduled_task_counts_failed_polls_over_its_processes",
        "tests/operators/test_waiting.py::test_pauses_grow_while_the_scheduler_does_not_answer",
        "tests/triggers/test_poller.py::test_after_too_many_errors_those_who_wait_are_told",
    ),
    "the app runs on another host, which alone can observe it": (
        "tests/operators/test_waiting.py::test_an_app_of_another_host_is_an_error_that_names_it_and_no_verdict",
        f"{_STEP}::test_what_only_another_host_can_observe_holds_up_no_other_app",
    ),
    "that host does not exist any more": (
        "tests/lifecycle/test_lost_host.py::test_attempts_of_a_host_that_is_gone_are_settled",
        "tests/lifecycle/test_lost_host.py::test_a_task_that_still_waits_submits_them_again",
        "tests/test_cli.py::test_a_lost_host_ends_its_attempts_also_those_of_active_dag_runs",
    ),
    "the database is away": (
        "tests/faults/test_outage.py::test_an_outage",
        "tests/faults/test_outage.py::test_an_outage_that_outlasts_the_patience_of_the_store",
    ),
    "`timeout` has passed since submission": (
        f"{_LIFE}::test_an_app_whose_time_is_up_is_cancelled",
        "tests/operators/test_waiting.py::test_an_app_that_succeeded_before_its_time_out_reached_it_is_no_time_out",
        "tests/operators/test_waiting.py::test_time_in_the_queue_is_named_as_such",
    ),
    "`execution_timeout` of the task has passed, also while it is deferred": (
        f"{_ENDED}::test_an_execution_timeout_ends_the_apps",
        f"{_KILLED}::test_an_execution_timeout_that_passes_while_the_task_is_deferred",
    ),
    "the task fails for good, whatever the error": (
        f"{_RESULTS}::test_an_error_of_a_generator_of_ones_own_leaves_no_app_running",
        f"{_KILLED}::test_any_error_that_ends_the_task_for_good_ends_its_app",
        "tests/operators/test_final_errors.py::test_an_error_for_which_the_retry_policy_fails_the_task",
    ),
    "mark a task as failed or as success, running or deferred": (
        f"{_ENDED}::test_what_is_ended_from_outside_is_settled",
        f"{_FAULTS}::test_marking_a_deferred_sensor_ends_its_app_and_its_trial",
    ),
    "Clear a waiting task or an optimize task": (
        f"{_FAULTS}::test_a_cleared_deferred_sensor_waits_on_for_its_app",
        "tests/e2e/test_optimize_airflow.py::test_a_cleared_deferred_task_goes_on_with_its_apps",
    ),
    "Clear a task that submits, also one that then waits": (
        f"{_FAULTS}::test_a_cleared_submit_task_starts_a_new_attempt_and_cancels_the_old_one",
        f"{_FAULTS}::test_a_cleared_running_task_starts_a_new_attempt_and_cancels_the_old_one",
    ),
    "Clear a generate task": (f"{_LIFE}::test_a_generate_task_that_is_retried_or_cleared_gets_its_own_trials_again",),
    "Clear a complete task": (
        f"{_RESULTS}::test_a_clear_completes_a_trial_whose_result_became_visible_too_late",
        f"{_LIFE}::test_a_cleared_complete_task_changes_nothing_of_the_same_outcome",
    ),
    "Clear a reap task": (f"{_WHOSE}::test_a_cleared_reap_leaves_the_apps_of_the_next_loop_running",),
    "mark the DAG run as failed": (
        f"{_ENDED}::test_what_is_ended_from_outside_is_settled",
        f"{_FAULTS}::test_a_dag_run_marked_as_failed_leaves_nothing_running",
    ),
    "delete the DAG run and trigger it again under the same id": (
        f"{_WHOSE}::test_a_dag_run_made_again_with_the_id_of_a_deleted_one_runs_new_trials",
    ),
    "change `component`, `component_args`, `metrics` or `scheduler` of an experiment that has trials": (
        f"{_WHOSE}::test_apps_outlive_a_change_of_the_scheduler",
        f"{_STEP}::test_live_apps_go_on_with_their_scheduler_before_another_one_is_refused",
        f"{_STEP}::test_another_app_is_refused_unless_it_is_asked_for",
        "tests/operators/test_untouched_programs.py::test_metrics_that_differ_from_the_recorded_are_refused",
    ),
}


def rows() -> list[str]:
    """Return the first cell of each row of the page's tables."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    cells = [line.split("|")[1].strip() for line in lines]
    # A line of dashes follows each head.
    heads = {index - 1 for index, cell in enumerate(cells) if set(cell) == {"-"}}
    return [cell for index, cell in enumerate(cells) if index not in heads and set(cell) != {"-"}]


def test_each_row_is_shown_by_a_test() -> None:
    assert len(rows()) > 20
    assert rows() == list(SHOWN_BY)


@pytest.mark.parametrize("test", sorted({test for tests in SHOWN_BY.values() for test in tests}))
def test_a_test_that_shows_a_row_exists(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions
