"""BoTorch's compiled kernel for several objectives, and the lock that a killed process leaves beside it."""

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

#: BoTorch compiles it in some 7 s (67 s were seen on a busy machine); an older lock belongs to nobody.
STALE_SECONDS = 180.0
_KERNEL = "logei_fused_ext"


def remove_stale_build_lock() -> None:
    """Remove the lock of a compilation whose process was killed."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    for lock in (*root.glob(f"{_KERNEL}/lock"), *root.glob(f"*/{_KERNEL}/lock")):
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            continue  # the compilation ended just now
        if age > STALE_SECONDS:
            _log.warning("Removed %s, %.0f s old: the process that compiled this kernel was killed.", lock, age)
            lock.unlink(missing_ok=True)


@contextmanager
def without_stale_build_lock(look_seconds: float = 5.0) -> Iterator[None]:
    """Propose trials for several objectives inside this block.

    The first such proposal on a machine compiles a kernel, under a lock file that PyTorch waits for without end
    (``torch.utils.file_baton``). A task that is killed meanwhile leaves the file, and its own retry would hang on it:
    so the lock is looked after by a thread while this one may be waiting for it.

    :param look_seconds: seconds between two looks at the lock.
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
