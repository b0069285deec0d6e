"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of an empty file to write, which takes the place of ``path`` when the block ends without an error.

    A link stays, and the file that it names is replaced; the file keeps its mode. What no file can take the place of (a
    pipe, a device, an open file such as ``/dev/stdout``) gets the content appended.

    :raises OSError: when it cannot be written.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        mode = None
    is_replaced = not _is_open_file(Path(path)) and (mode is None or stat.S_ISREG(mode))
    target = Path(os.path.realpath(path)) if is_replaced else Path(path)
    # As every new file has it; what was readable by its owner only is not shown to others meanwhile.
    temporary = _new_file(target, 0o666 if mode is None else 0o600) if is_replaced else _elsewhere()
    try:
        yield temporary
        if is_replaced:
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            temporary.replace(target)
        else:
            with temporary.open("rb") as content, target.open("ab") as file:
                shutil.copyfileobj(content, file)
            temporary.unlink()
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _new_file(target: Path, mode: int) -> Path:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    return temporary


def _elsewhere() -> Path:
    handle, name = tempfile.mkstemp()
    os.close(handle)
    return Path(name)


def _is_open_file(path: Path) -> bool:
    """Return whether a path leads to a file that a process has open, as ``/dev/stdout``, which others may write to."""
    while path.is_symlink():
        folder = path.parent.resolve()
        if folder.is_relative_to("/proc"):
            return True
        path = folder / path.readlink()
    return False
