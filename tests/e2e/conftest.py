"""One PostgreSQL server for the session: each Airflow has a database of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.world import CASES, NewDatabase, World, fault_world
from tests.engines.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]


@pytest.fixture(scope="session")
def new_database(postgres_server: PostgresServer) -> NewDatabase:
    """Create an empty database for an Airflow's own tables, and return its SQLAlchemy URL."""
    return lambda: postgres_server.url(postgres_server.new_database())


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[World]:
    """An Airflow with the DAGs of ``dags_cases``, for one module."""
    folder = tmp_path_factory.mktemp("cases")
    shared = folder / "shared"
    shared.mkdir()
    with fault_world(folder, new_database(), CASES, environ={"AXTX_CASES_FOLDER": str(shared)}) as world:
        yield world
