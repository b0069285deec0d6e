"""Launchers for attempts that exist, made once for all attempts that are reached in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_axtx.core.records import AttemptRecord

if TYPE_CHECKING:
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher

#: Gives the launcher of an attempt.
LauncherFor = Callable[[AttemptRecord], "TorchXLauncher"]


def cached_launchers(launcher_for: LauncherFor) -> LauncherFor:
    """Return the same function, but with one launcher for all attempts with equal scheduler, options and connection."""
    made: dict[tuple[str, str, str], TorchXLauncher] = {}

    def cached(attempt: AttemptRecord) -> TorchXLauncher:
        options = json.dumps(attempt.lookup_options, sort_keys=True)
        key = (attempt.scheduler, options, attempt.identity.torchx_conn_id)
        if key not in made:
            made[key] = launcher_for(attempt)
        return made[key]

    return cached
