"""Results as apps leave them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fsspec
import pytest
from torchx.runtime.tracking import FsspecResultTracker

from airflow_provider_axtx.core.errors import InvalidInputError, InvalidResultError, TrackerUnavailableError
from airflow_provider_axtx.launcher.tracker import (
    MAX_RESULT_BYTES,
    list_steps,
    read_progress,
    read_results,
    remove_results,
)


@pytest.mark.parametrize(
    "results",
    [
        {"accuracy": 0.933},
        {"loss/mean": 1.25, "loss/sem": 1e-300},
        {"a": 3, "b": "text", "c": 0.1 + 0.2, "ü": -0.0},
        {},
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_the_tracker_wrote_is_read(tmp_path: Path, results: dict[str, Any], scheme: str) -> None:
    base = f"{scheme}{tmp_path}/some run/base"
    FsspecResultTracker(base)["3"] = results
    assert read_results(base, 3) == results
    assert read_results(f"{base}/", 3) == results
    assert read_results(base, 4) is None


def test_another_file_system(tmp_path: Path) -> None:
    base = f"memory://{tmp_path.name}/base"
    FsspecResultTracker(base)["0"] = {"a": 1.5}
    assert read_results(base, 0) == {"a": 1.5}
    remove_results(base, 0)
    assert read_results(base, 0) is None


def test_nan_and_infinity_are_kept_for_the_check_to_refuse(tmp_path: Path) -> None:
    FsspecResultTracker(str(tmp_path))["0"] = {"a": math.nan, "b": math.inf}
    read = read_results(str(tmp_path), 0)
    assert read is not None
    assert math.isnan(read["a"])
    assert read["b"] == math.inf


def test_nothing_was_reported(tmp_path: Path) -> None:
    assert read_results(str(tmp_path / "absent"), 0) is None
    (tmp_path / "file").write_text("")
    assert read_results(str(tmp_path / "file"), 0) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", r"not JSON \(.*it begins with '\{'"),
        (b'{"a": 1.5', "not JSON"),
        (b"Traceback (most recent call last)", "it begins with 'Traceback"),
        (b"\x00\xff\xfe", r"it begins with '\\x00"),
        (b"[1, 2]", "not hold a JSON object"),
        (b"0.93", r"not hold a JSON object; it begins with '0.93'"),
        (b"null", "not hold a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b" " * MAX_RESULT_BYTES + b'{"a": 1}', "more than 1048576 bytes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_garbage(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "0").write_bytes(content)
    with pytest.raises(InvalidResultError, match=message) as caught:
        read_results(str(tmp_path), 0)
    assert str(tmp_path / "0") in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_folder_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    with pytest.raises(InvalidResultError, match="is a folder"):
        read_results(str(tmp_path), 0)


@pytest.mark.parametrize("base", ["nosuchscheme://a/b", "abfs+x://a"])
def test_unknown_kind_of_url(base: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be used"):
        read_results(base, 0)


class AwayFileSystem(fsspec.AbstractFileSystem):
    """A file system whose server is away, or that does not let us in."""

    protocol = "axtxaway"
    error: Exception = OSError(110, "Connection timed out")
    cachable = False

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        raise self.error

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError(110, "Connection timed out"), PermissionError(13, "denied"), RuntimeError("x")]
)
def test_a_tracker_that_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fsspec.register_implementation("axtxaway", AwayFileSystem, clobber=True)
    monkeypatch.setattr(AwayFileSystem, "error", error)
    for call in (read_results, remove_results):
        with pytest.raises(TrackerUnavailableError, match=r"axtxaway://a") as caught:
            call("axtxaway://a", 0)
        assert caught.value.retryable


@pytest.mark.parametrize("folder", ["plain", "a[0-9]*"])
def test_remove(tmp_path: Path, folder: str) -> None:
    tmp_path = tmp_path / folder
    tracker = FsspecResultTracker(str(tmp_path))
    for key in ("1", "1.steps/3", "1.steps/4", "11", "11.steps/1"):
        tracker[key] = {"a": 1.0}
    remove_results(str(tmp_path), 1)
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()) == ["11", "11.steps/1"]
    remove_results(str(tmp_path), 1)
    remove_results(str(tmp_path / "absent"), 1)


def test_progressive_results_by_step(tmp_path: Path) -> None:
    tracker = FsspecResultTracker(str(tmp_path))
    for step in (10, 9, 2.5):
        tracker[f"3.steps/{step}"] = {"loss": step / 7}
    tracker["3.steps/notes"] = {"loss": 1}
    tracker["30.steps/1"] = {"loss": 1}
    (tmp_path / "3.steps" / "11").write_text('{"loss": 0.')
    (tmp_path / "3.steps" / "nan").write_text("{}")
    assert list_steps(str(tmp_path), 3) == {2.5, 9.0, 10.0, 11.0}
    assert read_progress(str(tmp_path), 3) == {2.5: {"loss": 2.5 / 7}, 9.0: {"loss": 9 / 7}, 10.0: {"loss": 10 / 7}}
    assert read_progress(str(tmp_path), 3, known={9.0, 10.0}) == {2.5: {"loss": 2.5 / 7}}
    assert (list_steps(str(tmp_path), 4), read_progress(f"{tmp_path}/none", 3)) == (set(), {})
