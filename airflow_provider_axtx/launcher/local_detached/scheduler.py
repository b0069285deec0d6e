"""``local_detached``: a TorchX scheduler for this host whose apps outlive the process that submitted them.

All state is on disk under one root; nothing lives in the memory of a process. Files in ``<root>/<app_id>/``:

=================== ============================ ==============================================================
file                written by                   when
=================== ============================ ==============================================================
``request.json``    the submitter                before the directory gets its name, which is the commit
``lock``            the submitter                likewise; ``flock``-ed by the supervisor as long as it lives
``started.json``    the supervisor               when it has taken the lock and before it does anything else
``running.json``    the supervisor               when the replicas exist and before they run their commands
``cancel``          the cancelling process       when the app is cancelled; never removed
``final.json``      the supervisor or, if it     when the app has ended and none of its processes is left
                    died, an observer
``supervisor.log``  the supervisor               its standard error; empty unless something went wrong
``logs/<role>/<k>`` supervisor, app              ``combined.log`` and its later pieces (supervisor; see ``output.py``),
                                                 ``error.json`` (app)
=================== ============================ ==============================================================

The directory is prepared under another name and renamed, which fails when an app of that id exists. A submitter killed
right after that leaves an app without a supervisor; the next ``find`` or ``schedule`` of that id starts one. Two
supervisors may be started, but one gets the lock, and ``started.json`` keeps every later one out: an app runs at most
once. An app ends with its last replica: what the replicas left running in the background is killed then.

The environment variables that are Airflow's own (``AIRFLOW__*``, ``AIRFLOW_CONN_*``, ``AIRFLOW_VAR_*``, its private
ones) are withheld from apps; ``AIRFLOW_HOME`` and ``AIRFLOW_CTX_*`` are passed on.

A service manager that kills a whole control group (``systemctl stop`` of an Airflow worker, a container that stops)
takes the apps along; they are then seen as lost. Apps of another host that shares the root are UNKNOWN here.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import pprint
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from torchx.schedulers.api import DescribeAppResponse, ListAppResponse, Stream, filter_regex
from torchx.schedulers.local_scheduler import COMBINED_LOG, CWDImageProvider, ImageProvider, LocalOpts, LocalScheduler
from torchx.specs import NONE, AppDef, AppDryRunInfo, AppState, Role, runopts

from airflow_provider_axtx.core.app_observation import UNSEEN, AppObservation
from airflow_provider_axtx.core.errors import (
    AppElsewhereError,
    DuplicateAppError,
    InvalidInputError,
    SchedulerUnavailableError,
)
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.home import axtx_home
from airflow_provider_axtx.launcher.local_detached import launch
from airflow_provider_axtx.launcher.local_detached.app_dir import CANCEL, REQUEST, AppDir
from airflow_provider_axtx.launcher.local_detached.app_state import final_of, observe
from airflow_provider_axtx.launcher.local_detached.request import (
    BACKEND,
    DEFAULT_LOG_LIMIT_MB,
    DEFAULT_TERM_GRACE,
    HOST_LIMIT_VARIABLE,
    DetachedRequest,
    check_app,
    check_options,
    is_safe_name,
)
from airflow_provider_axtx.launcher.log_files import read_lines
from airflow_provider_axtx.launcher.regular_files import read_regular

#: As TorchX's local scheduler names it; in the folder of a replica's logs.
_ERROR_FILE = "error.json"
_MAX_ERROR_BYTES = 64 * 1024


def default_root() -> Path:
    """Return the root when none is given: ``$AXTX_LOCAL_ROOT``, else ``$AIRFLOW_HOME/axtx/apps``."""
    root = os.environ.get("AXTX_LOCAL_ROOT")
    return Path(root) if root else axtx_home() / "apps"


class LocalDetachedScheduler(LocalScheduler):  # type: ignore[misc]
    """TorchX's local scheduler with apps that do not depend on the process that submitted them; see the module.

    Any number of instances in any number of processes may use one root. The app id is the ``AppDef``'s name, so that
    a name can be submitted only once. There is one root for all apps and no ``log_dir`` option, because state and
    logs are looked up by app id alone. Roles, replicas and images work as in ``local_cwd``: the working directory of
    an app is the submitter's.

    :param session_name: TorchX's session name; not part of any path.
    :param local_root: directory of all apps, on a file system with ``flock`` (not every network file system has it).
    :param image_provider_class: as for TorchX's ``LocalScheduler``.
    :param extra_paths: directories to put before each role's PATH.
    """

    def __init__(
        self,
        session_name: str,
        local_root: str | Path | None = None,
        image_provider_class: Callable[[LocalOpts], ImageProvider] = CWDImageProvider,
        extra_paths: builtins.list[str] | None = None,
    ) -> None:
        # In the main thread LocalScheduler would replace the SIGTERM and SIGINT handlers, by which Airflow reaches
        # on_kill; saved and restored they would still be missing for a moment.
        with ThreadPoolExecutor(max_workers=1) as other_thread:
            initialise = super().__init__
            other_thread.submit(initialise, session_name, image_provider_class, extra_paths=extra_paths).result()
        self.backend = BACKEND
        self.root = Path(local_root or default_root()).expanduser().absolute()

    def _run_opts(self) -> runopts:
        opts = runopts()
        for name, option in super()._run_opts():
            if name != "log_dir":
                opts.add(name, type_=option.opt_type, help=option.help, default=option.default)
        opts.add(
            "max_parallel",
            type_=int,
            default=None,
            help="start the app when fewer than this many of the apps submitted before it run on the host "
            "(default: number of CPUs)",
        )
        opts.add(
            "host_max_parallel",
            type_=int,
            default=None,
            help=f"and when fewer than this many apps run on the host at all (default: {HOST_LIMIT_VARIABLE}, if set)",
        )
        opts.add(
            "term_grace",
            type_=int,
            default=DEFAULT_TERM_GRACE,
            help="seconds between SIGTERM and SIGKILL when the app is stopped",
        )
        opts.add(
            "log_limit_mb",
            type_=int,
            default=DEFAULT_LOG_LIMIT_MB,
            help="megabytes of output that are kept of the app, its beginning and its end",
        )
        return opts

    # -- submit

    def _submit_dryrun(self, app: AppDef, cfg: Any) -> AppDryRunInfo[DetachedRequest]:
        check_app(app)
        check_options(cfg)
        request = DetachedRequest.from_plan(super()._submit_dryrun(app, cfg).request, app.name, cfg)
        return AppDryRunInfo(request, lambda planned: pprint.pformat(asdict(planned), width=80))

    def _get_app_log_dir(self, app_id: str, cfg: Any) -> str:
        return self.directory(app_id).logs

    def schedule(self, dryrun_info: AppDryRunInfo[DetachedRequest]) -> str:
        """Start the app; when this returns, its supervisor lives and it is queued or runs.

        :return: the app id. Of several calls with one id, in one process or many, exactly one returns.
        :raises DuplicateAppError: when an app of this id was started or cancelled before, or is by another call now.
        :raises SchedulerUnavailableError: when the app could not be written (nothing was submitted then) or its
            supervisor could not be started (it is then started by the next ``find`` or ``schedule`` of the id).
        """
        request = dryrun_info.request
        app = self.directory(request.app_id)
        try:
            committed = launch.commit(app, request.to_json())
        except OSError as error:
            raise SchedulerUnavailableError(
                f"App {app.app_id!r} could not be written under {app.root}: {error}",
                fix="see that the directory is writable and has free space, or set AXTX_LOCAL_ROOT to another one.",
            ) from error
        if not (committed or _startable(app)) or not launch.start(app):
            raise DuplicateAppError(
                f"App {app.app_id!r} exists already in {app.root}.",
                fix="adopt it (find, describe) or submit under another name; a name can be used once.",
            )
        return app.app_id

    def find(self, app_id: str) -> bool:
        """Return whether an app of exactly this id was submitted.

        If its submitter was killed between committing the app and starting its supervisor, it is started now: an app
        that is found runs or has run.

        :raises SchedulerUnavailableError: when that start fails.
        """
        app = self._known(app_id)
        if app is None:
            return False
        if _startable(app):
            launch.start(app)
        return True

    # -- observe

    def describe(self, app_id: str) -> DescribeAppResponse | None:
        """Return state, message, roles (name and number of replicas), error and directory of an app, or None when
        there is none of this id. SUBMITTED means that its submitter died before a supervisor started; see ``find``.
        """
        app = self._known(app_id)
        seen = _state(app) if app else None
        if app is None or seen is None:
            return None
        roles = (app.read(REQUEST) or {}).get("roles", [])
        return DescribeAppResponse(
            app_id=app_id,
            state=AppState[seen.app_state],
            num_restarts=0,
            msg=seen.message or NONE,
            structured_error_msg=_structured_error(app, roles),
            ui_url=f"file://{app.path}",
            roles=[Role(name=role["name"], image="", num_replicas=len(role["replicas"])) for role in roles],
        )

    def describe_many(self, app_ids: Iterable[str]) -> dict[str, AppObservation | AppElsewhereError | OSError]:
        """Return the state and message of many apps, with a few file reads for each and no process.

        :return: app id -> observation: ``UNSEEN`` for an app that does not exist, the error for one of another host or
            one whose files cannot be read, which must not hide the others.
        """
        seen: dict[str, AppObservation | AppElsewhereError | OSError] = {}
        for app_id in app_ids:
            try:
                app = self._known(app_id)
                seen[app_id] = (observe(app) if app else None) or UNSEEN
            except (AppElsewhereError, OSError) as error:
                seen[app_id] = error
        return seen

    def list(self, *_: object) -> builtins.list[ListAppResponse]:
        """Return all apps under the root, in order of their ids. Newer TorchX passes a configuration; it is ignored."""
        names = sorted(entry.name for entry in self.root.iterdir()) if self.root.is_dir() else []
        seen = {name: _state(app) for name in names if (app := self._own(name))}
        return [ListAppResponse(app_id=name, state=AppState[s.app_state]) for name, s in seen.items() if s]

    def log_iter(
        self,
        app_id: str,
        role_name: str,
        k: int = 0,
        regex: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        should_tail: bool = False,
        streams: Stream | None = None,
    ) -> Iterable[str]:
        """Return the log lines of the ``k``-th replica of a role; ``since`` and ``until`` are ignored with a warning.

        :param streams: None or combined: standard output and standard error are kept together.
        :raises InvalidInputError: when there is no such app, role or replica, or for another stream.
        """
        if since or until:
            warnings.warn(f"{BACKEND} ignores since and until: all log lines are returned", stacklevel=2)
        file = self.log_file(app_id, role_name, k, streams)

        def ended() -> bool:
            app = self._known(app_id)
            seen = app and _state(app)
            return not seen or seen.is_terminal

        read = read_lines(file, ended=ended if should_tail else lambda: True, should_wait=should_tail, below=self.root)
        lines = (line for _, line in read)
        return filter_regex(regex, lines) if regex else lines

    def log_file(self, app_id: str, role_name: str, k: int, streams: Stream | None = None) -> Path:
        """Return the file with the log of a replica; it may not exist yet, and a long log has further files.

        :raises InvalidInputError: when there is no such app, role or replica, or for another stream than the combined.
        """
        if streams not in (None, Stream.COMBINED):
            raise InvalidInputError(
                f"{BACKEND} keeps no log of {streams} alone: standard output and standard error are kept together.",
                fix="ask for the combined log, which is the default.",
            )
        app = self._known(app_id)
        replica = Path(app.logs, role_name, str(k)) if app else None
        if replica is None or not replica.is_dir():
            raise InvalidInputError(
                f"No log of replica {k} of role {role_name!r} of app {app_id!r} under {self.root}.",
                fix="take app id, role and replica from describe(); replicas count from 0.",
            )
        return replica / str(COMBINED_LOG)

    # -- end

    def _cancel_existing(self, app_id: str) -> None:
        app = self._known(app_id)
        if app is None or final_of(app) is not None:
            return
        crash_point("local.before_cancel")
        try:
            app.mark(CANCEL)
        except OSError as error:
            raise SchedulerUnavailableError(
                f"The cancellation of app {app_id!r} could not be written to {app.path}: {error}",
                fix="see that the directory is writable, then cancel again.",
            ) from error
        crash_point("local.after_cancel")
        # A living supervisor sees the marker, also one on another host that shares the files; where there is none, this
        # look ends the app.
        _state(app)

    def close(self) -> None:
        """Do nothing: the apps go on running."""

    def __del__(self) -> None:
        """Do nothing: LocalScheduler would terminate its apps."""

    def directory(self, app_id: str) -> AppDir:
        """Return the directory of an app, whether it exists or not."""
        return AppDir(str(self.root), app_id)

    def _known(self, app_id: str) -> AppDir | None:
        """Return the directory of a committed app; None for any other id, also one that is not a safe file name.

        :raises PermissionError: there is one that another user has made.
        """
        app = self.directory(app_id)
        if not is_safe_name(app_id):
            return None
        app.check_owner()
        return app if app.has(REQUEST) else None

    def _own(self, app_id: str) -> AppDir | None:
        """Do the same, and return None for a directory of another user."""
        with contextlib.suppress(PermissionError):
            return self._known(app_id)
        return None


def create_scheduler(
    session_name: str, local_root: str | None = None, extra_paths: list[str] | None = None, **_: object
) -> LocalDetachedScheduler:
    """Make the scheduler, as TorchX's ``SchedulerFactory``.

    Unknown keyword arguments are ignored: TorchX's ``Runner`` passes every ``TORCHX_*`` environment variable as one.
    """
    return LocalDetachedScheduler(session_name, local_root=local_root, extra_paths=extra_paths)


def _state(app: AppDir) -> AppObservation | None:
    """Return the state of an app in TorchX's terms, in which one of another host is UNKNOWN."""
    try:
        return observe(app)
    except AppElsewhereError as error:
        return AppObservation("UNKNOWN", error.message)


def _startable(app: AppDir) -> bool:
    return not app.started_or_ended() and not app.has(CANCEL)


def _structured_error(app: AppDir, roles: builtins.list[dict[str, Any]]) -> str:
    """Return the first error file that a replica has written, as JSON; TorchX's NONE when there is none.

    What is longer than ``_MAX_ERROR_BYTES`` is cut, and then is text, not JSON.
    """
    replicas = [(role["name"], k) for role in roles for k in range(len(role["replicas"]))]
    paths = [Path(app.logs, name, str(k), _ERROR_FILE) for name, k in replicas]
    written = [path for path in paths if path.is_file()]
    for path in sorted(written, key=lambda path: path.stat().st_mtime):
        with contextlib.suppress(OSError):  # the app has made it a link, or a file that cannot be read
            text = read_regular(path, _MAX_ERROR_BYTES, below=app.root).decode(errors="replace")
            try:
                return json.dumps(json.loads(text))
            except (ValueError, RecursionError):  # Written in part, by an app that was killed meanwhile.
                return json.dumps({"message": text})
    return str(NONE)
