"""Work that a trigger does when a user has ended its task: finished even though Airflow cancels the trigger again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

log = logging.getLogger(__name__)

#: Limit of the work in seconds. Airflow grants ``[triggerer] on_kill_timeout``, 30 s by default.
SECONDS = 25.0
#: Threads for calls to schedulers and stores, shared by all triggers of a process: the threads of the event loop's
#: default executor are needed by every trigger.
threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="axtx-kill")

#: The event loop itself keeps only weak references to its tasks.
_unfinished: set[asyncio.Task[None]] = set()


async def finish(what: str, work: Coroutine[Any, Any, None]) -> None:
    """Do the work in an asyncio task of its own, and wait for it.

    The triggerer sends the cancellation of a trigger again at each of its loops, also while its ``on_kill`` runs. The
    work goes on then, and only the waiting ends. Its errors are logged, since Airflow would only show a warning.

    :param what: what the work does, for the log.
    """
    task = asyncio.create_task(_logged(what, work), name=f"axtx-{what}")
    _unfinished.add(task)
    task.add_done_callback(_unfinished.discard)
    await asyncio.shield(task)


async def _logged(what: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            await work
    except Exception:
        log.exception("Could not %s. 'airflow ax reap' ends what is left.", what)
