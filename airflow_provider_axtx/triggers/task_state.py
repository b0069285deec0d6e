"""Whether a task that Airflow ends is over for good, or another try of it goes on with its app."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_axtx.core.records import TaskIdentity

log = logging.getLogger(__name__)

#: States after which no try of the task instance follows, unless a user clears it; then that try submits or attaches
#: anew. In any other state (scheduled, queued, restarting, up_for_retry, deferred, none at all ...) one is to follow.
_OVER = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})
#: Seconds that Airflow gets for its answer. A killed task has 5 s in all.
ASK_SECONDS = 2.0

_R = TypeVar("_R")


def is_last_try(identity: TaskIdentity) -> bool:
    """Return whether Airflow starts no further try by itself when this one fails."""
    return identity.try_number > identity.max_tries


def is_over(identity: TaskIdentity, *, when_running: bool, seconds: float | None = None) -> bool:
    """Return whether no try of a task instance will go on with its app.

    Blocks for up to ``seconds``. When Airflow cannot be asked, only the last try is over.

    :param identity: the try that Airflow ends.
    :param seconds: how long Airflow gets for its answer; None is ``ASK_SECONDS``.
    :param when_running: what a running task instance means: the try that is asked about, or one that has followed it.
    """
    try:
        state = _within(ASK_SECONDS if seconds is None else seconds, lambda: read_state(identity))
    except Exception:
        over = is_last_try(identity)
        log.warning(
            "Airflow did not tell the state of task %s; %s.",
            identity.task_id,
            "it was its last try" if over else "another try may follow",
            exc_info=True,
        )
        return over
    log.info("Task %s is in state %s.", identity.task_id, state)
    if state == "running":
        return when_running
    return state in _OVER


def read_state(identity: TaskIdentity) -> str | None:
    """Return the state of the task instance in Airflow's database; ``removed`` when it is not there any more.

    It can be read in tasks and triggers, which talk to Airflow's Execution API; in a trigger not in the thread of the
    event loop.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = identity.map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=identity.dag_id,
        run_ids=[identity.run_id],
        task_ids=[identity.task_id],
        map_index=identity.map_index if mapped else None,
    )
    name = f"{identity.task_id}_{identity.map_index}" if mapped else identity.task_id
    state: str | None = states.get(identity.run_id, {}).get(name, "removed")
    return state


def _within(seconds: float, ask: Callable[[], _R]) -> _R:
    """Return what ``ask`` returns, or raise after so many seconds.

    In a thread of its own: a signal handler must not wait for the channel to Airflow, whose lock the interrupted code
    may hold.
    """
    answers: list[_R] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            errors.append(error)

    thread = threading.Thread(target=call, name="axtx-task-state", daemon=True)
    thread.start()
    thread.join(seconds)
    if answers:
        return answers[0]
    raise errors[0] if errors else TimeoutError(f"no answer within {seconds:.0f} s")
