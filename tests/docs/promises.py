"""The promises of the README and what shows each: ``python -m tests.docs.promises`` writes the page about them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how_we_know.md"

_FAULTS = "tests/e2e/test_faults_airflow.py"
_KILLS = "tests/faults/test_kills.py::test_nothing_is_lost_doubled_or_left"
_SCRIPT = "tests/e2e/test_script_airflow.py::test_it_is_tuned"
_RECORDED = ("test_a_killed_call_is_repaired_by_the_next", "test_processes_at_once_make_no_second_run")

#: Words of the README, and the tests, benchmarks and commands that show them.
SHOWN_BY: dict[str, tuple[str, ...]] = {
    "Every step is recorded before it happens": (
        "tests/store/test_crashes.py::test_killed_before_the_commit",
        "tests/store/test_crashes.py::test_killed_after_the_commit",
    ),
    "no trial is lost, none runs twice, and no job is orphaned": (
        _KILLS,
        "tests/faults/test_shapes.py::test_a_shape_leaves_nothing",
        "tests/lifecycle/test_doors_killed.py::test_kills_at_random_moments_lose_and_double_nothing",
        f"{_FAULTS}::test_a_killed_scheduler_with_all_its_tasks_loses_nothing",
        "make faults",
        "make platform",
    ),
    "a real Airflow tunes a real model with 15 trials": (
        "tests/e2e/test_dags.py::test_tune_digits_ends_with_the_best_and_a_final_fit",
        "make demo",
    ),
    "It imports nothing of Airflow, Ax or TorchX": (_SCRIPT,),
    "With `deferrable=True` it occupies no worker slot while it waits for apps of more than about ten seconds": (
        "tests/e2e/test_optimize_airflow.py::test_killed_task_and_triggerer_lose_and_double_nothing",
    ),
    "Each call runs in a process of its own, on any scheduler": (
        "tests/operators/test_functions.py",
        "tests/contracts/test_programs.py",
    ),
    "A task that fails makes its trial FAILED, with a link to its log": (
        "tests/e2e/test_bodies_airflow.py::test_tasks_of_several_kinds_are_trials_and_a_failed_one_is_data",
        _SCRIPT,
        "make test-integrations",
    ),
    "All tasks of the group may run again at any time": (
        f"{_FAULTS}::test_a_cleared_submit_task_starts_a_new_attempt_and_cancels_the_old_one",
        "tests/e2e/test_cases_whose_app.py::test_a_cleared_reap_leaves_the_apps_of_the_next_loop_running",
    ),
    "The teardown `reap` ends every app and trial that the tasks of the group have left open": (
        f"{_FAULTS}::test_a_dag_run_marked_as_failed_leaves_nothing_running",
        "tests/e2e/test_cases_whose_app.py::test_a_reap_leaves_the_apps_of_another_group_running",
    ),
    "With `trial_retries=1` a trial whose app was lost or\npreempted runs once more": (
        f"{_FAULTS}::test_an_app_lost_with_its_supervisor_is_submitted_again",
        "make engines-slurm",
    ),
    "**Limits.**": ("tests/operators/test_optimize.py", "tests/lifecycle/test_step.py"),
    "**Early stopping.**": (
        "tests/operators/test_early_stopping.py",
        "benchmarks/early_stopping.py",
        "tests/lifecycle/test_promotion.py::test_killed_while_a_trial_is_promoted",
        "tests/lifecycle/test_promotion_killed.py::test_kills_at_random_moments_lose_and_double_nothing",
        "benchmarks/asha.py",
    ),
    "**Checkpoints.**": (
        "tests/lifecycle/test_checkpoints.py",
        "tests/contracts/test_slurm_preemption.py::test_a_trial_that_lost_its_job_repeats_at_most_one_epoch",
        "make engines-slurm",
    ),
    "**Cost.**": ("tests/operators/test_metrics.py", "tests/plugin/test_cost.py"),
    "**A page in Airflow's UI.**": ("make test-browser", "tests/plugin/test_access.py"),
    "**Assets and notifications.**": (
        "tests/e2e/test_assets.py::test_a_dag_that_is_scheduled_on_the_experiment_gets_each_completed_trial",
        "tests/e2e/test_assets.py::test_the_callback_hears_of_new_best_trials_only",
        "tests/e2e/test_assets.py::test_metrics_come_from_task_processes_and_from_the_triggerer",
        "tests/e2e/test_assets.py::test_the_lineage_backend_hears_of_experiment_and_trials",
    ),
    "**Other trackers.**": (
        *(f"tests/integrations/test_tensorboard.py::{name}" for name in _RECORDED),
        *(f"tests/integrations/test_mlflow.py::{name}" for name in _RECORDED),
        *(f"tests/integrations/test_wandb.py::{name}" for name in _RECORDED),
        "make test-integrations",
    ),
    "**Notebooks.**": ("tests/optimizer/test_parity.py::test_separate_processes_propose_what_one_client_proposes",),
    "Every terminal status ends the sensor successfully": (
        "tests/e2e/test_dags.py::test_a_failing_app_fails_its_trial_with_a_reason_and_the_loop_goes_on",
    ),
    "Both connections are optional": ("make demo",),
}


def page() -> str:
    """Return the page as Markdown."""
    lines = [
        "# How we know",
        "",
        "<!-- Written by python -m tests.docs.promises. -->",
        "For each promise of the README this page names the tests, benchmarks and commands that show it. A test fails",
        "when a promise is no longer in the README, when a test is gone, or when a feature that the README lists is",
        "missing here.",
        "",
        "| promise | shown by |",
        "|---|---|",
    ]
    lines += [f"| {' '.join(promise.split())} | {', '.join(map(_shown, by))} |" for promise, by in SHOWN_BY.items()]
    return "\n".join(lines) + "\n"


def _shown(by: str) -> str:
    return f"`{by}`"


if __name__ == "__main__":
    PAGE.write_text(page())
