"""Reaches the file system of a tracker base, an object store with the credentials of an Airflow connection included."""

from __future__ import annotations

import os
import time
from typing import Any

import fsspec

from airflow_provider_axtx.core.errors import InvalidInputError, TrackerUnavailableError
from airflow_provider_axtx.core.tracker_url import is_object_store, split_connection

#: Seconds for which a process takes over a file system that it has made from a connection. After that it reads the
#: connection again, which a user may have corrected.
_KEPT_SECONDS = 300.0
#: Seconds for which a tracker base that could be reached is not checked again.
_CHECKED_SECONDS = 60.0
#: Process id, scheme and connection -> file system and when it was made. A file system does not survive a fork.
_made: dict[tuple[int, str, str], tuple[Any, float]] = {}
_checked: dict[str, float] = {}


def locate(tracker_base: str) -> tuple[Any, str]:
    """Return the file system of a tracker base, and the path of the base in it.

    :raises InvalidInputError: the URL is of an unknown kind, or a package for it is not installed.
    :raises TrackerUnavailableError: Airflow does not find the connection that the URL names.
    """
    conn_id, url = split_connection(tracker_base)
    try:
        if conn_id is None:
            files, root = fsspec.core.url_to_fs(url)
        else:
            scheme = url.partition("://")[0]
            files = _with_connection(scheme, conn_id)
            root = fsspec.core.split_protocol(url)[1]
    except (ValueError, ImportError) as error:
        raise InvalidInputError(
            f"tracker_base {tracker_base!r} cannot be used: {error}.",
            fix="use an absolute path or an fsspec URL, and install its package (s3fs for s3://, gcsfs for gs://); for "
            "a connection in the URL, its provider too (apache-airflow-providers-amazon for s3://).",
        ) from error
    return files, root.rstrip("/")


def _with_connection(scheme: str, conn_id: str) -> Any:
    key = (os.getpid(), scheme, conn_id)
    files, made_at = _made.get(key, (None, 0.0))
    if files is None or time.monotonic() - made_at > _KEPT_SECONDS:
        files = _connect(scheme, conn_id)
        _made[key] = files, time.monotonic()
    return files


def _connect(scheme: str, conn_id: str) -> Any:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException
    from airflow.sdk.io import get_fs

    try:
        # Airflow's providers take other credentials, or none, where a connection is missing.
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise TrackerUnavailableError(
            f"tracker_base names the Airflow connection {conn_id!r}, and Airflow does not find it.",
            fix="define the connection where every worker and triggerer sees it, or correct tracker_base.",
        ) from error
    made = get_fs(scheme, conn_id)
    # Otherwise fsspec keeps each file system until this process ends.
    type(made).clear_instance_cache()
    return made


def is_to_be_checked(tracker_base: str) -> bool:
    """Return whether ``check_reachable`` asks anything: not of other file systems, nor again after a moment."""
    return is_object_store(tracker_base) and time.monotonic() - _checked.get(tracker_base, -1e9) >= _CHECKED_SECONDS


def check_reachable(tracker_base: str) -> None:
    """Check that an object store has the bucket of a tracker base and lets this process look into it.

    Other file systems are not checked: a folder is made by the app. A base that was reached a moment ago is not asked
    for again.

    :raises InvalidInputError: there is no such bucket, or the credentials are refused.
    :raises TrackerUnavailableError: Airflow does not find the connection.
    :raises Exception: whatever else the file system raises: it cannot be reached just now.
    """
    if not is_to_be_checked(tracker_base):
        return
    files, root = locate(tracker_base)
    files.invalidate_cache()
    try:
        if not _exists(files, root):
            check_bucket(files, root)
    except PermissionError as error:
        raise InvalidInputError(
            f"tracker_base {tracker_base!r}: the object store refuses the credentials: {error}.",
            fix="correct the credentials, or let them read and list what is below this address.",
        ) from error
    except FileNotFoundError as error:
        raise InvalidInputError(f"{error}.", fix="create the bucket, or correct tracker_base.") from error
    _checked[tracker_base] = time.monotonic()


def _exists(files: Any, path: str) -> bool:
    try:
        files.info(path)
    except FileNotFoundError:
        return False
    return True


def check_bucket(files: Any, path: str) -> None:
    """Check that the bucket of a path exists: object stores answer for a missing bucket as for a missing object.

    :raises FileNotFoundError: it does not.
    """
    bucket = path.lstrip("/").partition("/")[0]
    try:
        files.info(bucket)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"The object store has no bucket {bucket!r}") from error
    except PermissionError:
        return  # it may be allowed below a prefix only
