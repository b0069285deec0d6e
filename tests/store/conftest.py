"""Every contract test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import metadata
from tests.engines.postgres import PostgresServer, postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

_BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(params=_BACKENDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with tables, to be copied: migrating costs more than most tests."""
    path = tmp_path_factory.mktemp("store") / "migrated.db"
    ExperimentStore(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_database(postgres_server: PostgresServer) -> str:
    """The name of a PostgreSQL database with tables."""
    name = postgres_server.new_database()
    ExperimentStore(postgres_server.url(name)).close()
    return name


@pytest.fixture
def migrated_postgres_url(postgres_server: PostgresServer, migrated_database: str) -> str:
    """The URL of a PostgreSQL database with empty tables."""
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    postgres_server.execute(f"TRUNCATE {tables}", migrated_database)
    return postgres_server.url(migrated_database)


@pytest.fixture(params=_BACKENDS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with empty tables."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "store.db")
        return f"sqlite:///{tmp_path / 'store.db'}"
    url: str = request.getfixturevalue("migrated_postgres_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[ExperimentStore]:
    """An open store on empty tables."""
    opened = ExperimentStore(store_url)
    yield opened
    opened.close()
