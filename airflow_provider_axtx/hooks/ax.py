"""The ``ax`` connection: where the experiment store is."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_axtx.core.errors import InvalidInputError, StoreNotFoundError
from airflow_provider_axtx.hooks.connections import afind_connection, find_connection
from airflow_provider_axtx.hooks.embedded import (
    embedded_store_path,
    make_file,
    make_folder,
    warn_about_embedded_store,
)

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Connection
    from ax.api.client import Client

    from airflow_provider_axtx.store.experiments import ExperimentStore

#: SQLAlchemy driver by connection type: a plain database connection that is there already can be used as it is.
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "sqlite": "sqlite",
}
#: What the field ``drivername`` of an ``ax`` connection may hold.
DRIVERNAMES = ("sqlite", "postgresql+psycopg", "mysql+pymysql")


class AxHook(BaseHook):
    """Gives access to the experiments in the store.

    Without a connection ``ax_default`` the store is the SQLite file ``axtx/experiments.db`` in AIRFLOW_HOME.

    :param ax_conn_id: a connection of type ``ax``, ``postgres``, ``mysql`` or ``sqlite``.
    """

    conn_name_attr = "ax_conn_id"
    default_conn_name = "ax_default"
    conn_type = "ax"
    hook_name = "Ax experiment store"

    def __init__(self, ax_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ax_conn_id = ax_conn_id

    @cached_property
    def store(self) -> ExperimentStore:
        """The experiment store; opened, and its schema created or upgraded, at first use.

        :raises InvalidInputError: when the connection cannot be used; names the field.
        :raises StoreUnavailableError: when the database does not answer.
        :raises AirflowUnavailableError: when Airflow does not say whether the connection is defined.
        """
        from airflow_provider_axtx.store.experiments import ExperimentStore

        connection = self._connection()
        if connection is not None:
            return ExperimentStore(connection_url(connection))
        make_file()
        return ExperimentStore(_embedded_url())

    @cached_property
    def existing_store(self) -> ExperimentStore:
        """The experiment store for those who only read: neither the store nor a table is created or changed.

        :raises StoreNotFoundError: when there is no store yet.
        :raises SchemaVersionError: when the store was made by another version of this package.
        """
        from airflow_provider_axtx.store.experiments import ExperimentStore

        connection = self._connection()
        if connection is None and not embedded_store_path().exists():
            raise StoreNotFoundError(
                f"There is no experiment store at {embedded_store_path()} yet.",
                fix="run a DAG that creates an experiment, or define the connection ax_default.",
            )
        return ExperimentStore(_url(connection), create=False)

    def get_url(self) -> str:
        """Return the store's SQLAlchemy URL, with the password."""
        connection = self._connection()
        if connection is None:
            make_folder()
        return _url(connection)

    async def aget_url(self) -> str:
        """Return the store's SQLAlchemy URL without blocking an event loop; for triggers."""
        connection = await afind_connection(self.ax_conn_id)
        if connection is None:
            self._use_embedded_store()
            make_folder()
        return _url(connection)

    def describe_store(self) -> str:
        """Return where the store is and what says so, without the password."""
        from sqlalchemy.engine import make_url

        connection = self._connection()
        shown = make_url(_url(connection)).render_as_string(hide_password=True)
        if connection is None:
            return f"{shown} (the embedded store of this machine: the connection {self.ax_conn_id} is not defined)"
        return f"{shown} (connection {self.ax_conn_id})"

    def _connection(self) -> Connection | None:
        """Return the connection, or None for the embedded store."""
        connection = find_connection(self.ax_conn_id)
        if connection is None:
            self._use_embedded_store()
        return connection

    def _use_embedded_store(self) -> None:
        if self.ax_conn_id != self.default_conn_name:
            raise InvalidInputError(
                f"ax_conn_id={self.ax_conn_id!r}: no such connection.",
                fix=f"define it (type ax), or leave ax_conn_id at {self.default_conn_name!r} for the embedded store.",
            )
        warn_about_embedded_store()

    def get_client(self, experiment_name: str) -> Client:
        """Return a live ``ax.api.client.Client`` with all facts of an experiment, for notebooks and analyses.

        It is a copy: what is done with it does not reach the store.

        :raises ExperimentNotFoundError: when there is no such experiment.
        """
        from airflow_provider_axtx.optimizer import engine as optimizer

        return optimizer.client(self.store.snapshot(experiment_name))

    def export(self, experiment_name: str, path: str | Path) -> None:
        """Write an experiment as Ax's own JSON snapshot, for ``Client.load_from_json_file``.

        :param path: the file; replaced as a whole or not at all.
        """
        from airflow_provider_axtx.optimizer import engine as optimizer

        optimizer.export_json(self.store.snapshot(experiment_name), path)

    def test_connection(self) -> tuple[bool, str]:
        """Open the store; for the Test button of the connection form."""
        from airflow_provider_axtx.core.errors import AxtxError

        try:
            count = len(self.store.summaries())
        except AxtxError as error:
            return False, str(error)
        return True, f"The experiment store answers; it holds {count} experiment(s)."


def _embedded_url() -> str:
    return f"sqlite:///{embedded_store_path()}"


def _url(connection: Connection | None) -> str:
    return _embedded_url() if connection is None else connection_url(connection)


def connection_url(connection: Connection) -> str:
    """Return the SQLAlchemy URL that a connection describes.

    :param connection: type ``ax`` with the extra field ``drivername``, or a plain database connection. ``schema`` is
        the database, for SQLite the file's absolute path.
    :raises InvalidInputError: when a field is missing or unknown; names the connection and the field.
    """
    from sqlalchemy.engine import URL

    where = f"connection {connection.conn_id!r}"
    drivername = _drivername(connection, where)
    if not connection.schema:
        raise InvalidInputError(
            f"{where}: the field schema is empty.",
            fix="set it to the database's name, or for SQLite to the absolute path of the file.",
        )
    if drivername == "sqlite":
        path = connection.schema if connection.schema.startswith("/") else f"/{connection.schema}"
        return f"sqlite:///{path}"
    if not connection.host:
        raise InvalidInputError(f"{where}: the field host is empty.", fix="set it to the database server's name.")
    url = URL.create(
        drivername,
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
    )
    return url.render_as_string(hide_password=False)


def _drivername(connection: Connection, where: str) -> str:
    if connection.conn_type in _DRIVERS:
        return _DRIVERS[connection.conn_type]
    if connection.conn_type != AxHook.conn_type:
        raise InvalidInputError(
            f"{where}: the type {connection.conn_type!r} cannot hold an experiment store.",
            fix=f"use type ax, or one of {', '.join(sorted(_DRIVERS))}.",
        )
    drivername = str(connection.extra_dejson.get("drivername") or "sqlite")
    if drivername not in DRIVERNAMES:
        raise InvalidInputError(
            f"{where}: drivername {drivername!r} is not supported.", fix=f"one of {', '.join(DRIVERNAMES)}."
        )
    return drivername
