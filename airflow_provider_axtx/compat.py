"""What Airflow 3.2 does differently from 3.3. Nothing else in the package depends on Airflow's version."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from airflow import __version__
from airflow.sdk import Variable

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

log = logging.getLogger(__name__)

#: (major, minor), for example (3, 3).
AIRFLOW = tuple(int(part) for part in __version__.split(".")[:2])

#: The event loop itself keeps only weak references to its tasks.
_unfinished: set[asyncio.Task[None]] = set()


def stats_functions(module: Any) -> Any:
    """Return what has ``incr``, ``gauge`` and ``timer`` in a module of Airflow's stats: before 3.3 a class in it."""
    return module if hasattr(module, "timer") else module.Stats


def page_path(base_path: str) -> str:
    """Return the path of the plugin's page, below the path at which Airflow is served.

    Airflow 3.3 shows the page in a frame below its navigation, and takes what follows the view's route as the frame's
    own path. The frame of Airflow 3.2 follows no path, so that an address in it could not name an experiment: there the
    page fills the window.

    :param base_path: path at which Airflow is served; it begins and ends with a slash.
    """
    return "axtx/" if AIRFLOW < (3, 3) else f"plugin/experiments{base_path}axtx/"


def variable_exists(key: str) -> bool:
    """Return whether a Variable is in Airflow's database. Call it in a task or a trigger.

    :param key: the Variable's key.
    :raises AirflowRuntimeError: when Airflow does not answer; ``Variable.get`` then only says that it found nothing.
    :raises ImportError: when this process is not a task and not a trigger.
    """
    if AIRFLOW >= (3, 3):
        return key in Variable.keys(prefix=key)
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable

    channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if channel is None:
        raise ImportError("This process has no channel to Airflow: it is not a task and not a trigger.")
    answer = channel.send(GetVariable(key=key))
    if not isinstance(answer, ErrorResponse):
        return True
    if answer.error == ErrorType.VARIABLE_NOT_FOUND:
        return False
    raise AirflowRuntimeError(answer)


def end_after_cancellation(trigger: BaseTrigger) -> None:
    """Call a trigger's ``on_kill`` where Airflow does not, when the trigger has been cancelled.

    Airflow 3.3 calls ``on_kill`` when a user has ended the deferred task. Airflow 3.2 only cancels the trigger, which
    it also does when the triggerer stops. ``on_kill`` asks for the task's state in any case, and leaves the app alone
    unless the task is over.

    In an asyncio task of its own, because Airflow sends the cancellation again every second until the trigger has
    ended.

    :param trigger: the trigger whose ``run`` was cancelled.
    """
    if AIRFLOW >= (3, 3) or getattr(trigger, "task_instance", None) is None:
        return
    ending = asyncio.create_task(_end(trigger), name="axtx-end-after-cancellation")
    _unfinished.add(ending)
    ending.add_done_callback(_unfinished.discard)


async def _end(trigger: BaseTrigger) -> None:
    try:
        await trigger.on_kill()  # type: ignore[no-untyped-call,unused-ignore]
    except Exception:
        log.exception("Could not end what a cancelled trigger waited for. 'airflow ax reap' ends what is left.")
