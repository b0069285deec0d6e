"""The experiment stores that the page reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.models.connection import Connection
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from airflow_provider_axtx.hooks import embedded
from airflow_provider_axtx.plugin.stores import EMBEDDED_STORE, open_store
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.plugin.material import DAG, RUN, SINGLE, fill
from tests.plugin.roles import NO_SECRETS

PASSWORD = "Ohw4-never-shown"


@pytest.fixture
def real_stores(application: FastAPI) -> None:
    """The application opens stores as it does in an API server."""
    application.state.opened = open_store


@pytest.fixture
def team(tmp_path: Path, connections: Session, monkeypatch: pytest.MonkeyPatch) -> ExperimentStore:
    """The store of a connection ``team``; the tests' hooks find connections in the environment alone."""
    path = str(tmp_path / "team.db")
    define(monkeypatch, "team", conn_type="ax", schema=path)
    connections.add(Connection(conn_id="team", conn_type="ax", schema=path))
    connections.commit()
    return ExperimentStore(f"sqlite:///{path}")


def define(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def names(client: TestClient, **query: str) -> list[str]:
    answer = client.get("/axtx/api/experiments", params=query)
    assert answer.status_code == 200, answer.text
    return [line["name"] for line in answer.json()["experiments"]]


@pytest.mark.usefixtures("real_stores")
def test_each_connection_has_its_own_experiments(client_of: Callable[[str], TestClient], team: ExperimentStore) -> None:
    client = client_of("op")
    fill(team, SINGLE, 2)
    query = {"name": "digits", "conn_id": "team", "before": "9"}
    assert names(client) == []
    assert names(client, conn_id="team") == ["digits"]
    assert client.get("/axtx/api/experiment", params={"name": "digits"}).status_code == 404
    for path in ("experiment", "trials", "curves", "analyses"):
        assert client.get(f"/axtx/api/{path}", params=query).status_code == 200, path


@pytest.mark.usefixtures("team")
def test_the_choice_is_of_the_connections_that_the_user_may_read(
    client_of: Callable[[str], TestClient], connections: Session
) -> None:
    connections.add(Connection(conn_id="warehouse", conn_type="postgres", host="h", password=PASSWORD))
    connections.commit()

    def stores(role: str) -> Any:
        return client_of(role).get("/axtx/api/stores").json()

    expected = {"stores": ["ax_default", "team"], "default": "ax_default", "warning": None}
    assert stores("op") == expected
    assert stores("viewer") == {**expected, "stores": ["ax_default"]}


@pytest.mark.usefixtures("real_stores", "team")
@pytest.mark.parametrize("path", ["api/experiments", "api/experiment", "api/curves", "api/analyses", "card"])
@pytest.mark.parametrize(("role", "conn_id"), [("op", "nothing"), ("op", "warehouse"), ("viewer", "team")])
def test_an_unknown_and_an_unreadable_connection_are_answered_alike(
    client_of: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch, path: str, role: str, conn_id: str
) -> None:
    define(monkeypatch, "warehouse", conn_type="postgres", host="h", schema="s", password=PASSWORD)
    query = {"conn_id": conn_id, "name": "digits", "position": "0"}
    answer = client_of(role).get(f"/axtx/{path}", params=query)
    detail = "There is no such connection of type ax, or you do not have the right to read it."
    assert (answer.status_code, answer.json()) == (404, {"detail": detail})


@pytest.mark.usefixtures("real_stores")
def test_the_error_of_an_unreachable_database_has_no_details(
    client_of: Callable[[str], TestClient], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {"host": "127.0.0.1", "port": 1, "login": "ax", "schema": "axtx"}
    extra = {"drivername": "postgresql+psycopg"}
    define(monkeypatch, "away", conn_type="ax", password=PASSWORD, extra=extra, **fields)
    detail = "The experiment store does not answer. The log of the API server says why."
    for _ in range(3):
        answer = client_of("op").get("/axtx/api/experiments", params={"conn_id": "away"})
        assert (answer.status_code, answer.json()) == (503, {"detail": detail})
    assert caplog.text.count("The page cannot show") == 1
    assert "127.0.0.1" in caplog.text
    assert PASSWORD not in caplog.text


@pytest.mark.usefixtures("real_stores")
def test_the_rights_on_dags_hold_in_every_store(client_of: Callable[[str], TestClient], team: ExperimentStore) -> None:
    fill(team, SINGLE, 1, dag_id="secret_dag")
    query = {"conn_id": "team", "name": "digits"}
    assert names(client_of("op"), conn_id="team") == ["digits"]
    assert names(client_of(NO_SECRETS), conn_id="team") == []
    assert client_of(NO_SECRETS).get("/axtx/api/experiment", params=query).status_code == 404


@pytest.mark.usefixtures("real_stores")
def test_a_dag_run_is_looked_for_in_every_store(
    client_of: Callable[[str], TestClient],
    team: ExperimentStore,
    connections: Session,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    define(monkeypatch, "broken", conn_type="ax", schema=str(tmp_path / "broken.db"))
    connections.add(Connection(conn_id="broken", conn_type="ax"))
    connections.commit()
    fill(team, SINGLE, 1)
    query = {"dag_id": DAG, "run_id": RUN}
    answer = client_of("op").get("/axtx/api/dag-runs", params=query).json()
    assert [(line["name"], line["conn_id"]) for line in answer["experiments"]] == [("digits", "team")]
    assert answer["unreadable"] == {
        "broken": "The experiment store cannot be read. The log of the API server says why."
    }
    # Only in stores whose connection the user may read.
    assert client_of("viewer").get("/axtx/api/dag-runs", params=query).json()["experiments"] == []


@pytest.mark.usefixtures("real_stores")
@pytest.mark.parametrize(
    ("database", "warns"), [("sqlite:////a.db", False), ("postgresql+psycopg://h/a", True), ("mysql://h/a", True)]
)
def test_an_undefined_default_connection_is_reported_on_a_server(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, database: str, warns: bool
) -> None:
    monkeypatch.setattr(embedded, "_warned", False)
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", database)
    shown = [client.get("/axtx/api/stores").json()["warning"] for _ in range(2)]
    assert shown == [EMBEDDED_STORE if warns else None] * 2
    assert caplog.text.count("ax_default is not defined") == int(warns)
    define(monkeypatch, "ax_default", conn_type="ax", schema="/tmp/experiments.db")
    assert client.get("/axtx/api/stores").json()["warning"] is None


@pytest.mark.usefixtures("real_stores")
def test_looking_at_the_page_creates_no_store(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    assert names(client) == []
    assert not (tmp_path / "airflow" / "axtx").exists()
