"""Every contract test runs on SQLite, on PostgreSQL and, when asked for (``-m mysql``), on MariaDB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import metadata
from tests.engines.mariadb import MariadbServer, mariadb_server
from tests.engines.postgres import PostgresServer, postgres_server

__all__ = ["mariadb_server", "postgres_server"]

Server = PostgresServer | MariadbServer
TABLES = [table.name for table in metadata.sorted_tables]

_SERVERS = [
    pytest.param("postgres_server", id="postgresql", marks=pytest.mark.postgres),
    pytest.param("mariadb_server", id="mysql", marks=pytest.mark.mysql),
]
_BACKENDS = [pytest.param(None, id="sqlite"), *_SERVERS]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with tables, to be copied: migrating costs more than most tests."""
    path = tmp_path_factory.mktemp("store") / "migrated.db"
    # Closed, so that all is in the file, and nothing in a write-ahead log beside it.
    ExperimentStore(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def migrated_databases() -> dict[Server, str]:
    """The name of a database with tables, on each server that has one by now."""
    return {}


def _migrated(server: Server, databases: dict[Server, str]) -> str:
    """Return the name of a database with empty tables."""
    if server not in databases:
        databases[server] = server.new_database()
        ExperimentStore(server.url(databases[server])).close()
    server.truncate(databases[server], TABLES)
    return databases[server]


@pytest.fixture(params=_SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    """A database server."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def server_database(server: Server, migrated_databases: dict[Server, str]) -> str:
    """The name of a database with empty tables on that server."""
    return _migrated(server, migrated_databases)


@pytest.fixture(params=_BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param is None:
        return f"sqlite:///{tmp_path / 'empty.db'}"
    server: Server = request.getfixturevalue(request.param)
    return server.url(server.new_database())


@pytest.fixture(params=_BACKENDS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with empty tables."""
    if request.param is None:
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "store.db")
        return f"sqlite:///{tmp_path / 'store.db'}"
    server: Server = request.getfixturevalue(request.param)
    return server.url(_migrated(server, request.getfixturevalue("migrated_databases")))


@pytest.fixture
def store(store_url: str) -> Iterator[ExperimentStore]:
    """An open store on empty tables."""
    opened = ExperimentStore(store_url)
    yield opened
    opened.close()
