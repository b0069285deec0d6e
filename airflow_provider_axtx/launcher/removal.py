"""Removing what apps have left in a folder: they may have put links there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def remove_in(base: Path, *names: str) -> bool:
    """Remove files and folders in ``base``. Links are removed, never followed.

    :param base: the folder; it, and what leads to it, is chosen by people who are trusted.
    :param names: names without a slash.
    :return: whether there were any.
    :raises OSError: something cannot be removed; what was removed before is gone.
    """
    try:
        folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return sum(_removed(folder, name) for name in names) > 0
    finally:
        os.close(folder)


def _removed(folder: int, name: str) -> bool:
    if name in ("", os.curdir, os.pardir) or os.sep in name:
        raise ValueError(f"{name!r} is not the name of a file in a folder")
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=folder)
    return True
