"""Every route of the page refuses requests without a login (401) and users without the right (403)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.output_line import with_line
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.plugin.conftest import INSTALLATION
from tests.plugin.material import DAG, RUN, SINGLE, fill
from tests.plugin.roles import NO_LOGS, NO_PLUGINS, NO_SECRETS

QUERY = {"name": "digits", "dag_id": DAG, "run_id": RUN, "position": "0", "before": "9"}
CARD = AnalysisCard("Summary", "Summary <b>", "All trials", (), "table", "<table></table>", {})


def paths(application: FastAPI, method: str = "GET") -> list[str]:
    """Return the path of every route, with its parameters filled in; the application has no other routes."""
    assert all(isinstance(route, APIRoute) for route in application.routes)
    routes = [route for route in application.routes if isinstance(route, APIRoute) and method in route.methods]
    names = {True: "digits", False: "app.js"}
    return [f"/axtx{r.path.format(name=names['/v1/' in r.path], index=0, position=0)}" for r in routes]


def test_these_are_the_routes(application: FastAPI) -> None:
    assert set(paths(application)) == {
        "/axtx/",
        "/axtx/static/app.js",
        "/axtx/api/stores",
        "/axtx/api/experiments",
        "/axtx/api/dag-runs",
        "/axtx/api/experiment",
        "/axtx/api/trials",
        "/axtx/api/curves",
        "/axtx/api/compare",
        "/axtx/api/analyses",
        "/axtx/api/explanation",
        "/axtx/card",
        "/axtx/v1/stores",
        "/axtx/v1/experiments",
        "/axtx/v1/dag-runs",
        "/axtx/v1/openapi.json",
        "/axtx/v1/experiments/digits",
        "/axtx/v1/experiments/digits/curves",
        "/axtx/v1/experiments/digits/analyses",
        "/axtx/v1/experiments/digits/changes",
        "/axtx/v1/experiments/digits/explanation",
    }
    assert {method: set(paths(application, method)) for method in ("POST", "PATCH", "PUT", "DELETE")} == {
        "POST": {
            "/axtx/v1/experiments/digits/explanation",
            "/axtx/v1/experiments/digits/notes",
            "/axtx/v1/experiments/digits/trials",
            "/axtx/v1/experiments/digits/trials/0/stop",
            "/axtx/v1/experiments/digits/trials/0/retry",
        },
        "PATCH": {"/axtx/v1/experiments/digits", "/axtx/v1/experiments/digits/definition"},
        "PUT": set(),
        "DELETE": {"/axtx/v1/experiments/digits", "/axtx/v1/experiments/digits/changes/0"},
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


@pytest.mark.parametrize("path", ["api/experiment", "api/trials", "api/curves", "api/dag-runs", "api/analyses", "card"])
def test_a_hidden_experiment_is_answered_as_one_that_does_not_exist(
    client_of: Callable[[str], TestClient], store: ExperimentStore, path: str
) -> None:
    fill(store, SINGLE, 1, dag_id="secret_dag")
    store.record_analyses("digits", [CARD])
    hidden = {**QUERY, "dag_id": "secret_dag"}
    unknown = {**hidden, "name": "nothing", "dag_id": "nothing"}
    client = client_of(NO_SECRETS)
    answers = [client.get(f"/axtx/{path}", params=query) for query in (hidden, unknown)]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].content == answers[1].content
    assert b"digits" not in answers[0].content
    assert client_of("viewer").get(f"/axtx/{path}", params=hidden).status_code == 200
    assert client_of("viewer").get(f"/axtx/{path}", params=hidden).content != answers[0].content


def names(client: TestClient) -> tuple[set[str], int]:
    """Return the names on the list, and the number of experiments."""
    answer = client.get("/axtx/api/experiments").json()
    return {line["name"] for line in answer["experiments"]}, answer["total"]


def test_the_list_leaves_out_hidden_experiments(client_of: Callable[[str], TestClient], store: ExperimentStore) -> None:
    fill(store, SINGLE, 1, dag_id="secret_dag")
    fill(store, {**SINGLE, "name": "open"}, 1)
    assert names(client_of(NO_SECRETS)) == ({"open"}, 1)
    assert names(client_of("viewer")) == ({"digits", "open"}, 2)


def run_by_another(store: ExperimentStore, name: str, index: int, dag_id: str) -> None:
    """Record another attempt of a trial, by a task of another DAG."""
    identity = TaskIdentity(dag_id, "run", "submit")
    store.begin_attempt(name, index, scheduler="s", identity=identity, tracker_root="/r", reopen_reason="again")


def test_an_experiment_of_two_dags_requires_the_right_on_both(
    client_of: Callable[[str], TestClient], store: ExperimentStore
) -> None:
    fill(store, SINGLE, 17)
    run_by_another(store, "digits", 16, "secret_dag")
    for path in ("api/experiment", "api/trials", "api/curves"):
        assert client_of(NO_SECRETS).get(f"/axtx/{path}", params=QUERY).status_code == 404
        assert client_of("viewer").get(f"/axtx/{path}", params=QUERY).status_code == 200
    # The run of the readable DAG has worked on it, and still must not show it.
    assert client_of(NO_SECRETS).get("/axtx/api/dag-runs", params=QUERY).json()["experiments"] == []
    assert names(client_of(NO_SECRETS)) == (set(), 0)


def test_an_experiment_belongs_to_its_creator_before_its_first_trial(
    client_of: Callable[[str], TestClient], store: ExperimentStore
) -> None:
    store.create("digits", SINGLE, created_by=TaskIdentity("secret_dag", RUN, "create", installation=INSTALLATION))
    assert client_of("viewer").get("/axtx/api/experiment", params=QUERY).status_code == 200
    assert client_of(NO_SECRETS).get("/axtx/api/experiment", params=QUERY).status_code == 404
    assert (names(client_of("viewer")), names(client_of(NO_SECRETS))) == (({"digits"}, 1), (set(), 0))


def test_a_dag_of_another_airflow_with_the_same_name_gives_no_right(
    client_of: Callable[[str], TestClient], store: ExperimentStore
) -> None:
    store.create("digits", SINGLE, created_by=TaskIdentity(DAG, RUN, "create", installation="elsewhere"))
    assert client_of("viewer").get("/axtx/api/experiment", params=QUERY).status_code == 404
    assert client_of("op").get("/axtx/api/experiment", params=QUERY).status_code == 200
    assert (names(client_of("op")), names(client_of("viewer"))) == (({"digits"}, 1), (set(), 0))


def test_an_experiment_made_outside_airflow_requires_the_right_on_the_connection(
    client_of: Callable[[str], TestClient], store: ExperimentStore
) -> None:
    store.create("digits", SINGLE)
    fill(store, {**SINGLE, "name": "notebook"}, 2, dag_id="")
    for role, status, listed in (("viewer", 404, set()), ("op", 200, {"digits", "notebook"})):
        client = client_of(role)
        assert names(client) == (listed, len(listed))
        for name in ("digits", "notebook"):
            assert client.get("/axtx/api/experiment", params={"name": name}).status_code == status


def test_what_an_app_wrote_is_told_to_those_who_may_read_the_logs(
    client_of: Callable[[str], TestClient], store: ExperimentStore
) -> None:
    fill(store, SINGLE, 2, open_trials=1)
    attempt = store.latest_attempt("digits", 1)
    assert attempt is not None
    store.end_attempt(attempt, AppObservation("FAILED", with_line("exit code 1", ["password is hunter2"])))
    for path in ("api/experiment", "api/trials", "v1/experiments/digits"):
        hidden, shown = (client_of(role).get(f"/axtx/{path}", params=QUERY) for role in (NO_LOGS, "viewer"))
        assert (b"exit code 1" in hidden.content, b"hunter2" in hidden.content) == (True, False), path
        assert shown.content.count(b"exit code 1; its last line: password is hunter2") == 2, path
