"""Every route of the page refuses requests without a login (401) and users without the right (403)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.plugin.material import DAG, RUN, SINGLE, fill
from tests.plugin.roles import NO_PLUGINS, NO_SECRETS

QUERY = {"name": "digits", "dag_id": DAG, "run_id": RUN, "position": "0"}
CARD = AnalysisCard("Summary", "Summary <b>", "All trials", (), "table", "<table></table>", {})


def paths(application: FastAPI) -> list[str]:
    """Return the path of every route, with its parameters filled in; the application has no other routes."""
    assert all(isinstance(route, APIRoute) and route.methods == {"GET"} for route in application.routes)
    return [f"/axtx{route.path.format(name='app.js')}" for route in application.routes if isinstance(route, APIRoute)]


def test_these_are_the_routes(application: FastAPI) -> None:
    assert set(paths(application)) == {
        "/axtx/",
        "/axtx/static/app.js",
        "/axtx/api/stores",
        "/axtx/api/experiments",
        "/axtx/api/dag-runs",
        "/axtx/api/experiment",
        "/axtx/api/curves",
        "/axtx/api/analyses",
        "/axtx/card",
    }


def test_every_route_requires_a_login(app: FastAPI, application: FastAPI, store: ExperimentStore) -> None:
    fill(store, SINGLE, 1)
    anonymous = TestClient(app)
    assert {path: anonymous.get(path, params=QUERY).status_code for path in paths(application)} == dict.fromkeys(
        paths(application), 401
    )


def test_a_user_without_the_right_is_refused_everywhere(
    client_of: Callable[[str], TestClient], application: FastAPI, store: ExperimentStore
) -> None:
    fill(store, SINGLE, 1)
    client = client_of(NO_PLUGINS)
    assert {client.get(path, params=QUERY).status_code for path in paths(application)} == {403}


def test_a_user_with_the_right_is_answered_everywhere(
    client: TestClient, application: FastAPI, store: ExperimentStore
) -> None:
    fill(store, SINGLE, 1)
    store.record_analyses("digits", [CARD])
    assert {client.get(path, params=QUERY).status_code for path in paths(application)} == {200}


@pytest.mark.parametrize("path", ["api/experiment", "api/curves", "api/dag-runs", "api/analyses", "card"])
def test_what_a_hidden_dag_has_run_is_refused(
    client_of: Callable[[str], TestClient], store: ExperimentStore, path: str
) -> None:
    fill(store, SINGLE, 1, dag_id="secret_dag")
    store.record_analyses("digits", [CARD])
    query = {**QUERY, "dag_id": "secret_dag"}
    assert client_of(NO_SECRETS).get(f"/axtx/{path}", params=query).status_code == 403
    assert client_of("viewer").get(f"/axtx/{path}", params=query).status_code == 200


def test_the_list_leaves_out_what_only_hidden_dags_have_run(
    client_of: Callable[[str], TestClient], store: ExperimentStore
) -> None:
    fill(store, SINGLE, 1, dag_id="secret_dag")
    fill(store, {**SINGLE, "name": "open"}, 1)
    store.create("untouched", {**SINGLE, "name": "untouched"})

    def names(role: str) -> tuple[set[str], int]:
        answer = client_of(role).get("/axtx/api/experiments").json()
        return {line["name"] for line in answer["experiments"]}, answer["total"]

    assert names(NO_SECRETS) == ({"open", "untouched"}, 2)
    assert names("viewer") == ({"digits", "open", "untouched"}, 3)
