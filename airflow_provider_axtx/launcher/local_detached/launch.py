"""The two steps of a submission: commit the request, then start a supervisor. Each may be killed at any point."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.launcher.local_detached import spawning
from airflow_provider_axtx.launcher.local_detached.app_dir import LOCK, REQUEST, TOKEN_VARIABLE, AppDir, sync_directory

#: Directories in the root that are not apps begin with these; an app id cannot begin with a dot.
STAGING_PREFIX, TRASH_PREFIX = ".new-", ".old-"


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
    """Start a supervisor for a committed app and wait until it has taken the app.

    :return: False when another supervisor has or had it.
    :raises SchedulerUnavailableError: when none could be started; the app stays committed.
    """
    try:
        answer = spawning.supervise(app.root, app.path)
    except OSError as error:
        raise _not_started(app, str(error)) from error
    crash_point("local.after_start")
    if answer not in ("won", "lost"):
        raise _not_started(app, answer)
    return answer == "won"


def _not_started(app: AppDir, reason: str) -> SchedulerUnavailableError:
    return SchedulerUnavailableError(
        f"The supervisor of app {app.app_id!r} did not start: {reason}",
        fix=f"see that {app.root} is writable and has free space and that processes can be started, then submit again.",
    )
