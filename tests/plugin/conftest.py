"""The page's application with a store of its own, and users whose rights one of Airflow's auth managers decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.connection import Connection
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from airflow_provider_axtx.plugin.app import create_app
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews

#: The role of the user who sends the request; replaces Airflow's login in these tests.
ROLE = "x-test-role"
#: Identity of the Airflow deployment that shows the page.
INSTALLATION = "here"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'experiments.db'}"


@pytest.fixture
def store(url: str) -> ExperimentStore:
    return ExperimentStore(url)


@pytest.fixture
def app(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """The application below its prefix, without a logged-in user."""
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "tests.plugin.roles.RolesAuthManager")
    monkeypatch.setenv("AIRFLOW__AXTX__INSTALLATION", INSTALLATION)
    create_auth_manager()
    root = FastAPI()
    root.mount(
        "/axtx", create_app(lambda conn_id: ExperimentViews(url), lambda conn_id: ExperimentStore(url, create=False))
    )
    yield root
    purge_cached_app()


@pytest.fixture
def application(app: FastAPI) -> FastAPI:
    """The mounted application itself."""
    mounted: FastAPI = app.routes[-1].app  # type: ignore[attr-defined]
    return mounted


@pytest.fixture(autouse=True)
def connections(application: FastAPI) -> Iterator[Session]:
    """Airflow's table of connections, empty, as the application's requests see it."""
    launcher = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    Connection.metadata.create_all(launcher, [Connection.metadata.tables["connection"]])
    with Session(launcher) as session:
        application.dependency_overrides[SessionDep.__metadata__[0].dependency] = lambda: session
        yield session
    launcher.dispose()


@pytest.fixture
def client_of(app: FastAPI, application: FastAPI) -> Callable[[str], TestClient]:
    """Return a client whose requests come from a user of the role."""

    def user(request: Request) -> SimpleAuthManagerUser:
        return SimpleAuthManagerUser(username="someone", role=request.headers[ROLE])

    def client(role: str) -> TestClient:
        application.dependency_overrides[get_user] = user
        return TestClient(app, headers={ROLE: role})

    return client


@pytest.fixture
def client(client_of: Callable[[str], TestClient]) -> TestClient:
    return client_of("viewer")
