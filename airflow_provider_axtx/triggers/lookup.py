"""How a trigger finds apps whose lookup options were not recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from airflow_provider_axtx.hooks.torchx import TorchXHook

#: Loading TorchX takes seconds, which must not occupy the threads of the event loop's default executor.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="axtx-lookup")


@dataclass(frozen=True)
class _UnrecordedAttempt:
    """An attempt of schema 0001, as ``TorchXHook.get_launcher_for`` takes it."""

    scheduler: str
    lookup_options: None = None


async def lookup_options_for(
    scheduler: str, recorded: Mapping[str, Any] | None, torchx_conn_id: str
) -> Mapping[str, Any]:
    """Return what the scheduler needs to find the apps of an attempt.

    :param scheduler: the attempt's scheduler.
    :param recorded: ``AttemptRecord.lookup_options``. With None, which an attempt of schema 0001 has, the options of
        the connection are taken, as tasks, reaps and the command line do.
    :param torchx_conn_id: the connection.
    :raises InvalidInputError: nothing was recorded, and the connection cannot be used.
    :raises AirflowUnavailableError: nothing was recorded, and Airflow does not say whether there is a connection.
    """
    if recorded is not None:
        return recorded
    hook = TorchXHook(torchx_conn_id)
    await hook.aload_settings()
    return await asyncio.get_running_loop().run_in_executor(_threads, _options_of_connection, hook, scheduler)


def _options_of_connection(hook: TorchXHook, scheduler: str) -> dict[str, Any]:
    return hook.get_launcher_for(_UnrecordedAttempt(scheduler)).lookup_options()
