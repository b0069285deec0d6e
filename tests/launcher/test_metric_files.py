"""Metrics in files of a program."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from airflow_provider_axtx.core.metric_sources import load_metrics
from airflow_provider_axtx.launcher import metric_files
from airflow_provider_axtx.launcher.metric_files import NoMetricError, read_file
from airflow_provider_axtx.launcher.series import Series

LINES = '{"epoch": 1, "acc": 0.5}\n\n{"epoch": 2, "acc": 0.75}\n{"epoch": 3, "loss": 1}\n{"epoch": 4, "ac'
CSV = "\ufeffepoch,acc,loss\n1,0.5,\n1,,0.25\n2,0.75,\n2,,0.125\n"


def read(folder: Path | str, **source: Any) -> Series:
    loaded = load_metrics({"acc": source})["acc"]
    return read_file(loaded, str(folder), loaded.place)


@pytest.mark.parametrize(
    ("content", "source", "value", "curve"),
    [
        ('{"acc": 0.5}', {}, 0.5, {}),
        ('{\n  "val": {"acc": [0.25, 0.5]}\n}', {"key": "val.acc.1"}, 0.5, {}),
        ('{"val.acc": 0.5, "val": {"acc": 1}}', {"key": "val.acc"}, 0.5, {}),
        ('{"acc": "0.5"}', {}, 0.5, {}),
        ('[{"acc": 0.5, "e": 0}, {"acc": 0.25, "e": 1}]', {"step": "e", "take": "max"}, 0.5, {0: 0.5, 1: 0.25}),
        ('[\n{"acc": 0.5},\n{"acc": 0.25}]', {}, 0.25, {}),
        (LINES, {"step": "epoch"}, 0.75, {1: 0.5, 2: 0.75}),
        (LINES, {"step": "epoch", "take": 1}, 0.5, {1: 0.5, 2: 0.75}),
    ],
)
def test_json(tmp_path: Path, content: str, source: dict[str, Any], value: float, curve: dict[float, float]) -> None:
    (tmp_path / "r.json").write_text(content)
    series = read(tmp_path, json="r.json", **source)
    assert (series.final(), series.curve) == (value, curve)


def test_csv_with_blank_cells(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(CSV)
    assert read(tmp_path, csv="log.csv", step="epoch").curve == {1: 0.5, 2: 0.75}
    assert read(tmp_path, csv="log.csv", key="loss", take="max").final() == 0.25


@pytest.mark.parametrize(
    ("content", "source", "reason"),
    [
        (None, {"json": "r"}, "there is no file r"),
        ("", {"json": "r"}, "not JSON"),
        ("{", {"json": "r"}, "not JSON"),
        ('{"a": 1}', {"json": "r"}, "has no number under 'acc'"),
        ('{"acc": true}', {"json": "r"}, "has no number"),
        ('{"acc": "good"}', {"json": "r"}, "has no number"),
        ("[" * 100_000, {"json": "r"}, "not JSON"),
        ("3", {"json": "r"}, "has no number"),
        ("epoch,loss\n1,2\n", {"csv": "r"}, "has no number under 'acc'"),
        ('acc\n"' + "x" * 200_000, {"csv": "r"}, "not CSV"),
        (LINES, {"json": "r", "step": "epoch", "take": 9}, "has no value at step 9"),
    ],
)
def test_no_value_has_a_reason(tmp_path: Path, content: str | None, source: dict[str, Any], reason: str) -> None:
    if content is not None:
        (tmp_path / "r").write_text(content)
    with pytest.raises(NoMetricError, match=reason):
        read(tmp_path, **source)


def test_links_fifos_and_folders_are_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text('{"acc": 1}')
    base = tmp_path / "base"
    base.mkdir()
    (base / "link").symlink_to(outside)
    (base / "way").symlink_to(tmp_path)
    (base / "folder").mkdir()
    os.mkfifo(base / "fifo")
    for name in ("link", "way/outside.json", "folder", "fifo"):
        with pytest.raises(NoMetricError):
            read(base, json=name)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r").write_text('{"acc": 0.5}')
    monkeypatch.setattr(metric_files, "MAX_FILE_BYTES", 5)
    with pytest.raises(NoMetricError, match="has 12 bytes, more than the 5"):
        read(tmp_path, json="r")


def test_a_file_at_a_url() -> None:
    with fsspec.open("memory://metrics/t0/r.json", "w") as file:
        json.dump({"acc": 0.5}, file)
    assert read("memory://metrics/t0", json="r.json").final() == 0.5
    with pytest.raises(NoMetricError, match="there is no file"):
        read("memory://metrics/t1", json="r.json")


def test_tensorboard(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "runs" / "a")) as writer:
        for step, value in enumerate((0.5, 0.75, 0.25)):
            writer.add_scalar("val/acc", value, step)
            writer.add_scalar("other", 9, step)
    series = read(tmp_path, tensorboard="runs", key="val/acc", take="max")
    assert (series.final(), series.curve) == (0.75, {0: 0.5, 1: 0.75, 2: 0.25})
    with pytest.raises(NoMetricError, match="no number under 'nosuch'"):
        read(tmp_path, tensorboard="runs", key="nosuch")
    with pytest.raises(NoMetricError, match="no event file"):
        read(tmp_path, tensorboard="elsewhere")
