"""Results of a trial, from where its app left them: the files of TorchX's ``FsspecResultTracker``."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterator
from typing import Any

import fsspec

from airflow_provider_axtx.core.errors import (
    AxtxError,
    InvalidInputError,
    InvalidResultError,
    TrackerUnavailableError,
)
from airflow_provider_axtx.core.keys import tracker_key, tracker_step_key

#: A result is a handful of numbers; a larger file is something else.
MAX_RESULT_BYTES = 1024 * 1024
_MAX_EVIDENCE = 200


def read_results(tracker_base: str, trial_index: int) -> dict[str, Any] | None:
    """Return what an app reported for a trial, unchecked.

    :param tracker_base: folder or fsspec URL, as the app was given it.
    :param trial_index: the trial.
    :return: the reported names and values, NaN and infinity as floats; None when the app reported nothing.
    :raises InvalidResultError: there is a file, but no JSON object in it; the message shows how it begins.
    :raises TrackerUnavailableError: it cannot be read just now (permission, network).
    :raises InvalidInputError: the URL is of an unknown kind, or its fsspec package is not installed.
    """
    content = _read(tracker_base, tracker_key(trial_index))
    return None if content is None else _parsed(content, f"{tracker_base.rstrip('/')}/{tracker_key(trial_index)}")


def remove_results(tracker_base: str, trial_index: int) -> None:
    """Remove what an earlier attempt reported for a trial, progressive results included, if there is anything.

    :raises TrackerUnavailableError: it cannot be removed just now.
    :raises InvalidInputError: as for ``read_results``.
    """
    with _tracker_errors(tracker_base):
        files, path = _locate(tracker_base, tracker_key(trial_index))
        files.invalidate_cache()
        # Never ``rm``: it takes ``*`` and ``[`` in a path for patterns.
        for stale in [path, *files.find(f"{path}.steps")]:
            with contextlib.suppress(FileNotFoundError):
                files.rm_file(stale)


def list_steps(tracker_base: str, trial_index: int) -> set[float]:
    """Return the steps for which an app has written progressive results, without reading them.

    :raises TrackerUnavailableError: they cannot be listed just now.
    :raises InvalidInputError: as for ``read_results``.
    """
    return set(_step_files(tracker_base, trial_index))


def read_progress(tracker_base: str, trial_index: int, known: Collection[float] = ()) -> dict[float, dict[str, Any]]:
    """Return the progressive results of a trial by step, unchecked.

    A file without a JSON object is left out: the app may be writing it, and the next look takes it.

    :param known: steps that need not be read again.
    :raises TrackerUnavailableError: they cannot be read just now.
    :raises InvalidInputError: as for ``read_results``.
    """
    found: dict[float, dict[str, Any]] = {}
    for step, key in sorted(_step_files(tracker_base, trial_index).items()):
        if step in known:
            continue
        content = _read(tracker_base, key)
        with contextlib.suppress(InvalidResultError):
            found |= {} if content is None else {step: _parsed(content, key)}
    return found


def _step_files(tracker_base: str, trial_index: int) -> dict[float, str]:
    """Return the tracker key of each step; names that are not numbers are ignored."""
    with _tracker_errors(tracker_base):
        files, path = _locate(tracker_base, tracker_step_key(trial_index, ""))
        files.invalidate_cache()
        try:
            names = [entry.rsplit("/", 1)[-1] for entry in files.ls(path.rstrip("/"), detail=False)]
        except (FileNotFoundError, NotADirectoryError):
            return {}
    found = {}
    for name in sorted(names):
        with contextlib.suppress(ValueError):
            if math.isfinite(step := float(name)):
                found[step] = tracker_step_key(trial_index, name)
    return found


def _read(tracker_base: str, key: str) -> bytes | None:
    with _tracker_errors(tracker_base):
        files, path = _locate(tracker_base, key)
        # The app wrote from another process: what this one remembers of the folder may be older.
        files.invalidate_cache()
        try:
            with files.open(path, "rb") as opened:
                content: bytes = opened.read(MAX_RESULT_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError as error:
            raise InvalidResultError(
                f"The result {path} is a folder.", fix="write it as FsspecResultTracker does: one file."
            ) from error
    return content


def _parsed(content: bytes, place: str) -> dict[str, Any]:
    fix = "let the app write it with torchx.runtime.tracking.FsspecResultTracker: tracker[trial_idx] = {metric: value}."
    if not content.strip():
        raise InvalidResultError(f"The result file {place} is empty.", fix=fix)
    evidence = f"it begins with {content[:_MAX_EVIDENCE].decode(errors='backslashreplace')!r}"
    if len(content) > MAX_RESULT_BYTES:
        raise InvalidResultError(
            f"The result file {place} has more than {MAX_RESULT_BYTES} bytes; {evidence}.", fix=fix
        )
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidResultError(f"The result file {place} is not JSON ({error}); {evidence}.", fix=fix) from error
    if not isinstance(value, dict):
        raise InvalidResultError(f"The result file {place} does not hold a JSON object; {evidence}.", fix=fix)
    return value


def _locate(tracker_base: str, key: str) -> tuple[Any, str]:
    try:
        files, root = fsspec.core.url_to_fs(tracker_base)
    except (ValueError, ImportError) as error:
        raise InvalidInputError(
            f"tracker_base {tracker_base!r} cannot be used: {error}.",
            fix="use an absolute path or an fsspec URL, and install its package (s3fs for s3://, gcsfs for gs://).",
        ) from error
    return files, f"{root.rstrip('/')}/{key}"


@contextlib.contextmanager
def _tracker_errors(tracker_base: str) -> Iterator[None]:
    try:
        yield
    except AxtxError:
        raise
    except Exception as error:
        raise TrackerUnavailableError(
            f"The tracker at {tracker_base} cannot be read: {type(error).__name__}: {error}.",
            fix="it is tried again; if it stays so, check that this machine reaches it and may read it.",
        ) from error
