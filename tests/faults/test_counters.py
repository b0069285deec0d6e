"""The harness sees what it has to see: a product that was broken on purpose makes its counters non-zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.keys import submission_key
from airflow_provider_axtx.core.records import Observation, TaskIdentity
from airflow_provider_axtx.core.xcom import SubmittedTrial
from airflow_provider_axtx.launcher.local_detached import app_state
from airflow_provider_axtx.lifecycle import complete, reap, submit
from tests.faults.cases import Case, Result, Templates, play_out, run_case
from tests.faults.play import Injection
from tests.faults.scenarios import SCENARIOS

_SCENARIOS = {scenario.name: scenario for scenario in SCENARIOS}


def _submit_without_write_ahead(
    store: Any, launcher: Any, trial: Any, request: Any, identity: Any, **_: Any
) -> SubmittedTrial:
    """Submit first, record afterwards: what everybody writes at first."""
    run = store.latest_attempt(trial.experiment, trial.trial_index)
    if run is None:
        key = submission_key(trial.experiment, store.uid(trial.experiment), trial.trial_index, 1)
        base = f"{request.tracker_root}/{key}"
        where = {"trial_index": trial.trial_index, "experiment": trial.experiment, "tracker_base": base}
        plan = launcher.plan(request.component, trial.parameters, request.component_args, submission_key=key, **where)
        handle = launcher.submit(plan)
        run = store.begin_attempt(
            trial.experiment, trial.trial_index, scheduler=launcher.scheduler, tracker_base=base, identity=identity
        )
        run = store.record_handle(run, handle)
    return SubmittedTrial(
        **trial.to_json(), attempt=run.number, app_handle=run.app_handle, tracker_base=run.tracker_base
    )


def _no_write_ahead() -> None:
    submit.submit_trial = _submit_without_write_ahead  # type: ignore[assignment]


def _no_look_for_the_app() -> None:
    submit.find_app = lambda launcher, run: None


def _a_reaper_that_only_records() -> None:
    begin_as_it_is = reap._Reaping.begin

    def begin(reaping: Any, orphan: Any) -> None:
        if orphan.attempt is None:
            begin_as_it_is(reaping, orphan)
            return
        attempt = reaping.store.request_cancel(orphan.attempt, reaping.reason)
        reaping.conclude(attempt, AppObservation("CANCELLED", reaping.reason))

    reap._Reaping.begin = begin  # type: ignore[method-assign]


def _an_observer_that_leaves_orphans() -> None:
    app_state._kill_remains = lambda app: []


def _requests_of_one_try_only() -> None:
    TaskIdentity.task_key = property(lambda task: f"dag/run/generate/{task.try_number}")  # type: ignore[assignment]


def _results_of_another_trial() -> None:
    complete.Observation = lambda index, name, mean, sem, step: Observation(index, name, 0.25, sem, step)


def _broken(templates: Templates, folder: Path, victim: str, point: str, sabotage: Callable[[], None]) -> Result:
    play = templates.begin(_SCENARIOS[victim], folder, Injection(point))
    play.sabotage = sabotage
    return play_out(_SCENARIOS[victim], play, Result(victim, point))


@pytest.mark.parametrize(
    ("victim", "point", "sabotage", "counter"),
    [
        ("submitting worker, fake", "torchx.after_submit", _no_write_ahead, "doubled"),
        ("submitting worker, fake", "torchx.after_submit", _no_look_for_the_app, "doubled"),
        ("reaper", "task.before_xcom", _a_reaper_that_only_records, "left"),
        ("waiting worker, app lost", "task.before_xcom", _an_observer_that_leaves_orphans, "left"),
        ("generating worker", "task.before_xcom", _requests_of_one_try_only, "lost"),
        ("completing worker", "complete.before_record", _results_of_another_trial, "wrong"),
    ],
)
def test_a_broken_product_is_found_out(
    templates: Templates, tmp_path: Path, victim: str, point: str, sabotage: Callable[[], None], counter: str
) -> None:
    result = _broken(templates, tmp_path, victim, point, sabotage)
    assert result.kills == 1
    assert getattr(result, counter) > 0, result


def test_a_kill_that_does_not_happen_is_found_out(templates: Templates) -> None:
    case = Case(_SCENARIOS["completing worker"], Injection("no.such_point"), "no.such_point")
    assert run_case(templates, case).wrong == 1
