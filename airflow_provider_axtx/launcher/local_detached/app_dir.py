"""One app's directory: the names of its files, atomic writes, and the lock that a living supervisor holds.

Standard library only, like every module that the supervisor loads: it runs under ``python -I -S``, once for each app,
and dataclasses and pathlib alone would cost it 2.5 MB.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time

from airflow_provider_axtx.launcher.regular_files import IrregularFileError, read_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUEST = "request.json"
LOCK = "lock"
STARTED = "started.json"
RUNNING = "running.json"
FINAL = "final.json"
CANCEL = "cancel"

#: Of a state file; the request holds the environment of the app, and other limits apply to that.
_MAX_BYTES = 16 * 1024 * 1024

#: In the environment of every process of an app, with the token of its ``request.json``.
TOKEN_VARIABLE = "AXTX_APP_TOKEN"


class AppDir:
    """Names and files of one app's directory ``<root>/<app_id>``; the table is in ``scheduler.py``.

    :param root: directory of all apps of this scheduler, absolute.
    :param app_id: the app id, already checked to be one safe path component.
    """

    def __init__(self, root: str, app_id: str) -> None:
        self.root = root
        self.app_id = app_id
        self.path = os.path.join(root, app_id)
        self.logs = os.path.join(self.path, "logs")
        self.lock = os.path.join(self.path, LOCK)
        self._token: str | None = None
        self.supervisor_log = os.path.join(self.path, "supervisor.log")

    def exists(self) -> bool:
        """Return whether a submission under this id was committed."""
        return os.path.isdir(self.path)

    def check_owner(self) -> None:
        """Check that the directory, if there is one, is this user's: its name can be guessed, and made by another one.

        That of the root's owner is accepted, too: root may look at a user's apps, and some file systems show one owner
        for all files.

        :raises PermissionError: it is another user's, or a link.
        """
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), os.stat(self.root).st_uid):
            raise PermissionError(errno.EPERM, "it is not a directory of this user", self.path)

    def has(self, name: str) -> bool:
        """Return whether there is anything of that name in the directory, also a link to nothing."""
        return os.path.lexists(os.path.join(self.path, name))

    def started_or_ended(self) -> bool:
        """Return whether a supervisor has taken this app, or it ended before one could: it must not be started."""
        return self.has(STARTED) or self.has(FINAL)

    @property
    def token(self) -> str | None:
        """The random token of this app's request, which its other state files repeat."""
        if self._token is None:
            token = (self.read(REQUEST) or {}).get("token")
            self._token = token if isinstance(token, str) else None
        return self._token

    def written_at(self, name: str) -> float | None:
        """Return when the file was written, in seconds since the epoch; None when it is not there."""
        try:
            return os.lstat(os.path.join(self.path, name)).st_mtime
        except OSError:
            return None

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object in the state file ``name``, or None when there is no valid one.

        An app may write anything into its own directory. What is not a regular file of the directory's owner, is too
        large, is not a JSON object, or does not have the token of the request, counts as absent.

        :raises OSError: it cannot be read just now.
        """
        path = os.path.join(self.path, name)
        try:
            data = read_regular(path, _MAX_BYTES + 1, below=self.root, same_owner=True)
            content = json.loads(data) if len(data) <= _MAX_BYTES else None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, IrregularFileError):
            return None
        except (ValueError, RecursionError):
            return None
        if not isinstance(content, dict) or (name != REQUEST and content.get("token") != self.token):
            return None
        return content

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON object to the file ``name``, durably: after a crash it is there in full or not at all."""
        path = os.path.join(self.path, name)
        text = json.dumps(content if name == REQUEST else {**content, "token": self.token})
        try:
            write_file(path, text)
        except IsADirectoryError:
            # The app has put a folder there, which must not prevent its end from being recorded.
            os.rename(path, f"{path}.{os.urandom(8).hex()}")
            write_file(path, text)

    def remove_secrets(self) -> None:
        """Leave of the request only what is needed after the start: environment and arguments may hold secrets."""
        request = self.read(REQUEST)
        if request is None or not any("env" in replica for role in _roles(request) for replica in role["replicas"]):
            return
        roles = [{"name": role["name"], "replicas": [{} for _ in role["replicas"]]} for role in _roles(request)]
        with contextlib.suppress(OSError):  # On a full disk; tried again with the end of the app.
            self.write(REQUEST, {**request, "roles": roles})

    def mark(self, name: str) -> None:
        """Create the file ``name``, empty so that a full disk does not prevent it; nothing happens if it exists."""
        try:
            os.close(os.open(os.path.join(self.path, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        sync_directory(self.path)

    def write_final(self, state: str, message: str, infrastructure: bool, exits: dict[str, int]) -> None:
        """Record the end; only the holder of the lock may.

        :param state: SUCCEEDED, FAILED or CANCELLED.
        :param message: the reason; empty for SUCCEEDED.
        :param infrastructure: whether the app ended through no fault of its own.
        :param exits: ``role/replica`` -> exit code, negative for a signal.
        """
        self.remove_secrets()
        content = {"state": state, "message": message, "infrastructure": infrastructure, "exits": exits}
        self.write(FINAL, {**content, "time": time.time()})


def _roles(request: dict[str, Any]) -> list[dict[str, Any]]:
    roles: list[dict[str, Any]] = request["roles"]
    return roles


def write_file(path: str, text: str) -> None:
    """Write ``text`` to ``path`` (mode 0600) through a temporary file, fsync and rename."""
    # Random, not the pid: threads, and containers that share the directory, may write the same file at once.
    temporary = f"{path}.{os.urandom(8).hex()}.tmp"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make the entries of the directory ``path`` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(path: str, *, create: bool = False, shared: bool = False) -> int | None:
    """Take the ``flock`` of a file without waiting.

    :param create: whether to create a missing file (mode 0600).
    :param shared: take a shared lock instead of the exclusive one.
    :return: the descriptor that holds it until it is closed or this process dies; None when another has it.
    :raises FileNotFoundError: when there is no such file and ``create`` is False.
    """
    descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def this_host() -> dict[str, str]:
    """Return ``host`` (its name) and ``boot_id``: the same boot id means the same running kernel, also in containers
    of other names, so locks and process ids compare; a new one under the same name means that it was restarted.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return {"host": os.uname().nodename, "boot_id": file.read().strip()}
