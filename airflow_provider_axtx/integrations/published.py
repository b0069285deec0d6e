"""Folders and files that are made aside and then put in their place, so that a killed process leaves none in part."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".axtx-"
#: What is so old was left by a killed process: a task is kept for a minute at most.
_ABANDONED_SECONDS = 3600.0


@contextmanager
def workshop(root: Path) -> Iterator[Path]:
    """Give an empty folder below ``root``, on the same file system, which is removed when the block ends."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(f"{_PREFIX}*"):
        if time.time() - _changed_at(left) > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=root, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it
        return time.time()
