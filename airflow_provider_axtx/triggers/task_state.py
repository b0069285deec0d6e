"""Whether a task that Airflow ends is over for good, or another try of it goes on with its app."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider_axtx.core.deadline import in_time
from airflow_provider_axtx.core.records import TaskIdentity

if TYPE_CHECKING:
    from uuid import UUID

log = logging.getLogger(__name__)

#: States after which no try of the task instance follows, unless a user clears it; then that try submits or attaches
#: anew. In any other state (scheduled, queued, restarting, up_for_retry, deferred, none at all ...) one is to follow.
_OVER = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})
#: Seconds that Airflow gets for its answer. A killed task has 5 s in all.
ASK_SECONDS = 2.0
#: HTTP statuses with which Airflow refuses a process that does not run the task any more: its token has expired while
#: it was stopped, or another try has taken its place.
_REFUSED = frozenset({401, 403, 404, 409, 410})


def is_last_try(identity: TaskIdentity) -> bool:
    """Return whether Airflow starts no further try by itself when this one fails."""
    return identity.try_number > identity.max_tries


def is_over(
    identity: TaskIdentity, *, when_running: bool, seconds: float | None = None, ti_id: UUID | None = None
) -> bool:
    """Return whether no try of a task instance will go on with its app.

    Blocks for up to twice ``seconds``. When Airflow does not answer, only the last try is over.

    :param identity: the try that Airflow ends.
    :param when_running: what a running task instance means: the try that is asked about, or one that has followed it.
    :param seconds: how long Airflow gets for each answer; None is ``ASK_SECONDS``.
    :param ti_id: Airflow's id of the try that is asked about, if this process runs it. Airflow gives each try an id of
        its own, so that a running try with another id is known to have followed.
    """
    seconds = ASK_SECONDS if seconds is None else seconds
    # Each question has a thread of its own: a signal handler must not wait for the channel to Airflow, whose lock the
    # interrupted code may hold.
    try:
        state = in_time(lambda: read_state(identity), seconds)
        if state == "running" and when_running and ti_id is not None:
            when_running = in_time(lambda: is_current_try(ti_id), seconds)
    except Exception as error:
        if _is_refusal(error):
            log.warning("Airflow does not take this process for task %s any more.", identity.task_id)
            return False
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


def is_superseded(identity: TaskIdentity, ti_id: UUID | None) -> bool:
    """Return whether another try of the task instance is to go on, or goes on, in the place of this process.

    False when Airflow does not answer.
    """
    if ti_id is None:
        return False
    try:
        return not in_time(lambda: is_current_try(ti_id), ASK_SECONDS) and (
            in_time(lambda: read_state(identity), ASK_SECONDS) not in _OVER
        )
    except Exception as error:
        log.warning("Airflow did not tell which try of task %s is the last.", identity.task_id, exc_info=True)
        return _is_refusal(error)


def is_running(ti: Any) -> bool:
    """Return whether this process runs a task instance; False when Airflow does not say so.

    :param ti: of a template context, which Airflow also makes for a user who looks at rendered templates.
    """
    mapped_index = -1 if ti.map_index is None else ti.map_index
    identity = TaskIdentity(ti.dag_id, ti.run_id, ti.task_id, mapped_index)
    try:
        return in_time(lambda: read_state(identity), ASK_SECONDS) == "running" and (
            in_time(lambda: is_current_try(ti.id), ASK_SECONDS)
        )
    except Exception:
        log.warning("Airflow did not tell whether task %s runs in this process.", ti.task_id, exc_info=True)
        return False


def is_current_try(ti_id: UUID) -> bool:
    """Return whether Airflow still has a task instance of this id: it gives the next try of a task another one.

    To be called in a process that runs a task: each may ask only about itself.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ValidateInletsAndOutlets

    try:
        # The only request about a try by its id that changes nothing; what it says of assets is not looked at.
        task_runner.SUPERVISOR_COMMS.send(ValidateInletsAndOutlets(ti_id=ti_id))
    except AirflowRuntimeError as error:
        if _is_refusal(error):
            return False
        raise
    return True


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, AirflowRuntimeError) and (error.error.detail or {}).get("status_code") in _REFUSED


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
