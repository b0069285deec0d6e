"""Doing things as another Unix user, in a forked process. Needs root, like the users' processes that it stands for."""

from __future__ import annotations

import encodings.ascii
import os
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Imported here: the users' processes cannot import it.
PRELOADED = encodings.ascii
#: The user of the Airflow worker, and another user of the machine. They need no entry in /etc/passwd.
WORKER, STRANGER = 12001, 65534


def as_user(uid: int, work: Callable[[], T], *, umask: int = 0o022) -> T:
    """Return what ``work`` returns when a user calls it; an ``OSError`` or another exception of it is raised here.

    The user cannot read the Python installation: what ``work`` needs has to be imported before.
    """
    assert os.geteuid() == 0, "run these tests as root: they act as two users"
    source, target = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.umask(umask)
            answer: tuple[Any, BaseException | None] = (work(), None)
        except BaseException as error:  # noqa: BLE001 - raised in the parent
            answer = (None, error)
        with os.fdopen(target, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)
    os.close(target)
    with os.fdopen(source, "rb") as file:
        value, error = pickle.load(file)
    os.waitpid(child, 0)
    if error is not None:
        raise error
    result: T = value
    return result
