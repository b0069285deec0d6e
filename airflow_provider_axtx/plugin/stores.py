"""Which experiment stores the page reads: those of the Airflow connections of type ``ax``.

Only these, and ``ax_default`` whatever its type: a name in an address must not be able to choose any database that
Airflow has a connection to.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.connection import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import HTTPException

from airflow_provider_axtx.hooks.ax import AxHook, connection_url
from airflow_provider_axtx.store.views import ExperimentViews

DEFAULT = AxHook.default_conn_name


def open_store(conn_id: str) -> ExperimentViews:
    """Return the store behind a connection, wherever it is defined: the database, the environment, a secrets backend.

    :raises HTTPException: 404 when there is no such connection of type ``ax``.
    """
    if conn_id == DEFAULT:
        return ExperimentViews(AxHook().get_url())
    try:
        connection = AxHook.get_connection(conn_id)
    except AirflowNotFoundException:
        connection = None
    if connection is None or connection.conn_type != AxHook.conn_type:
        # The same answer for a connection of another type: it must not reveal which connections exist.
        raise HTTPException(404, f"There is no Airflow connection {conn_id!r} of type {AxHook.conn_type}.")
    return ExperimentViews(connection_url(connection))


def known_stores(session: SessionDep) -> list[str]:
    """Return ``ax_default``, then the other connections of type ``ax`` in Airflow's database.

    Airflow cannot list those of the environment or of a secrets backend; the links of tasks lead to them.
    """
    found = session.query(Connection.conn_id).filter(Connection.conn_type == AxHook.conn_type)
    return [DEFAULT, *sorted({conn_id for (conn_id,) in found} - {DEFAULT})]


def readable_stores(user: Any, session: SessionDep) -> list[str]:
    """Return the known stores whose connections the user may read; every user may read ``ax_default``."""
    known = known_stores(session)
    if known == [DEFAULT]:
        return known
    readable = get_auth_manager().get_authorized_connections(user=user, method="GET", session=session)
    return [conn_id for conn_id in known if conn_id == DEFAULT or conn_id in readable]
