"""Apps that are submitted together: one that fails, exists already, or was recorded by another process meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_axtx.core.errors import DuplicateAppError, SchedulerUnavailableError, TrialStateError
from airflow_provider_axtx.launcher import torchx_launcher
from airflow_provider_axtx.launcher.plan import SubmissionPlan
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle.optimize import Loop
from tests.lifecycle.rig import SPEC, Rig, indexes, settled

Submit = Callable[[TorchXLauncher, SubmissionPlan], str]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setitem(torchx_launcher._SUBMISSIONS_AT_ONCE, "fake", 4)
    return Rig(tmp_path)


def around_submit(
    monkeypatch: pytest.MonkeyPatch, submit: Callable[[Submit, TorchXLauncher, SubmissionPlan], str]
) -> None:
    original = TorchXLauncher.submit
    monkeypatch.setattr(TorchXLauncher, "submit", lambda launcher, plan: submit(original, launcher, plan))


def four(rig: Rig) -> Loop:
    """Return a loop whose first step submits four apps together."""
    return rig.loop(spec={**SPEC, "generation": {"method": "random_search"}}, parallelism=4)


def is_of_trial(plan: SubmissionPlan, index: int) -> bool:
    return f"-t{index}-a" in plan.submission_key


def test_one_that_fails_holds_up_no_other(rig: Rig) -> None:
    rig.cluster.fail_next("schedule")
    with pytest.raises(SchedulerUnavailableError):
        settled(four(rig))
    recorded = [attempt.app_handle is not None for attempt in rig.store.attempts("loop")]
    assert sorted(recorded) == [False, True, True, True]
    assert list(rig.started().values()) == [1, 1, 1]


def test_an_app_that_exists_already_is_the_trials(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(submit: Submit, launcher: TorchXLauncher, plan: SubmissionPlan) -> str:
        handle = submit(launcher, plan)
        if is_of_trial(plan, 1):
            raise DuplicateAppError(f"{plan.submission_key} exists", fix="take it.")
        return handle

    around_submit(monkeypatch, exists)
    assert sorted(indexes(settled(four(rig)))) == [0, 1, 2, 3]
    assert sorted(rig.started().values()) == [1, 1, 1, 1]
    assert rig.app_of(1)[1]["name"] == rig.store.attempt("loop", 1, 1).submission_key


def test_an_app_that_is_said_to_exist_and_does_not_is_an_error(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(submit: Submit, launcher: TorchXLauncher, plan: SubmissionPlan) -> str:
        raise DuplicateAppError(f"{plan.submission_key} exists", fix="take it.")

    around_submit(monkeypatch, refuse)
    with pytest.raises(DuplicateAppError):
        four(rig).step()
    assert rig.started() == {}


def test_the_app_that_another_process_has_recorded_stays_and_ours_is_cancelled(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = "fake://torchx/theirs", []

    def overtaken(submit: Submit, launcher: TorchXLauncher, plan: SubmissionPlan) -> str:
        handle = submit(launcher, plan)
        if is_of_trial(plan, 2):
            rig.store.record_handle(rig.store.attempt("loop", 2, 1), theirs)
            ours.append(handle.rpartition("/")[2])
        return handle

    around_submit(monkeypatch, overtaken)
    with pytest.raises(TrialStateError):
        four(rig).step()
    assert rig.store.attempt("loop", 2, 1).app_handle == theirs
    assert [attempt.app_handle is not None for attempt in rig.store.attempts("loop")] == [True] * 4
    assert [app_id for app_id, app in rig.cluster.apps().items() if app["state"] == "CANCELLED"] == ours
