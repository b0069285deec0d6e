"""Connections with TLS to a real PostgreSQL that refuses any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.engines.postgres import LOGIN, PostgresServer, make_certificates

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer(tls=True)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["postgres", "ax"])
def define(request: pytest.FixtureRequest, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Define the connection ``ax_default``, of a plain type or of our own, with extra fields."""
    database = server.new_database()

    def define(**extra: Any) -> AxHook:
        if request.param == "ax":
            extra["drivername"] = "postgresql+psycopg"
        address = {"host": "127.0.0.1", "port": server.port, "login": LOGIN, "password": server.password}
        fields = {"conn_type": request.param, **address, "schema": database, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", json.dumps(fields))
        return AxHook()

    return define


def opened(hook: AxHook) -> ExperimentStore:
    return ExperimentStore(hook.get_url(), retry_seconds=0.1)


def test_the_server_is_verified_and_the_connection_encrypted(define: Any, server: PostgresServer) -> None:
    hook = define(sslmode="verify-full", sslrootcert=str(server.ca))
    store = opened(hook)
    store.create("e", {})
    assert [summary.name for summary in store.summaries()] == ["e"]
    engine = sa.create_engine(hook.get_url())
    with engine.connect() as connection:
        encrypted = connection.scalar(sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))
    engine.dispose()
    store.close()
    assert encrypted is True


def test_a_server_of_another_authority_is_refused(define: Any, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    with pytest.raises(AxtxError, match="certificate"):
        opened(define(sslmode="verify-full", sslrootcert=str(tmp_path / "ca.pem")))


def test_without_tls_the_server_refuses_the_connection(define: Any) -> None:
    with pytest.raises(AxtxError):
        opened(define(sslmode="disable"))
