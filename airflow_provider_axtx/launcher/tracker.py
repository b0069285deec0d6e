"""Reads the results of a trial from the files that its app wrote with TorchX's ``FsspecResultTracker``."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from fsspec.implementations.local import LocalFileSystem

from airflow_provider_axtx.core.deadline import in_time
from airflow_provider_axtx.core.errors import (
    AxtxError,
    InvalidResultError,
    TrackerUnavailableError,
)
from airflow_provider_axtx.core.keys import checkpoint_dir_for, tracker_key, tracker_step_key
from airflow_provider_axtx.core.tracker_url import is_object_store
from airflow_provider_axtx.launcher import object_store
from airflow_provider_axtx.launcher.regular_files import IrregularFileError, read_regular
from airflow_provider_axtx.launcher.removal import remove_in

_Result = TypeVar("_Result")

#: A result consists of a few numbers; a larger file is not a result.
MAX_RESULT_BYTES = 1024 * 1024
#: Progressive results of one trial; further ones, in order of the step, are ignored.
MAX_STEPS = 10_000
#: Seconds after which a file system counts as unavailable: a dead NFS server would block the caller without limit.
DEADLINE_SECONDS = 60.0
_MAX_EVIDENCE = 200


def read_results(tracker_base: str, trial_index: int) -> dict[str, Any] | None:
    """Return what an app reported for a trial, unchecked.

    :param tracker_base: folder or fsspec URL, as it was passed to the app.
    :param trial_index: the trial.
    :return: the reported names and values, NaN and infinity as floats; None when the app reported nothing.
    :raises InvalidResultError: there is a file, but no JSON object in it; the message shows how it begins.
    :raises TrackerUnavailableError: it cannot be read just now (permission, network).
    :raises InvalidInputError: the URL is of an unknown kind, or its fsspec package is not installed.
    """
    content = _in_time(tracker_base, _read, tracker_base, tracker_key(trial_index))
    return None if content is None else _parsed(content, f"{tracker_base.rstrip('/')}/{tracker_key(trial_index)}")


def check_reachable(tracker_base: str) -> None:
    """Check that an object store has the bucket of a tracker base and accepts the credentials; others are not checked.

    :raises InvalidInputError: there is no such bucket, the credentials are refused, or as for ``read_results``.
    :raises TrackerUnavailableError: it cannot be reached just now.
    """
    if object_store.is_to_be_checked(tracker_base):
        _in_time(tracker_base, object_store.check_reachable, tracker_base)


def remove_results(tracker_base: str, trial_index: int) -> None:
    """Remove what an earlier attempt reported for a trial, progressive results included, if there is anything.

    :raises TrackerUnavailableError: it cannot be removed just now.
    :raises InvalidInputError: as for ``read_results``.
    """
    _in_time(tracker_base, _remove, tracker_base, trial_index)


def remove_tracker(tracker_base: str, submission_key: str, *, root_must_exist: bool = False) -> bool:
    """Remove the whole tracker base of one attempt: results, progress and every other file that its app has put there.

    :param submission_key: the attempt's key, after which its own tracker base is named. A base of another name is
        shared, and stays.
    :param root_must_exist: whether the folder that holds the tracker bases has to exist. Where it does not, a file
        system that machines share may not be mounted on this one.
    :return: whether it was removed.
    :raises TrackerUnavailableError: it cannot be removed just now, or the folder does not exist.
    :raises InvalidInputError: as for ``read_results``.
    """
    root, _, name = tracker_base.rstrip("/").rpartition("/")
    if not root or name != submission_key:
        return False
    return _in_time(tracker_base, _remove_below, root, name, root_must_exist)


def remove_checkpoint(tracker_base: str, submission_key: str, *, root_must_exist: bool = False) -> bool:
    """Remove the checkpoints of the trial to which an attempt belongs.

    :param tracker_base: the tracker base of the attempt.
    :param submission_key: the attempt's key.
    :param root_must_exist: see ``remove_tracker``. A tracker base that attempts share is its owner's, who may have
        removed it.
    :return: whether there were any.
    :raises TrackerUnavailableError: they cannot be removed just now, or the folder does not exist.
    :raises InvalidInputError: as for ``read_results``.
    """
    root, _, name = checkpoint_dir_for(tracker_base, submission_key).rpartition("/")
    root_must_exist = root_must_exist and tracker_base.rstrip("/").endswith(f"/{submission_key}")
    return _in_time(tracker_base, _remove_below, root or "/", name, root_must_exist)


def has_checkpoint(tracker_base: str, submission_key: str) -> bool:
    """Return whether the apps of a trial have left anything in the trial's checkpoint folder.

    :raises TrackerUnavailableError: it cannot be listed just now.
    :raises InvalidInputError: as for ``read_results``.
    """
    root, _, name = checkpoint_dir_for(tracker_base, submission_key).rpartition("/")
    return bool(_in_time(tracker_base, lambda: _names_in(*_locate(root or "/", name))))


def _remove_below(root: str, name: str, root_must_exist: bool) -> bool:
    files, path = _locate(root, name)
    if _is_local(files):
        folder = Path(path).parent
        if root_must_exist and not folder.is_dir():
            raise TrackerUnavailableError(
                f"The folder {folder}, which holds the tracker {name}, does not exist on this machine.",
                fix="mount the shared file system; if the folder is gone for good, create it empty.",
            )
        return remove_in(folder, name)
    files.invalidate_cache()
    stale = files.find(path)
    for file in stale:
        with contextlib.suppress(FileNotFoundError):
            files.rm_file(file)
    return bool(stale)


def list_steps(tracker_base: str, trial_index: int) -> set[float]:
    """Return the steps for which an app has written progressive results, without reading them.

    :raises TrackerUnavailableError: they cannot be listed just now.
    :raises InvalidInputError: as for ``read_results``.
    """
    return set(_in_time(tracker_base, _step_files, tracker_base, trial_index))


def read_progress(tracker_base: str, trial_index: int, known: Collection[float] = ()) -> dict[float, dict[str, Any]]:
    """Return the progressive results of a trial by step, unchecked.

    A file without a JSON object is left out: the app may be writing it, and the next call reads it.

    :param known: steps that need not be read again.
    :raises TrackerUnavailableError: they cannot be read just now.
    :raises InvalidInputError: as for ``read_results``.
    """
    found: dict[float, dict[str, Any]] = {}
    for step, key in _in_time(tracker_base, _step_files, tracker_base, trial_index).items():
        if step in known:
            continue
        with contextlib.suppress(InvalidResultError):
            content = _in_time(tracker_base, _read, tracker_base, key)
            found |= {} if content is None else {step: _parsed(content, key)}
    return found


def _remove(tracker_base: str, trial_index: int) -> None:
    files, path = _locate(tracker_base, tracker_key(trial_index))
    if _is_local(files):
        remove_in(Path(path).parent, tracker_key(trial_index), tracker_step_key(trial_index, "").rstrip("/"))
        return
    files.invalidate_cache()
    # Not ``rm``, which treats ``*`` and ``[`` in a path as patterns.
    for stale in [path, *files.find(f"{path}.steps")]:
        with contextlib.suppress(FileNotFoundError):
            files.rm_file(stale)


def _step_files(tracker_base: str, trial_index: int) -> dict[float, str]:
    """Return the tracker key of each step, in order; names that are not numbers are ignored."""
    files, path = _locate(tracker_base, tracker_step_key(trial_index, ""))
    found = {}
    for name in _names_in(files, path.rstrip("/")):
        with contextlib.suppress(ValueError):
            if math.isfinite(step := float(name)):
                found[step] = tracker_step_key(trial_index, name)
    return dict(sorted(found.items())[:MAX_STEPS])


def _names_in(files: Any, path: str) -> list[str]:
    if _is_local(files):
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 - an open folder, which cannot be replaced by a link
        finally:
            os.close(folder)
    files.invalidate_cache()
    try:
        return sorted(entry.rsplit("/", 1)[-1] for entry in files.ls(path, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(tracker_base: str, key: str) -> bytes | None:
    files, path = _locate(tracker_base, key)
    try:
        if _is_local(files):
            return read_regular(path, MAX_RESULT_BYTES + 1, below=path.removesuffix(f"/{key}") or "/")
        return _read_object(files, path)
    except (FileNotFoundError, NotADirectoryError):
        if is_object_store(tracker_base):
            # Without its bucket the result is out of reach, which does not mean that the app has reported nothing.
            object_store.check_bucket(files, path)
        return None
    except (IsADirectoryError, IrregularFileError) as error:
        raise InvalidResultError(
            f"The result {path} is not a file: {error.strerror or 'it is a folder'}.",
            fix="write it as FsspecResultTracker does: one file.",
        ) from error


def _read_object(files: Any, path: str) -> bytes:
    # The app wrote from another process: what this one remembers of the folder may be older.
    files.invalidate_cache()
    size = files.info(path)["size"]
    if size is None or size > MAX_RESULT_BYTES:
        with files.open(path, "rb") as opened:
            start: bytes = opened.read(MAX_RESULT_BYTES + 1)
        return start
    # In one request: an app that replaces its result in between must not give the start of one and the end of another.
    content: bytes = files.cat_file(path)
    return content


def _is_local(files: Any) -> bool:
    return isinstance(files, LocalFileSystem)


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
    files, root = object_store.locate(tracker_base)
    return files, f"{root}/{key}"


def _in_time(tracker_base: str, call: Callable[..., _Result], *arguments: object) -> _Result:
    """Call a function in a thread and return its result.

    :raises TrackerUnavailableError: it took longer than ``DEADLINE_SECONDS``, or the file system raised.
    """
    try:
        return in_time(lambda: call(*arguments), DEADLINE_SECONDS)
    except AxtxError:
        raise
    except Exception as error:
        raise TrackerUnavailableError(
            f"The tracker at {tracker_base} cannot be read: {type(error).__name__}: {error}.",
            fix="it is tried again; if it stays so, check that this machine reaches it and may read it.",
        ) from error
