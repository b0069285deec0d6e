"""Reads metrics from files that a program has written into the tracker base of its attempt."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.metric_sources import MetricSource
from airflow_provider_axtx.launcher.object_store import locate
from airflow_provider_axtx.launcher.regular_files import IrregularFileError, open_regular
from airflow_provider_axtx.launcher.series import Series

#: A larger file is not read.
MAX_FILE_BYTES = 256 * 1024 * 1024
#: A JSON document is held in memory as a whole, and so is a line of a file with one document for each line.
MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
MAX_EVENT_FILES = 1000


class NoMetricError(Exception):
    """Why a file gives no value."""


def read_file(source: MetricSource, tracker_base: str, path: str, *, may_be_cut: bool = False) -> Series:
    """Return the values of a metric in a file.

    :param path: the file, relative to the tracker base; a folder for ``tensorboard``.
    :param may_be_cut: see ``metric_reader.read_metrics``.
    :raises NoMetricError: the file is missing, is not what it should be, or has no value.
    :raises OSError: it cannot be read just now.
    :raises InvalidInputError: see ``object_store.locate``.
    :raises TrackerUnavailableError: likewise.
    """
    files, root = locate(tracker_base)
    series = Series(source.take)
    if source.kind == "tensorboard":
        _read_events(source, files, root, path, series)
    else:
        with _opened(files, root, path) as file:
            for record in _csv_rows(file, may_be_cut) if source.kind == "csv" else _documents(file):
                _add(source, record, series)
    if series.final() is None:
        raise NoMetricError(f"{path} {_why_empty(source, series)}")
    return series


def _why_empty(source: MetricSource, series: Series) -> str:
    if series.count:
        return f"has no value at step {source.take}"
    return f"has no number under {source.key!r}"


@contextlib.contextmanager
def _opened(files: Any, root: str, path: str) -> Iterator[IO[bytes]]:
    try:
        if isinstance(files, LocalFileSystem):
            file: IO[bytes] = open_regular(f"{root}/{path}", below=root)
        else:
            # The app wrote from another process: what this one remembers of the folder may be older.
            files.invalidate_cache()
            file = files.open(f"{root}/{path}", "rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoMetricError(f"there is no file {path} in the tracker base {root}") from error
    except (IsADirectoryError, IrregularFileError) as error:
        raise NoMetricError(f"{path} is not a file: {error.strerror or 'it is a folder'}") from error
    with file:
        size = file.seek(0, os.SEEK_END)
        if size > MAX_FILE_BYTES:
            raise NoMetricError(f"{path} has {size} bytes, more than the {MAX_FILE_BYTES} that are read")
        file.seek(0)
        yield file


def _documents(file: IO[bytes]) -> Iterator[Any]:
    """Yield the objects of a JSON file: one object, a list of them, or one for each line."""
    start = file.read(1)
    file.seek(0)
    first = file.readline(MAX_DOCUMENT_BYTES)
    while first and not first.strip():
        first = file.readline(MAX_DOCUMENT_BYTES)
    found = _parsed(first)
    if found is None or (isinstance(found, list) and start):
        file.seek(0)
        content = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(content) > MAX_DOCUMENT_BYTES:
            raise NoMetricError(f"it is a JSON document of more than {MAX_DOCUMENT_BYTES} bytes")
        try:
            whole = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise NoMetricError(f"it is not JSON: {error}") from error
        yield from whole if isinstance(whole, list) else [whole]
        return
    yield found
    while line := file.readline(MAX_DOCUMENT_BYTES):
        # A line that the program has not finished is left out.
        if (found := _parsed(line)) is not None:
            yield found


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _csv_rows(file: IO[bytes], may_be_cut: bool) -> Iterator[Mapping[str, Any]]:
    lines = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
    # Of `2,0.93` the program may have written `2,0.` so far, which is a number, too.
    whole = (line for line in lines if not may_be_cut or line.endswith(("\n", "\r")))
    try:
        yield from csv.DictReader(line.replace("\0", "") for line in whole)
    except csv.Error as error:
        raise NoMetricError(f"it is not CSV: {error}") from error
    finally:
        lines.detach()


def _add(source: MetricSource, record: Any, series: Series) -> None:
    value = _number(_looked_up(record, source.key))
    if value is not None:
        series.add(value, None if source.step is None else _number(_looked_up(record, source.step)))


def _looked_up(record: Any, key: str) -> Any:
    """Return the value under a key, which may be a path of keys and positions such as ``val.acc`` or ``scores.0``."""
    if isinstance(record, Mapping) and key in record:
        return record[key]
    for part in key.split("."):
        if isinstance(record, Mapping):
            record = record.get(part)
        elif isinstance(record, list) and part.isdecimal() and int(part) < len(record):
            record = record[int(part)]
        else:
            return None
    return record


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _read_events(source: MetricSource, files: Any, root: str, path: str, series: Series) -> None:
    """Read the event files below a folder, oldest first, as their names order them."""
    if not isinstance(files, LocalFileSystem):
        raise NoMetricError("TensorBoard's files are read from folders only, not from a URL")
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise InvalidInputError(
            f"metrics of kind tensorboard need a package that is not installed here: {error}.",
            fix="install it on every Airflow machine: pip install 'airflow-provider-axtx[tensorboard]'.",
        ) from error
    for name in _event_files(f"{root}/{path}"):
        with _opened(files, root, os.path.relpath(name, root)) as file:
            # The open file, so that nothing can be put in its place.
            for event in EventFileLoader(f"/proc/self/fd/{file.fileno()}").Load():
                for value in event.summary.value:
                    if value.tag != source.key:
                        continue
                    if value.HasField("simple_value"):
                        series.add(float(value.simple_value), float(event.step))
                    elif value.HasField("tensor") and not value.tensor.tensor_shape.dim:
                        series.add(float(make_ndarray(value.tensor)), float(event.step))


def _event_files(folder: str) -> list[str]:
    found = (f"{place}/{name}" for place, _, names in os.walk(folder) for name in names if ".tfevents." in name)
    names = sorted(itertools.islice(found, MAX_EVENT_FILES))
    if not names:
        raise NoMetricError(f"there is no event file in {folder}")
    return names
