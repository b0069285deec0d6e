"""What an app is doing, read from its directory by any process.

Final file first, then the lock, then everything once more under the lock: a supervisor may end between two looks, but
while an observer holds the lock none lives, so the files are then complete, and the observer may record the end.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.status import is_terminal_app_state
from airflow_provider_axtx.launcher.local_detached.app_dir import (
    CANCEL,
    FINAL,
    RUNNING,
    STARTED,
    AppDir,
    this_host,
    try_lock,
)
from airflow_provider_axtx.launcher.local_detached.local_root import check_host
from airflow_provider_axtx.launcher.local_detached.processes import kill_app

log = logging.getLogger(__name__)


def observe(app: AppDir) -> AppObservation | None:
    """Return the state of an app, or None when it was never submitted.

    An app whose supervisor has died is ended here: what is left of it is killed and the end recorded, as is an app
    cancelled before any supervisor took it.

    :raises AppElsewhereError: it runs on another host, with which this one shares the files.
    """
    if (final := final_of(app)) is not None:
        return _ended(app, final)
    if not app.exists():
        return None
    started, here = _started(app), this_host()
    if started and started["boot_id"] != here["boot_id"] and started["host"] != here["host"]:
        check_host(f"app {app.app_id}", started, "its processes run there")
    try:
        lock = try_lock(app.lock)
    except FileNotFoundError:  # Cleaned up between the two looks.
        return None
    if lock is None:
        if not app.has(RUNNING):
            return AppObservation("PENDING", "queued")
        return AppObservation("RUNNING", started_at=app.written_at(RUNNING))
    try:
        return _finalize(app, here)
    finally:
        os.close(lock)


def _ended(app: AppDir, final: dict[str, Any]) -> AppObservation:
    return AppObservation(
        str(final["state"]),
        str(final.get("message", "")),
        bool(final.get("infrastructure")),
        started_at=app.written_at(RUNNING),
        ended_at=app.written_at(FINAL),
    )


def final_of(app: AppDir) -> dict[str, Any] | None:
    """Return the recorded end of an app, or None when there is none that can be believed."""
    final = app.read(FINAL)
    return final if final and is_terminal_app_state(str(final.get("state"))) else None


def _started(app: AppDir) -> dict[str, Any] | None:
    """Return where and as which process the supervisor started; empty when that cannot be read, None before."""
    started = app.read(STARTED)
    if started and all(isinstance(started.get(key), str) for key in ("host", "boot_id")):
        return started
    return {} if app.has(STARTED) or app.has(FINAL) else None


def _finalize(app: AppDir, here: dict[str, str]) -> AppObservation:
    """Say, and record, what an app without a living supervisor is; the caller holds the lock."""
    if (final := final_of(app)) is not None:
        return _ended(app, final)
    started = _started(app)
    if started is None:
        if not app.has(CANCEL):
            return AppObservation("SUBMITTED", "committed, but its supervisor has not started (yet)")
        return _record(app, AppObservation("CANCELLED", "cancelled before it started"))
    if survivors := _kill_remains(app):
        return AppObservation("RUNNING", f"lost its supervisor; processes {survivors} resist SIGKILL")
    if app.has(CANCEL):
        return _record(app, AppObservation("CANCELLED", "cancelled on request; its supervisor was lost meanwhile"))
    if started and started["boot_id"] != here["boot_id"]:
        reason = f"lost: the host {here['host']} was restarted"
    else:
        reason = f"lost: its supervisor (pid {started.get('pid', '?')}) ended without recording a result (killed?)"
    return _record(app, AppObservation("FAILED", reason, is_infrastructure_failure=True))


def _kill_remains(app: AppDir) -> list[int]:
    if app.token is None:
        return []
    leaders = (app.read(RUNNING) or {}).get("leaders")
    entries = leaders.items() if isinstance(leaders, dict) else ()
    known = {int(pid): start for pid, start in entries if pid.isascii() and pid.isdigit() and isinstance(start, int)}
    return kill_app(app.token, known, Path(app.path).stat().st_uid)


def _record(app: AppDir, end: AppObservation) -> AppObservation:
    crash_point("local.before_settle")
    try:
        app.write_final(end.app_state, end.message, end.is_infrastructure_failure, {})
    except OSError as error:
        # The observation holds all the same; the next observer tries to record it again.
        log.warning("Cannot record that app %s is %s: %s", app.app_id, end.app_state, error)
    return replace(end, started_at=app.written_at(RUNNING), ended_at=app.written_at(FINAL))
