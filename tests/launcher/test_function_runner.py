"""What runs a function as an app, in an environment that has nothing of the package."""

from __future__ import annotations

import enum
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airflow_provider_axtx.launcher.function_runner import Report
from airflow_provider_axtx.launcher.tracker import list_steps, read_progress


def test_metrics_that_are_reported_one_after_the_other_at_a_step_are_all_kept(tmp_path: Path) -> None:
    report = Report(str(tmp_path), 0)
    report(step=1, loss=3.0)
    report(step=1, val_loss=2.0)
    report(step=2, loss=1.0)
    assert read_progress(str(tmp_path), 0) == {1.0: {"loss": 3.0, "val_loss": 2.0}, 2.0: {"loss": 1.0}}
    assert report.last == {"loss": 1.0, "val_loss": 2.0}


class Epoch(enum.IntEnum):
    LAST = 3


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (3, "3"),
        (0.5, "0.5"),
        (np.int64(3), "3"),
        (np.float64(0.5), "0.5"),
        (np.float32(0.5), "0.5"),
        (np.arange(5)[3], "3"),
        (np.array(3), "3"),
        (torch.tensor(3), "3"),
        (Epoch.LAST, "3"),
        (2**60 + 1, str(2**60 + 1)),
    ],
)
def test_every_number_is_a_step(tmp_path: Path, step: Any, name: str) -> None:
    Report(str(tmp_path), 0)(step=step, loss=0.5)
    assert [path.name for path in (tmp_path / "0.steps").iterdir()] == [name]
    assert list_steps(str(tmp_path), 0) == {float(name)}


@pytest.mark.parametrize(
    "step",
    [
        "3",
        None,
        True,
        np.bool_(True),
        math.nan,
        np.float32("inf"),
        pytest.param(10**400, id="huge"),
        np.arange(2),
        torch.zeros(2),
        1j,
        [3],
    ],
)
def test_what_is_no_number_is_no_step(tmp_path: Path, step: Any) -> None:
    report = Report(str(tmp_path), 0)
    with pytest.raises(ValueError, match=r"report\(step=3, accuracy=0.9\), not step="):
        report(step=step, loss=0.5)
    with pytest.raises(ValueError, match=r"with the metrics \[\]"):
        report(step=3)
    assert not list(tmp_path.glob("0*"))


def test_values_that_are_no_numbers_are_named_by_their_reader(tmp_path: Path) -> None:
    odd = {"pair": np.arange(2), "complex": np.complex64(1j), "day": np.datetime64("2026-01-01"), "list": [1]}
    Report(str(tmp_path), 0).finish({**odd, "loss": torch.tensor(0.5), "steps": np.int64(3)})
    written = json.loads((tmp_path / "0").read_text())
    assert written == {**{name: repr(value) for name, value in odd.items()}, "loss": 0.5, "steps": 3}
