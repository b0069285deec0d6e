"""Waits for the end of apps on this host without polling: the kernel tells when their supervisors end.

It is only a hint that it is time to look. What cannot be waited for (a supervisor in another container) is polled.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable

from airflow_provider_axtx.launcher.local_detached.app_dir import FINAL, STARTED, AppDir, this_host


class EndWatch:
    """Waits for the end of any of some apps.

    Each app wakes the waiter once, however long its end then takes to be recorded.
    """

    def __init__(self) -> None:
        self._pids: dict[str, int | None] = {}
        self._woken: set[str] = set()

    def wait(self, apps: Iterable[AppDir], seconds: float) -> None:
        """Return when the supervisor of an app has ended, after ``seconds`` at the latest."""
        poll, watched = select.poll(), {}
        try:
            for app in apps:
                if app.path in self._woken:
                    continue
                # Opened before the look: a supervisor that ends in between wakes the waiter.
                descriptor = self._open(app)
                if descriptor is not None:
                    # Noted at once, so that it is closed whatever follows.
                    watched[descriptor] = app.path
                    poll.register(descriptor, select.POLLIN)
                if app.has(FINAL):
                    self._woken.add(app.path)
                    return
            if watched:
                self._woken |= {watched[descriptor] for descriptor, _ in poll.poll(seconds * 1000)}
            else:
                time.sleep(seconds)
        finally:
            for descriptor in watched:
                os.close(descriptor)

    def _open(self, app: AppDir) -> int | None:
        """Return a descriptor of the app's supervisor that becomes readable when it ends, or None."""
        if app.path not in self._pids:
            started = app.read(STARTED) or {}
            is_here = started.get("boot_id") == this_host()["boot_id"]
            self._pids[app.path] = started.get("pid") if is_here else None
        pid = self._pids[app.path]
        with contextlib.suppress(OSError):
            # Perhaps another process of this id, in another container: it would only wake the waiter too early or late.
            return None if pid is None else os.pidfd_open(pid)
        return None
