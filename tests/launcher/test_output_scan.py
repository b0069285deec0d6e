"""Numbers in an app's output, whatever the app prints."""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_axtx.core.metric_sources import load_metrics
from airflow_provider_axtx.launcher import output_scan
from airflow_provider_axtx.launcher.log_files import read_chunks
from airflow_provider_axtx.launcher.output_scan import PatternMetric, search_output

MB = 1024 * 1024
NUMBER = r"val_acc=([0-9.eE+-]+)"


def found(output: bytes | Iterator[bytes], pattern: str = NUMBER, take: str | float = "last") -> PatternMetric:
    metric = PatternMetric(load_metrics({"m": {"regex": pattern, "take": take}})["m"])
    chunks = output if not isinstance(output, bytes) else (output[i : i + 1000] for i in range(0, len(output), 1000))
    search_output({"m": metric}, chunks)
    return metric


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (b"val_acc=0.5\nval_acc=0.75\n", 0.75),
        (b"val_acc=0.5", 0.5),
        (b"epoch 1 \r val_acc=0.5 \r val_acc=0.625 \r done", 0.625),
        (b"val_acc=1e-3\r\n", 1e-3),
        ("val_acc=0.5 ü\n".encode("latin-1"), 0.5),
        ("ü val_acc=0.5\n".encode("utf-16"), 0.5),
        ("ü val_acc=0.5\n".encode(), 0.5),
        (b"\x00\xff\xfe val_acc=0.5\n", 0.5),
        (b"val_acc=0.5 val_acc=0.25\n", 0.25),
        (b"x" * 999 + b"val_acc=0.5\n", 0.5),
        (b"no number\n", None),
        (b"", None),
        (b"val_acc=\n0.5\n", None),
    ],
)
def test_the_last_value_is_found(output: bytes, value: float | None) -> None:
    assert found(output).series.final() == value


@pytest.mark.parametrize(("take", "value"), [("last", 0.5), ("max", 0.75), ("min", 0.25), (2, 0.25), (9, None)])
def test_which_value_counts(take: str | float, value: float | None) -> None:
    output = b"1 acc 0.75\n2 acc 0.25\n3 acc 0.5\n"
    metric = found(output, r"(?P<step>\d+) acc (\S+)", take)
    assert metric.series.final() == value
    assert metric.series.curve == {1: 0.75, 2: 0.25, 3: 0.5}


def test_nan_is_a_value_that_max_and_min_pass_over() -> None:
    output = b"acc=nan\nacc=0.5\nacc=nan\n"
    assert math.isnan(found(output, r"acc=(\S+)").series.final() or 0)
    assert found(output, r"acc=(\S+)", "max").series.final() == 0.5
    assert found(output, r"acc=(\S+)", "min").series.final() == 0.5


def test_text_in_place_of_a_number_is_no_value() -> None:
    metric = found(b"acc=great\n", r"acc=(\S+)")
    assert metric.series.final() is None
    assert metric.problem is not None and "'great', which is not a number" in metric.problem


def test_the_group_named_value_counts() -> None:
    assert found(b"3/10 acc 0.5\n", r"(\d+)/\d+ acc (?P<value>\S+)").series.final() == 0.5


@pytest.mark.parametrize("before", [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 131071, 131072])
@pytest.mark.parametrize("pattern", [NUMBER, r"(\d+\.\d+)", NUMBER + ".*", "^x*" + NUMBER])
def test_no_match_is_cut_or_doubled_in_a_long_line(before: int, pattern: str) -> None:
    line = (
        b"x" * before + b"val_acc=10.937\n"
        if pattern.startswith("^")
        else b"x" * before + b"val_acc=10.937" + b"y" * MB
    )
    if pattern.startswith("^") and before > 60_000:
        line = b"val_acc=10.937" + line  # an anchored pattern is found where the line begins
        pattern = "^" + NUMBER
    metric = found(line, pattern)
    assert (metric.series.final(), metric.series.count) == (10.937, 1)


def test_the_beginning_of_a_piece_is_not_that_of_the_line() -> None:
    assert found(b"x" * 200_000 + b"1.5" * 50_000, r"^(1\.5)").series.count == 0


def test_a_line_of_10_megabytes_and_100000_values_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    # tracemalloc makes the search several times slower.
    monkeypatch.setattr(output_scan, "PATTERN_SECONDS", 600.0)

    def output() -> Iterator[bytes]:
        for _ in range(160):
            yield b"x" * 65536
        yield b" val_acc=0.5 "
        yield b"\n"
        for step in range(100_000):
            yield b"step %d val_acc=0.%d\n" % (step, step)

    tracemalloc.start()
    try:
        metric = found(output(), r"(?:step (?P<step>\d+) )?val_acc=(?P<value>\S+)")
        assert tracemalloc.get_traced_memory()[1] < 8 * MB
    finally:
        tracemalloc.stop()
    assert metric.series.count == 100_001
    assert metric.series.final() == 0.99999
    assert len(metric.series.curve) == 10_000


def test_a_pattern_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_scan, "PATTERN_SECONDS", 0.3)
    began = time.monotonic()
    metric = found(b"acc=1\n" + (b"a" * 5000 + b"!\n") * 1000, r"(?:acc=1|(?:a|a)*b(?:c|c)*)()|(a|aa)+$")
    assert time.monotonic() - began < 10
    assert metric.is_too_slow
    assert metric.problem is not None and "took longer" in metric.problem


def test_a_log_in_several_files_is_read_to_its_end(tmp_path: Path) -> None:
    first = tmp_path / "combined.log"
    first.write_bytes(b"val_acc=0.1\nval_acc=")
    assert b"".join(read_chunks(first, 10**6)) == b"val_acc=0.1\nval_acc="
    (tmp_path / f"combined.log.{20:016d}").write_bytes(b"0.2\nval_acc=")
    (tmp_path / f"combined.log.{999:016d}").write_bytes(b"0.3\nval_acc=0.4\n")  # what was between was removed
    assert b"".join(read_chunks(first, 10**6)) == b"val_acc=0.1\nval_acc=0.2\nval_acc=\n0.3\nval_acc=0.4\n"
    assert b"".join(read_chunks(first, 12)) == b"val_acc=0.4\n"
    metric = found(read_chunks(first, 10**6))
    assert (metric.series.count, metric.series.final()) == (3, 0.4)
    with pytest.raises(FileNotFoundError):
        list(read_chunks(tmp_path / "nosuch.log", 10))
