"""Which host's apps a root folder holds. The same path may be another folder on another machine or in a container."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.errors import AppElsewhereError, SchedulerUnavailableError
from airflow_provider_axtx.launcher.local_detached.app_dir import this_host, write_file

_IDENTITY = ".root-id"


def place(root: Path) -> dict[str, str]:
    """Return where an app under a root can be reached: ``local_root``, ``root_id``, ``host`` and ``boot_id``.

    The root is made at first use, with a random id that goes with its files.

    :raises SchedulerUnavailableError: the root cannot be written.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = root / _IDENTITY
        if not identity.exists():
            proposed = root / f"{_IDENTITY}-{uuid.uuid4().hex}"
            write_file(str(proposed), proposed.name.rpartition("-")[2])
            try:
                os.link(proposed, identity)
            except FileExistsError:
                pass  # another process was first, and its id counts
            finally:
                proposed.unlink()
        return {"local_root": str(root), "root_id": identity.read_text(encoding="ascii"), **this_host()}
    except OSError as error:
        raise SchedulerUnavailableError(
            f"The folder {root} cannot be written: {error}.",
            fix="see that it is writable and has free space, or set AXTX_LOCAL_ROOT to another one.",
        ) from error


def check_root(root: Path, recorded: Mapping[str, Any]) -> None:
    """Check that the files under a root are those that an attempt was recorded with.

    A host that was restarted, or a container that was made anew, under its old name may have lost them. The apps that
    ran there have ended with it, so that it may be observed.

    :param recorded: what ``place`` returned at the submission.
    :raises AppElsewhereError: they are not.
    """
    if not recorded.get("root_id"):
        return  # a record of an older version
    try:
        if (root / _IDENTITY).read_text(encoding="ascii") == recorded["root_id"]:
            return
    except FileNotFoundError:
        pass
    check_host("app", recorded, f"its files in {root} are not on this machine", restarted_is_here=True)


def check_host(what: str, recorded: Mapping[str, Any], reason: str, *, restarted_is_here: bool = False) -> None:
    """Raise the error that names the host to which an app belongs.

    :param recorded: ``host`` and ``boot_id`` of that host.
    :param restarted_is_here: accept this host if it was restarted since.
    :raises AppElsewhereError: unless accepted.
    """
    here = this_host()
    host = recorded.get("host", "?")
    if restarted_is_here and host == here["host"] and recorded.get("boot_id") != here["boot_id"]:
        return
    raise AppElsewhereError(
        f"The {what} belongs to host {host} and cannot be observed or cancelled from {here['host']}: {reason}.",
        fix=f"run the task, the triggerer or `airflow ax reap` on {host}, or let all machines that wait for apps of "
        f"this scheduler share its files. If {host} does not exist any more, run `airflow ax reap --lost-host {host}`.",
    )


def is_this_host(recorded: Mapping[str, Any]) -> bool:
    """Return whether a recorded host is this one: the same name, or the same kernel (a container beside this one)."""
    here = this_host()
    return recorded.get("host") == here["host"] or recorded.get("boot_id") == here["boot_id"]
