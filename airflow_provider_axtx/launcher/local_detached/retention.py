"""Removing what ended apps have left on disk."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.launcher.local_detached import launch
from airflow_provider_axtx.launcher.local_detached.app_dir import AppDir
from airflow_provider_axtx.launcher.local_detached.app_state import final_of
from airflow_provider_axtx.launcher.local_detached.request import is_safe_name
from airflow_provider_axtx.launcher.removal import remove_in

log = logging.getLogger(__name__)

#: Seconds after which a directory that a killed submitter was preparing is no longer in use.
_STALE_STAGING = 3600.0


def remove_app(root: Path, app_id: str) -> bool:
    """Remove an app that has ended, with its logs; one that has not is kept.

    Its id could be submitted again afterwards: remove nothing whose trial is not recorded yet.

    :return: whether it was removed.
    :raises OSError: it cannot be removed.
    """
    if not is_safe_name(app_id):
        return False
    trash, removed = f"{launch.TRASH_PREFIX}{app_id}", False
    with contextlib.suppress(FileNotFoundError):  # Another process may remove it as well.
        removed = remove_in(root, trash)  # A process that was killed may have left a part of it.
        if final_of(AppDir(str(root), app_id)) is not None:
            # Renamed first: a directory that is half removed could look like an app that has not ended.
            (root / app_id).rename(root / trash)
            crash_point("local.after_trash")
            removed = remove_in(root, trash)
    return removed


def remove_rubbish(root: Path) -> None:
    """Remove directories that killed processes have left: half removed, or never committed and an hour old."""
    for entry in root.glob(".*"):
        try:
            is_trash = entry.name.startswith(launch.TRASH_PREFIX)
            is_staged = entry.name.startswith(launch.STAGING_PREFIX)
            if is_trash or (is_staged and time.time() - entry.lstat().st_mtime > _STALE_STAGING):
                remove_in(root, entry.name)
        except FileNotFoundError:  # another process has removed it
            continue
        except OSError as error:
            log.warning("%s cannot be removed: %s", entry, error)
