"""Templates of stores, and a parent process that has imported everything, so that forking a victim is quick."""

from __future__ import annotations

import pytest

from tests.engines.postgres import PostgresServer, postgres_server
from tests.faults.cases import Templates, preload
from tests.faults.cuts import Databases

__all__ = ["postgres_server"]


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Stores to start from."""
    folder = tmp_path_factory.mktemp("templates")
    preload(folder)
    return Templates(folder)


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer, templates: Templates) -> Databases:
    """PostgreSQL databases, each behind a proxy that can cut its connections."""
    return Databases(postgres_server)
