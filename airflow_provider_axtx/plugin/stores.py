"""Which experiment stores the page reads: those of the Airflow connections of type ``ax`` that the user may read.

``ax_default``, of whatever type, is open to every user who may view the page; what of it is shown depends on the rights
on DAGs.
"""

from __future__ import annotations

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.connection import Connection
from fastapi import HTTPException

from airflow_provider_axtx.hooks.ax import AxHook, connection_url
from airflow_provider_axtx.hooks.connections import find_connection
from airflow_provider_axtx.hooks.embedded import (
    embedded_store_path,
    embedded_store_warning,
    warn_about_embedded_store,
)
from airflow_provider_axtx.hooks.installation import installation_id_in_database
from airflow_provider_axtx.plugin.access import Reader
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews

DEFAULT = AxHook.default_conn_name
_installation = ""
#: Seconds for which a change is tried again while the database is busy: a request holds a thread of the API server.
_WRITE_SECONDS = 2.0
#: Shown on the page; the log has the details, such as the path of the file.
EMBEDDED_STORE = (
    "The connection ax_default is not defined, and this Airflow may run on several machines. Each of them would use an "
    "experiment store of its own, so experiments may be missing here. Define the connection ax_default (type ax) for "
    "all components of Airflow."
)


def open_store(conn_id: str) -> ExperimentViews:
    """Return the store behind a connection, wherever it is defined: the database, the environment, a secrets backend.

    :raises HTTPException: 404 when there is no such connection of type ``ax``.
    :raises AxtxError: when the store cannot be read.
    """
    return ExperimentViews(_url_of(conn_id))


def _url_of(conn_id: str) -> str:
    connection = find_connection(conn_id)
    if connection is None and conn_id == DEFAULT:
        return f"sqlite:///{embedded_store_path()}"
    if connection is None or (connection.conn_type != AxHook.conn_type and conn_id != DEFAULT):
        raise no_such_store()
    return connection_url(connection)


def open_store_to_write(conn_id: str) -> ExperimentStore:
    """Return the experiment store of a connection, to record what a user wants. It is neither created nor upgraded.

    :raises HTTPException: 404 when there is no such connection of type ``ax``.
    :raises AxtxError: when the store cannot be used.
    """
    return ExperimentStore(_url_of(conn_id), retry_seconds=_WRITE_SECONDS, create=False)


def this_installation() -> str:
    """Return the identity of this Airflow deployment; empty while no task has made one."""
    global _installation
    _installation = _installation or installation_id_in_database()
    return _installation


def no_such_store() -> HTTPException:
    """Return the answer for a connection that does not exist, has another type, or that the user may not read."""
    return HTTPException(404, "There is no such connection of type ax, or you do not have the right to read it.")


def known_stores(session: SessionDep) -> list[str]:
    """Return ``ax_default``, then the other connections of type ``ax`` in Airflow's database.

    Airflow cannot list those of the environment or of a secrets backend; the links of tasks lead to them.
    """
    found = session.query(Connection.conn_id).filter(Connection.conn_type == AxHook.conn_type)
    return [DEFAULT, *sorted({conn_id for (conn_id,) in found} - {DEFAULT})]


def readable_stores(reader: Reader, session: SessionDep) -> list[str]:
    """Return the known stores that the user may read."""
    return [conn_id for conn_id in known_stores(session) if may_open(reader, conn_id)]


def may_open(reader: Reader, conn_id: str) -> bool:
    """Return whether the user may open the store."""
    return conn_id == DEFAULT or reader.may_read_connection(conn_id)


def warning() -> str | None:
    """Return why experiments may be missing from the default store, or None; the log has the details."""
    if embedded_store_warning() is None or find_connection(DEFAULT) is not None:
        return None
    warn_about_embedded_store()
    return EMBEDDED_STORE
