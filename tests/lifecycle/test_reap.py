"""A reap on a scheduler that the test rules: each orphan is on its own, and a success is not thrown away."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError, SchedulerUnavailableError, TrackerUnavailableError
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle import reap as reaping
from airflow_provider_axtx.lifecycle.reap import Reaped, orphans_of, reap
from tests.lifecycle.rig import Rig, settled


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
