"""Opening files that an app wrote: it may have put a link, a FIFO or a device in their place.

Standard library only: the supervisor of ``local_detached`` uses it.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO


class IrregularFileError(OSError):
    """A link, FIFO, device or socket was found where a regular file was expected."""


def open_regular(
    path: str | os.PathLike[str], below: str | os.PathLike[str] | None = None, *, same_owner: bool = False
) -> BinaryIO:
    """Open a regular file for reading, without following a link and without waiting for a FIFO's writer.

    :param path: the file.
    :param below: folder that holds it, at any depth; links on the way from that folder to the file are not followed
        either. Links in the path of the folder itself are followed: an administrator has chosen it.
    :param same_owner: whether the file has to belong to the owner of its folder; only with ``below``.
    :raises IrregularFileError: it is a link, a FIFO, a device or a socket, or belongs to another user.
    :raises FileNotFoundError: there is no such file.
    :raises IsADirectoryError: it is a folder.
    """
    folder = None
    try:
        if below is None:
            descriptor = _open(os.fspath(path), path, None)
        else:
            *folders, name = os.path.relpath(path, below).split(os.sep)
            folder = os.open(below, os.O_RDONLY | os.O_DIRECTORY)
            for part in folders:
                inner = _enter(folder, part, path)
                os.close(folder)
                folder = inner
            descriptor = _open(name, path, folder)
            if same_owner and os.fstat(descriptor).st_uid != os.fstat(folder).st_uid:
                os.close(descriptor)
                raise IrregularFileError(errno.EPERM, "it belongs to another user", str(path))
    finally:
        if folder is not None:
            os.close(folder)
    return os.fdopen(descriptor, "rb")


def read_regular(
    path: str | os.PathLike[str],
    most: int,
    below: str | os.PathLike[str] | None = None,
    *,
    same_owner: bool = False,
) -> bytes:
    """Return the first ``most`` bytes of a regular file; arguments and errors as for ``open_regular``."""
    with open_regular(path, below, same_owner=same_owner) as file:
        # Python allocates what it is asked to read, and most files are much shorter than ``most``.
        return file.read(min(most, os.fstat(file.fileno()).st_size))


def _enter(folder: int, part: str, path: object) -> int:
    if part == os.pardir:
        raise IrregularFileError(errno.ELOOP, "it is outside its folder", str(path))
    try:
        return os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(part, folder):
            raise IrregularFileError(errno.ELOOP, f"{part} is a symbolic link", str(path)) from error
        raise


def _open(name: str, path: object, folder: int | None) -> int:
    try:
        # O_NONBLOCK: opening a FIFO without a writer would otherwise block.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise IrregularFileError(errno.ELOOP, "it is a symbolic link", str(path)) from error
        if error.errno == errno.ENXIO:
            raise IrregularFileError(errno.ENXIO, "it is a socket or a device", str(path)) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    raise IrregularFileError(errno.EINVAL, f"it is a {'FIFO' if stat.S_ISFIFO(mode) else 'device'}", str(path))


def _is_link(part: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(part, dir_fd=folder).st_mode)
    except OSError:
        return False
