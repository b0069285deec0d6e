"""The two steps of a submission: commit the request, then start a supervisor. Each may be killed at any point."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import ARMED_VARIABLE, crash_point
from airflow_provider_axtx.launcher.local_detached import supervisor
from airflow_provider_axtx.launcher.local_detached.app_dir import LOCK, REQUEST, TOKEN_VARIABLE, AppDir, sync_directory

#: Directories in the root that are not apps begin with these; an app id cannot begin with a dot.
STAGING_PREFIX, TRASH_PREFIX = ".new-", ".old-"
#: Configuration and secrets of Airflow's own processes, and what a task process tells its children about itself (its
#: supervisor's socket, its start message, a database URL that is blocked on purpose).
_WITHHELD_PREFIXES = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_", "_AIRFLOW_", "__AIRFLOW_")
#: Seconds for a supervisor to start, on the most loaded host.
_START_TIMEOUT = 120.0


def app_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what an app inherits of the environment of its submitter."""
    withheld = (ARMED_VARIABLE, TOKEN_VARIABLE)
    return {k: v for k, v in environ.items() if k not in withheld and not k.startswith(_WITHHELD_PREFIXES)}


def commit(app: AppDir, request: dict[str, Any]) -> bool:
    """Create the app's directory with its request, in full or not at all.

    :param request: ``roles`` (each with ``name`` and ``replicas``), ``max_parallel``, ``term_grace``; each replica has
        ``args``, ``env``, ``cwd``, ``stdout``, ``stderr``, ``combined``.
    :return: False when an app of this id exists.
    :raises OSError: when it cannot be written; then nothing was. Also when another user has made a directory of its
        name.
    """
    app.check_owner()
    if app.exists():
        return False
    token = uuid.uuid4().hex
    Path(app.root).mkdir(mode=0o700, parents=True, exist_ok=True)
    staged = AppDir(app.root, f"{STAGING_PREFIX}{app.app_id}-{token}")
    try:
        _stage(app, staged, {**request, "token": token})
        crash_point("local.before_commit")
        # A directory is only ever renamed over an empty one, and no app's directory is ever empty.
        Path(staged.path).rename(app.path)
    except OSError:
        shutil.rmtree(staged.path, ignore_errors=True)
        app.check_owner()
        if app.exists():
            return False
        raise
    crash_point("local.after_commit")
    sync_directory(app.root)
    return True


def _stage(app: AppDir, staged: AppDir, request: dict[str, Any]) -> None:
    Path(staged.path).mkdir(mode=0o700)
    for role in request["roles"]:
        for replica in role["replicas"]:
            replica["env"][TOKEN_VARIABLE] = request["token"]
            directory = Path(replica["stdout"]).parent.relative_to(app.path)
            Path(staged.path, directory).mkdir(parents=True)
    Path(staged.path, LOCK).touch(mode=0o600)
    staged.write(REQUEST, request)


def start(app: AppDir) -> bool:
    """Start a supervisor for a committed app and wait until it has taken the app (about 50 ms).

    :return: False when another supervisor has or had it.
    :raises SchedulerUnavailableError: when none could be started; the app stays committed.
    """
    inherited = app_environment(os.environ)
    if ARMED_VARIABLE in os.environ:
        inherited[ARMED_VARIABLE] = os.environ[ARMED_VARIABLE]
    command = [sys.executable, "-I", "-S", str(supervisor.__file__), app.path]
    try:
        # It inherits only the standard streams: otherwise it would keep open sockets of a task process open.
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=inherited,
            start_new_session=True,
            timeout=_START_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_started(app, str(error)) from error
    crash_point("local.after_start")
    if done.stdout not in ("won", "lost"):
        raise _not_started(app, done.stderr.strip() or f"it answered {done.stdout!r}, exit code {done.returncode}")
    return done.stdout == "won"


def _not_started(app: AppDir, reason: str) -> SchedulerUnavailableError:
    return SchedulerUnavailableError(
        f"The supervisor of app {app.app_id!r} did not start: {reason}",
        fix=f"see that {app.root} is writable and has free space and that processes can be started, then submit again.",
    )
