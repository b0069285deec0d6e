"""Removes the lock that a killed process leaves beside BoTorch's compiled kernel for several objectives."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.cpp_extension import get_default_build_root

_log = logging.getLogger(__name__)

#: A lock older than this was left by a killed process: BoTorch compiles the kernel in about 7 s, and in 67 s on a busy
#: machine.
STALE_SECONDS = 180.0
_KERNEL = "logei_fused_ext"


def remove_stale_build_lock() -> None:
    """Remove the lock of a compilation whose process was killed."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    for lock in (*root.glob(f"{_KERNEL}/lock"), *root.glob(f"*/{_KERNEL}/lock")):
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            continue  # The compilation has just ended.
        if age > STALE_SECONDS:
            _log.warning("Removed %s, %.0f s old: the process that compiled this kernel was killed.", lock, age)
            lock.unlink(missing_ok=True)


@contextmanager
def without_stale_build_lock(look_seconds: float = 5.0) -> Iterator[None]:
    """Propose trials for several objectives inside this block.

    The first such proposal on a machine compiles a kernel under a lock file, for which PyTorch waits forever
    (``torch.utils.file_baton``). A task that is killed during the compilation leaves the file, and its retry would
    hang. A thread therefore checks the lock while this one may be waiting for it.

    :param look_seconds: seconds between two checks of the lock.
    """
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            remove_stale_build_lock()
            done.wait(look_seconds)

    thread = threading.Thread(target=look, name="axtx-build-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
