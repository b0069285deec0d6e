"""Curves of experiments that stop nothing early: recorded when a trial ends, however it ends; the model sees none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import TrackerUnavailableError
from airflow_provider_axtx.launcher import tracker
from airflow_provider_axtx.lifecycle.complete import conclude_patiently, finalize
from airflow_provider_axtx.optimizer.rebuild import rebuild
from tests.lifecycle.test_early_stop import SPEC, World

CURVE = [(1.0, 3.0), (2.0, 2.0)]


@pytest.fixture
def w(tmp_path: Path) -> World:
    world = World(tmp_path, {name: value for name, value in SPEC.items() if name != "early_stopping"}, 2)
    world.curve(0, [3.0, 2.0])
    return world


def end(w: World, state: str, how: Callable[..., Any] = conclude_patiently) -> Any:
    return how(w.store, w.store.attempts("curves", 0)[-1], AppObservation(state, "its end"))


@pytest.mark.parametrize(
    ("state", "status"), [("FAILED", "FAILED"), ("CANCELLED", "ABANDONED"), ("SUCCEEDED", "FAILED")]
)
def test_the_curve_of_a_trial_without_results_is_recorded(w: World, state: str, status: str) -> None:
    assert end(w, state)["trial_status"] == status
    assert w.steps(0) == CURVE


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_a_task_that_only_waits_records_it_too(w: World, state: str) -> None:
    end(w, state, finalize)
    assert w.steps(0) == CURVE


def test_the_curve_of_a_completed_trial_is_recorded_beside_its_result(w: World) -> None:
    assert w.succeed(0, 1.5)["trial_status"] == "COMPLETED"
    assert w.steps(0) == [*CURVE, (None, 1.5)]
    data = rebuild(w.store.snapshot("curves")).experiment.lookup_data().df
    assert data["mean"].tolist() == [1.5]


def test_waiting_reads_no_curve_and_the_end_reads_each_step_once(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = tracker._read
    monkeypatch.setattr(tracker, "_read", lambda base, key: read.append(key) or original(base, key))
    assert w.stop_early() == []
    assert read == []
    w.succeed(0, 1.5)
    assert sorted(read) == ["0", "0.steps/1", "0.steps/2"]


def test_a_curve_that_cannot_be_read_does_not_keep_the_end_from_being_recorded(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Any:
        raise TrackerUnavailableError("the tracker is away.", fix="wait.")

    monkeypatch.setattr(tracker, "read_progress", away)
    assert end(w, "FAILED")["trial_status"] == "FAILED"
    assert w.status(0) == "FAILED"
