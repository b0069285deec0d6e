"""Removing what ended apps have left on disk."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from airflow_provider_axtx.launcher.local_detached import launch
from airflow_provider_axtx.launcher.local_detached.app_dir import AppDir
from airflow_provider_axtx.launcher.local_detached.app_state import final_of
from airflow_provider_axtx.launcher.local_detached.request import is_safe_name

#: Seconds after which a directory that a killed submitter was preparing is no longer in use.
_STALE_STAGING = 3600.0


def remove_app(root: Path, app_id: str, older_than_seconds: float = 0.0) -> bool:
    """Remove an app that has ended, with its logs; one that has not, or only recently, is kept.

    Its id could be submitted again afterwards: remove nothing whose trial is not recorded yet.

    :return: whether it was removed.
    """
    final = final_of(AppDir(str(root), app_id)) if is_safe_name(app_id) else None
    ended = final.get("time") if final else None
    if not isinstance(ended, int | float) or time.time() - ended < older_than_seconds:
        return False
    # Another process may remove it as well.
    with contextlib.suppress(FileNotFoundError):
        # Renamed first: half removed it could be taken for an app that never ended.
        shutil.rmtree((root / app_id).rename(root / f"{launch.TRASH_PREFIX}{app_id}"))
        return True
    return False


def remove_rubbish(root: Path) -> None:
    """Remove directories that killed processes have left: half removed, or never committed."""
    for entry in root.glob(".*"):
        with contextlib.suppress(FileNotFoundError):
            is_trash = entry.name.startswith(launch.TRASH_PREFIX)
            is_staged = entry.name.startswith(launch.STAGING_PREFIX)
            if is_trash or (is_staged and time.time() - entry.stat().st_mtime > _STALE_STAGING):
                shutil.rmtree(entry)
