"""What one app reports can end no more than its own trial: neither the loop, nor other trials, nor the reap."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.records import Observation, TaskIdentity
from airflow_provider_axtx.lifecycle.complete import record_progress
from airflow_provider_axtx.lifecycle.reap import orphans_of, reap
from airflow_provider_axtx.spec.reported import MAX_METRICS
from tests.lifecycle.rig import Rig, indexes, settled


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def result_file(rig: Rig, index: int) -> Path:
    attempt = rig.store.latest_attempt("loop", index)
    assert attempt is not None
    return Path(attempt.tracker_base, str(index))


def replace(rig: Rig, index: int, make: Callable[[Path], None]) -> None:
    """Let the app of a trial succeed with something in place of its results."""
    rig.end(index)
    file = result_file(rig, index)
    file.unlink()
    make(file)


def reporting(report: dict[str, Any]) -> Callable[[Path], None]:
    return lambda file: [file.write_text(json.dumps(report))][0] and None


#: Names of a metric beside the objective that cannot be kept.
ODD_NAMES = ["x" * 251, "x" * 100_000, "a\x00b", "\ud800", "", " ", "a\nb", " a", "\u202e", "\x7f"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_a_metric_that_cannot_be_kept_is_left_out(rig: Rig, name: str, caplog: pytest.LogCaptureFixture) -> None:
    loop = rig.loop(parallelism=2, max_trials=4)
    settled(loop)
    replace(rig, 0, reporting({"loss": 0.5, name: 1.0, f"{name}/mean": 2.0, "accuracy": 0.9}))
    step = settled(loop)
    assert (step.error, indexes(step)) == (None, [1, 2])
    assert rig.statuses()[0] == "COMPLETED"
    assert {(o.metric, o.mean) for o in rig.store.observations("loop", 0)} == {("loss", 0.5), ("accuracy", 0.9)}
    if name.strip("/"):
        assert "cannot have this name" in caplog.text
        assert len(caplog.text) < 20_000


def test_of_many_metrics_the_first_ones_are_kept(rig: Rig) -> None:
    loop = rig.loop(parallelism=1, max_trials=4)
    settled(loop)
    many = {f"m{n}": 1.0 for n in range(20_000)}
    replace(rig, 0, reporting({**many, "loss": 0.5}))
    settled(loop)
    kept = {o.metric for o in rig.store.observations("loop", 0)}
    assert rig.statuses()[0] == "COMPLETED"
    assert "loss" in kept
    assert len(kept) <= MAX_METRICS + 1


def link_to_secret(file: Path) -> None:
    secret = file.parent.parent.parent / "airflow.cfg"
    secret.write_text('{"loss": 1, "fernet_key": "s3cr3t"}')
    file.symlink_to(secret)


def fifo(file: Path) -> None:
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.mkdir()


def deep(file: Path) -> None:
    file.write_text('{"loss": ' + "[" * 200_000)


def huge(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(2**31)


UNUSABLE = {
    "a link": link_to_secret,
    "a FIFO": fifo,
    "a folder": folder,
    "nested": deep,
    "2 GB": huge,
    "a list": lambda file: file.write_text("[1]"),
    "NaN": reporting({"loss": float("nan")}),
    "infinite": lambda file: file.write_text('{"loss": 1e999}'),
    "an object": reporting({"loss": {"mean": 1}}),
    "text": reporting({"loss": "0.5; rm -rf /"}),
    "another name": reporting({"LOSS": 1.0, "\ud800": 2}),
    "not UTF-8": lambda file: file.write_bytes(b'{"loss": \xff}'),
    "a surrogate as value": lambda file: file.write_text('{"loss": "\\ud800"}'),
}


@pytest.mark.parametrize("make", UNUSABLE.values(), ids=UNUSABLE)
def test_results_that_cannot_be_used_fail_their_trial_alone(rig: Rig, make: Callable[[Path], None]) -> None:
    loop = rig.loop(parallelism=2, max_trials=4)
    settled(loop)
    replace(rig, 0, make)
    rig.end(1)
    step = settled(loop)
    assert (step.error, indexes(step)) == (None, [2, 3])
    trial = rig.store.trial("loop", 0)
    assert (trial.status, rig.statuses()[1]) == ("FAILED", "COMPLETED")
    assert trial.reason and "s3cr3t" not in trial.reason
    assert len(trial.reason) < 5000


@pytest.mark.parametrize("kind", ["a link", "a FIFO", "nested", "2 GB", "another name"])
def test_results_that_cannot_be_used_do_not_stop_a_reap(rig: Rig, kind: str) -> None:
    loop = rig.loop(parallelism=3, max_trials=3)
    settled(loop)
    replace(rig, 0, UNUSABLE[kind])
    rig.end(1)
    orphans = orphans_of(rig.store, TaskIdentity("dag", "run", "optimize"))
    ended = reap(rig.store, lambda attempt: rig.launcher, orphans, "over", seconds=20)
    assert [one.trial_status for one in ended] == ["FAILED", "COMPLETED", "ABANDONED"]


def test_odd_progressive_results_are_left_out(rig: Rig) -> None:
    loop = rig.loop(parallelism=1, max_trials=2)
    settled(loop)
    attempt = rig.store.latest_attempt("loop", 0)
    assert attempt is not None
    steps = Path(attempt.tracker_base, "0.steps")
    steps.mkdir(parents=True)
    for step, report in {
        "1": {"loss": 0.5, "\ud800": 1.0, "a\x00b": 1.0, "x" * 251: 1.0},
        "2": {"loss": float("nan")},
        "3": {"loss": 0.4},
        "1e999": {"loss": 9.0},
        "nan": {"loss": 9.0},
        "x": {"loss": 9.0},
    }.items():
        (steps / step).write_text(json.dumps(report))
    (steps / "4").write_text("{")
    (steps / "5").symlink_to("/etc/passwd")
    os.mkfifo(steps / "6")
    assert record_progress(rig.store, attempt)
    assert rig.store.observations("loop", 0) == [
        Observation(0, "loss", 0.5, None, 1.0),
        Observation(0, "loss", 0.4, None, 3.0),
    ]
    assert not record_progress(rig.store, attempt)
