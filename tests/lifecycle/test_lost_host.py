"""Attempts whose host does not exist any more: no process can observe them, so a user says that they are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import AppElsewhereError, SchedulerUnavailableError
from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle.lost_hosts import record_lost
from airflow_provider_axtx.lifecycle.reap import orphans_of, reap
from tests.lifecycle.rig import Rig, indexes, settled

HOST = "worker-7"


@pytest.fixture
def elsewhere(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Two apps were submitted on ``worker-7``; inside the returned block this process runs on another host."""
    with monkeypatch.context() as there:
        there.setattr(TorchXLauncher, "host", HOST)
        settled(rig.loop(parallelism=2))

    def refuse(*_: Any) -> None:
        raise AppElsewhereError(f"The app belongs to host {HOST}.", fix="run it there")

    @contextmanager
    def here() -> Iterator[None]:
        with monkeypatch.context() as patch:
            for call in ("observe", "find", "cancel"):
                patch.setattr(TorchXLauncher, call, refuse)
            yield

    return here


def launcher_of(rig: Rig) -> Callable[[AttemptRecord], TorchXLauncher]:
    return lambda attempt: rig.launcher


def test_a_reap_elsewhere_settles_nothing_and_tells_the_way_out(rig: Rig, elsewhere: Callable[[], Any]) -> None:
    task = rig.loop().identity
    with elsewhere(), pytest.raises(SchedulerUnavailableError, match="loop/0: AppElsewhereError") as caught:
        reap(rig.store, launcher_of(rig), orphans_of(rig.store, task), "enough")
    assert f"airflow ax reap --lost-host {HOST}" in caught.value.fix
    assert rig.statuses() == {0: "RUNNING", 1: "RUNNING"}
    assert [attempt.finished_at for attempt in rig.store.attempts("loop")] == [None, None]


def test_attempts_of_a_host_that_is_gone_are_settled(rig: Rig, elsewhere: Callable[[], Any]) -> None:
    task = rig.loop().identity
    with elsewhere():
        lost = record_lost(rig.store, launcher_of(rig), rig.store.attempts("loop"), [HOST])
        reaped = reap(rig.store, launcher_of(rig), orphans_of(rig.store, task), "enough")
    assert [(one.trial_index, one.trial_status) for one in reaped] == [(0, "FAILED"), (1, "FAILED")]
    assert {attempt.message for attempt in lost} == {f"lost: its host {HOST} does not exist any more"}
    assert all(attempt.is_infrastructure_failure for attempt in lost)
    assert rig.store.open_attempts() == []


def test_one_that_was_to_be_cancelled_is_abandoned(rig: Rig, elsewhere: Callable[[], Any]) -> None:
    rig.store.request_cancel(rig.store.attempt("loop", 0, 1), "timeout: still running")
    with elsewhere():
        record_lost(rig.store, launcher_of(rig), rig.store.attempts("loop"), [HOST])
        reap(rig.store, launcher_of(rig), orphans_of(rig.store, rig.loop().identity), "enough")
    assert rig.statuses() == {0: "ABANDONED", 1: "FAILED"}
    assert rig.store.trial("loop", 0).reason == "timeout: still running"


def test_a_task_that_still_waits_submits_them_again(rig: Rig, elsewhere: Callable[[], Any]) -> None:
    with elsewhere():
        record_lost(rig.store, launcher_of(rig), rig.store.attempts("loop"), [HOST])
    loop = rig.loop(parallelism=2, trial_retries=1, max_trials=2, try_number=2)
    assert indexes(settled(loop)) == [0, 1]
    assert [attempt.number for attempt in rig.store.open_attempts()] == [2, 2]


def test_what_can_be_observed_from_here_is_not_lost(rig: Rig, elsewhere: Callable[[], Any]) -> None:
    rig.end(1)
    assert record_lost(rig.store, launcher_of(rig), rig.store.attempts("loop"), [HOST]) == []
    with elsewhere():
        assert record_lost(rig.store, launcher_of(rig), rig.store.attempts("loop"), ["worker-8"]) == []
    assert [attempt.finished_at for attempt in rig.store.attempts("loop")] == [None, None]
