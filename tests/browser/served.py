"""The page on a server of its own, without Airflow around it: every request comes from one user."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import uvicorn
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.connection import Connection
from fastapi import FastAPI
from sqlalchemy.orm import Session

from airflow_provider_axtx.plugin.app import create_app
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews


@dataclass
class Served:
    """The page's address and its store.

    :param store_url: URL of the store.
    :param role: role of the user in Airflow's simple auth manager; may be changed between requests.
    """

    url: str
    store: ExperimentStore
    store_url: str
    role: str = "admin"


@contextmanager
def served_page(folder: Path, add_routes: Callable[[FastAPI], None] = lambda root: None) -> Iterator[Served]:
    """Serve the page with a new store in the folder.

    :param add_routes: adds routes that stand in for Airflow's own.
    """
    store_url = f"sqlite:///{folder / 'experiments.db'}"
    store = ExperimentStore(store_url)
    create_auth_manager()
    app = create_app(
        lambda conn_id: ExperimentViews(store_url), lambda conn_id: ExperimentStore(store_url, create=False)
    )
    connections = sa.create_engine("sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False})
    Connection.metadata.create_all(connections, [Connection.metadata.tables["connection"]])
    app.dependency_overrides[SessionDep.__metadata__[0].dependency] = lambda: Session(connections)
    root = FastAPI()
    root.mount("/axtx", app)
    add_routes(root)
    listening = socket.create_server(("127.0.0.1", 0))
    served = Served(f"http://127.0.0.1:{listening.getsockname()[1]}", store, store_url)
    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="vera", role=served.role)
    server = uvicorn.Server(uvicorn.Config(root, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield served
    finally:
        server.should_exit = True
        thread.join()
        purge_cached_app()
        connections.dispose()
