"""Looking up Airflow connections that need not be defined.

Airflow's own look-up takes a secrets backend that fails for one that does not have the connection. Where a default
stands in for a missing connection, one failed request to the API server would make a task use another experiment store
or another scheduler than the tasks before it. Here such a failure is an error that a retry can resolve.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_provider_axtx.core.errors import AirflowUnavailableError

if TYPE_CHECKING:
    from airflow.sdk import Connection


def find_connection(conn_id: str) -> Connection | None:
    """Return the connection from a secrets backend, the environment or Airflow's database; None if it is not defined.

    :raises AirflowUnavailableError: when a secrets backend, or Airflow's API server or database, fails to say whether
        it is defined.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        _check_undefined(conn_id)
        return None


async def afind_connection(conn_id: str) -> Connection | None:
    """Return what ``find_connection`` returns without blocking an event loop; for triggers."""
    try:
        return await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        # `airflow dags test` answers only the look-up that blocks.
        return await asyncio.to_thread(find_connection, conn_id)


def _check_undefined(conn_id: str) -> None:
    from airflow.sdk.execution_time.secrets.execution_api import ExecutionAPISecretsBackend
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    backends = ensure_secrets_backend_loaded()
    in_task = any(isinstance(backend, ExecutionAPISecretsBackend) for backend in backends)
    fix = (
        "look at the log of Airflow's API server, and retry."
        if in_task
        else "check Airflow's own database (airflow db check), create its tables (airflow db migrate), and retry."
    )
    # Besides a task's API server; the last backend of the API server and of the command line is Airflow's database.
    others = [one for one in backends if not isinstance(one, ExecutionAPISecretsBackend)] if in_task else backends[:-1]
    for backend in others:
        try:
            found = backend.get_connection(conn_id) is not None
        except AirflowNotFoundException:
            continue
        except Exception as error:
            # As a vault that does not answer, which Airflow notes only in its debug log.
            reason = f"{type(backend).__name__}: {str(error).partition(chr(10))[0]}"
            variable = f"AIRFLOW_CONN_{conn_id.upper()}"
            fix = f"look at what the secrets backend says, and retry; or define the connection, such as in {variable}."
            raise _unknown(conn_id, reason, fix) from error
        if found:
            raise _unknown(conn_id, f"an earlier request to {type(backend).__name__} failed", "retry.")
    try:
        found = _api_server_has(conn_id) if in_task else backends[-1].get_connection(conn_id) is not None
    except Exception as error:  # whatever the channel or the database raises: SQLAlchemy, OSError, AirflowRuntimeError
        # SQLAlchemy adds the statement in further lines.
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise _unknown(conn_id, reason, fix) from error
    if found:
        raise _unknown(conn_id, "an earlier request failed", fix)


def _api_server_has(conn_id: str) -> bool:
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection

    answer = task_runner.SUPERVISOR_COMMS.send(GetConnection(conn_id=conn_id))
    if not isinstance(answer, ErrorResponse):
        return True
    if answer.error != ErrorType.CONNECTION_NOT_FOUND:
        raise AirflowRuntimeError(answer)
    return False


def _unknown(conn_id: str, reason: str, fix: str) -> AirflowUnavailableError:
    return AirflowUnavailableError(
        f"Airflow did not say whether the connection {conn_id!r} is defined ({reason}).", fix=fix
    )
