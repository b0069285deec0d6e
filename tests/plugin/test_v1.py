"""The REST interface: what it records, for whom, how often, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.plugin.conftest import INSTALLATION
from tests.plugin.material import SINGLE, fill
from tests.plugin.roles import NO_PLUGINS, NO_SECRETS

ROOT = "/axtx/v1/experiments/digits"
PARAMETERS = {"c": 1.0, "pixels": 8, "kernel": "rbf"}
#: Method, path below the experiment, body, and the action that is recorded.
CHANGES: dict[str, tuple[str, str, dict[str, Any] | None, Action]] = {
    "pause": ("PATCH", "", {"state": "pause", "reason": "why"}, Action.PAUSE),
    "resume": ("PATCH", "", {"state": "run"}, Action.RUN),
    "drain": ("PATCH", "", {"state": "drain"}, Action.DRAIN),
    "stop": ("PATCH", "", {"state": "stop"}, Action.STOP),
    "extend": ("PATCH", "", {"limits": {"max_trials": 90, "deadline": "2030-01-01T00:00:00+00:00"}}, Action.LIMITS),
    "tags": ("PATCH", "", {"tags": ["night", "ü"]}, Action.TAGS),
    "archive": ("PATCH", "", {"archived": True}, Action.ARCHIVE),
    "note": ("POST", "/notes", {"text": "The learning rate is too high."}, Action.NOTE),
    "queue": ("POST", "/trials", {"parameters": PARAMETERS}, Action.QUEUE_TRIAL),
    "stop a trial": ("POST", "/trials/17/stop", {"reason": "diverges"}, Action.STOP_TRIAL),
    "retry a trial": ("POST", "/trials/16/retry", {}, Action.RETRY_TRIAL),
    "the definition": ("PATCH", "/definition", {"parameters": {"c": {"frozen_value": 2.0}}}, Action.CHANGE_DEFINITION),
    "explain": ("POST", "/explanation", {}, Action.ANALYZE),
    "delete": ("DELETE", "", None, Action.DELETE),
}


@pytest.fixture
def filled(store: ExperimentStore) -> ExperimentStore:
    """An experiment whose trial 16 has failed and whose trial 17 runs."""
    fill(store, SINGLE, 18, open_trials=1)
    return store


def send(client: TestClient, method: str, path: str, body: Any = None, request_id: str = "id", **headers: str) -> Any:
    headers = {"Idempotency-Key": request_id, **headers}
    return client.request(method, f"{ROOT}{path}", json=body, headers=headers)


@pytest.mark.parametrize("name", CHANGES)
def test_an_editor_records_a_change_once(
    client_of: Callable[[str], TestClient], filled: ExperimentStore, name: str
) -> None:
    method, path, body, action = CHANGES[name]
    client = client_of("user")
    if action == Action.DELETE:
        refused = send(client, method, path, request_id="early")
        assert (refused.status_code, "trial 17 (RUNNING)" in refused.json()["detail"]) == (409, True)
        filled.finish_attempt(filled.attempts("digits")[-1], "FAILED", "")
        filled.complete("digits", 17, status="FAILED")
    first, again = (send(client, method, path, body) for _ in range(2))
    assert (first.status_code, again.json()) == (202, first.json())
    (change,) = filled.changes("digits")
    assert (change.action, change.requested_by, change.via) == (action, "someone", "page")
    shown = client.get(f"{ROOT}/changes").json()["changes"]
    assert shown == [first.json()["changes"][0] if "changes" in first.json() else first.json()]


@pytest.mark.parametrize("name", CHANGES)
def test_a_viewer_records_nothing(client_of: Callable[[str], TestClient], filled: ExperimentStore, name: str) -> None:
    method, path, body, _ = CHANGES[name]
    answer = send(client_of("viewer"), method, path, body)
    assert (answer.status_code, "right to edit" in answer.json()["detail"]) == (403, True)
    assert filled.changes("digits") == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_user_of_another_dag_is_told_that_there_is_nothing(
    client_of: Callable[[str], TestClient], store: ExperimentStore, name: str
) -> None:
    fill(store, SINGLE, 18, dag_id="secret_dag", open_trials=1)
    method, path, body, _ = CHANGES[name]
    hidden = send(client_of(NO_SECRETS), method, path, body)
    unknown = client_of(NO_SECRETS).request(
        method, f"{ROOT.replace('digits', 'nothing')}{path}", json=body, headers={"Idempotency-Key": "id"}
    )
    assert (hidden.status_code, hidden.content) == (404, unknown.content)
    assert store.changes("digits") == []


@pytest.mark.parametrize("name", CHANGES)
def test_nobody_and_a_user_who_may_not_view_plugins_are_refused(
    app: FastAPI, client_of: Callable[[str], TestClient], filled: ExperimentStore, name: str
) -> None:
    method, path, body, _ = CHANGES[name]
    assert send(TestClient(app), method, path, body).status_code == 401
    assert send(client_of(NO_PLUGINS), method, path, body).status_code == 403
    assert filled.changes("digits") == []


def test_an_experiment_without_a_dag_is_changed_by_who_may_edit_the_connection(
    client_of: Callable[[str], TestClient], store: ExperimentStore
) -> None:
    store.create("digits", SINGLE)
    assert send(client_of("user"), "PATCH", "", {"state": "pause"}).status_code == 404
    assert send(client_of("op"), "PATCH", "", {"state": "pause"}).status_code == 202


def test_all_dags_of_an_experiment_count(client_of: Callable[[str], TestClient], store: ExperimentStore) -> None:
    created = TaskIdentity("secret_dag", "run", "create", installation=INSTALLATION)
    store.create("digits", SINGLE, created_by=created)
    assert send(client_of(NO_SECRETS), "PATCH", "", {"state": "pause"}).status_code == 404
    assert send(client_of("user"), "PATCH", "", {"state": "pause"}).status_code == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Idempotency-Key": ""}, 422),
        ({"Idempotency-Key": "x" * 81}, 422),
        ({"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json; charset=utf-8"}, 202),
    ],
)
def test_what_a_page_of_another_origin_may_send_is_refused(
    client_of: Callable[[str], TestClient], filled: ExperimentStore, headers: dict[str, str], status: int
) -> None:
    given = {"Idempotency-Key": "id", "Content-Type": "application/json", **headers}
    answer = client_of("user").patch(ROOT, content=b'{"state": "stop"}', headers=given)
    assert answer.status_code == status
    assert len(filled.changes("digits")) == (status == 202)


def test_a_form_without_the_header_is_refused(client_of: Callable[[str], TestClient], filled: ExperimentStore) -> None:
    assert client_of("user").post(f"{ROOT}/notes", json={"text": "a"}).status_code == 422
    assert client_of("user").delete(f"{ROOT}/changes/0").status_code == 422
    assert filled.changes("digits") == []


REFUSED: dict[str, tuple[str, str, Any, int, str]] = {
    "a value out of bounds": ("POST", "/trials", {"parameters": {**PARAMETERS, "c": 1e9}}, 422, "c"),
    "a missing parameter": ("POST", "/trials", {"parameters": {"c": 1.0}}, 422, "pixels"),
    "an unknown limit": ("PATCH", "", {"limits": {"max_trails": 3}}, 422, "max_trials"),
    "a limit of 0": ("PATCH", "", {"limits": {"max_trials": 0}}, 422, "max_trials"),
    "a deadline without a zone": ("PATCH", "", {"limits": {"deadline": "2030-01-01"}}, 422, "time zone"),
    "no limit": ("PATCH", "", {"limits": {}}, 422, "at least one"),
    "nothing": ("PATCH", "", {}, 422, "Nothing is to be changed"),
    "an unknown state": ("PATCH", "", {"state": "kill"}, 422, "state"),
    "an unknown field": ("PATCH", "", {"stat": "stop"}, 422, "stat"),
    "an empty tag": ("PATCH", "", {"tags": [" "]}, 422, "tag"),
    "too many tags": ("PATCH", "", {"tags": [str(i) for i in range(21)]}, 422, "at most 20"),
    "an empty note": ("POST", "/notes", {"text": "  "}, 422, "note"),
    "a long note": ("POST", "/notes", {"text": "x" * 10_001}, 422, "10000"),
    "a trial that has ended": ("POST", "/trials/0/stop", {}, 409, "COMPLETED"),
    "a trial that did not fail": ("POST", "/trials/0/retry", {}, 409, "FAILED"),
    "an unknown trial": ("POST", "/trials/99/stop", {}, 404, "no trial 99"),
    "a huge number": ("POST", f"/trials/{2**40}/stop", {}, 422, "index"),
    "another scaling": (
        *("PATCH", "/definition", {"parameters": {"c": {"scaling": "linear"}}}, 422, "parameters.c.scaling"),
    ),
    "the same definition": ("PATCH", "/definition", {}, 422, "changes nothing"),
    "a change that is not there": ("DELETE", "/changes/5", None, 422, "no change 5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_with_the_reason(
    client_of: Callable[[str], TestClient], filled: ExperimentStore, name: str
) -> None:
    method, path, body, status, text = REFUSED[name]
    answer = send(client_of("user"), method, path, body)
    assert (answer.status_code, text in answer.text) == (status, True), answer.text
    assert filled.changes("digits") == []


def test_several_changes_of_one_request_are_recorded_once_each(
    client_of: Callable[[str], TestClient], filled: ExperimentStore
) -> None:
    client, body = client_of("user"), {"state": "run", "limits": {"max_trials": 30}, "tags": ["a"], "archived": False}
    for _ in range(2):
        assert send(client, "PATCH", "", body).status_code == 202
    assert [change.action for change in filled.changes("digits")] == ["limits", "tags", "unarchive", "run"]
    assert send(client, "PATCH", "", {**body, "tags": [""]}, "other").status_code == 422
    assert len(filled.changes("digits")) == 4


@pytest.mark.parametrize(
    "first", [{"state": "run"}, {"state": "run", "tags": ["a"]}, {"limits": {"max_trials": 3}, "tags": []}]
)
@pytest.mark.parametrize("then", [{"state": "drain"}, {"tags": ["a"], "limits": {"max_trials": 3}, "state": "run"}])
def test_the_id_of_a_request_is_refused_for_one_with_other_fields(
    client_of: Callable[[str], TestClient], filled: ExperimentStore, first: dict[str, Any], then: dict[str, Any]
) -> None:
    client = client_of("user")
    assert send(client, "PATCH", "", first).status_code == 202
    recorded = filled.changes("digits")
    answer = send(client, "PATCH", "", then)
    assert (answer.status_code, "was used for another change" in answer.json()["detail"]) == (422, True)
    assert filled.changes("digits") == recorded
    assert send(client, "PATCH", "", first).status_code == 202
    assert send(client, "POST", "/notes", {"text": "too low"}).status_code == 422
    assert filled.changes("digits") == recorded
    assert send(client, "PATCH", "", then, "other").status_code == 202
    # A client's own number sign makes another id.
    assert send(client, "POST", "/notes", {"text": "too low"}, "other#2").status_code == 202
    assert send(client, "PATCH", "", then, "other").status_code == 202


@pytest.mark.parametrize("name", CHANGES)
def test_a_repeated_request_is_answered_as_before_when_the_experiment_is_another_one_by_now(
    client_of: Callable[[str], TestClient], filled: ExperimentStore, name: str
) -> None:
    method, path, body, action = CHANGES[name]
    client = client_of("user")
    if action == Action.DELETE:
        filled.finish_attempt(filled.attempts("digits")[-1], "FAILED", "")
        filled.complete("digits", 17, status="FAILED")
    first = send(client, method, path, body)
    assert first.status_code == 202
    if action != Action.DELETE:
        filled.finish_attempt(filled.attempts("digits")[-1], "FAILED", "")
        for index in (16, 17):
            filled.complete("digits", index, status="ABANDONED", overwrite=True)
    narrower = {**SINGLE, "parameters": [{**SINGLE["parameters"][0], "bounds": [10, 20]}, *SINGLE["parameters"][1:]]}
    new = NewChange(Action.CHANGE_DEFINITION, "narrower", "DAG nightly", "dag", arguments={"changes": {}})
    version = filled.snapshot("digits").version
    filled.change_definition("digits", new, narrower, differences=["c"], expected_version=version)
    again = send(client, method, path, body)
    assert again.status_code == 202, again.text
    (recorded,) = again.json().get("changes", [again.json()])
    assert recorded["position"] == 0
    assert [change.action for change in filled.changes("digits")] == [action, Action.CHANGE_DEFINITION]


def test_the_id_of_a_queued_trial_is_refused_for_other_parameters(
    client_of: Callable[[str], TestClient], filled: ExperimentStore
) -> None:
    client = client_of("user")
    assert send(client, "POST", "/trials", {"parameters": PARAMETERS}).status_code == 202
    for parameters in ({**PARAMETERS, "pixels": 9}, {**PARAMETERS, "pixels": 1e9}, {}):
        answer = send(client, "POST", "/trials", {"parameters": parameters})
        assert (answer.status_code, "was used for another change" in answer.json()["detail"]) == (422, True)


def test_a_queued_trial_is_withdrawn(client_of: Callable[[str], TestClient], filled: ExperimentStore) -> None:
    client = client_of("user")
    queued = send(client, "POST", "/trials", {"parameters": PARAMETERS}).json()
    assert queued["is_open"]
    assert send(client, "DELETE", f"/changes/{queued['position']}", request_id="2").status_code == 202
    assert send(client, "DELETE", f"/changes/{queued['position']}", request_id="3").status_code == 409
    assert [change["outcome"] for change in client.get(f"{ROOT}/changes").json()["changes"]] == [
        "withdrawn by someone",
        None,
    ]


def test_the_experiment_says_what_is_wanted_and_who_may_change_it(
    client_of: Callable[[str], TestClient], filled: ExperimentStore
) -> None:
    before = client_of("user").get(ROOT).json()
    assert (before["status"], before["may_edit"], before["steering"]["state"]) == ("running", True, "run")
    assert client_of("viewer").get(ROOT).json()["may_edit"] is False
    send(client_of("user"), "PATCH", "", {"state": "pause", "limits": {"max_trials": 99}, "tags": ["night"]})
    after = client_of("viewer").get(ROOT).json()
    assert (after["status"], after["tags"], after["planned_trials"]) == ("pausing", ["night"], 99)
    assert after["steering"]["asked"]["requested_by"] == "someone"
    filled.complete("digits", 17, status="FAILED", reason="exit code 1")
    assert client_of("viewer").get(ROOT).json()["status"] == "paused"


def test_an_archived_experiment_is_listed_only_when_asked_for(
    client_of: Callable[[str], TestClient], filled: ExperimentStore
) -> None:
    client = client_of("user")

    def listed(archived: bool) -> int:
        total: int = client.get("/axtx/v1/experiments", params={"archived": archived}).json()["total"]
        return total

    assert (listed(False), listed(True)) == (1, 0)
    send(client, "PATCH", "", {"archived": True})
    assert (listed(False), listed(True)) == (0, 1)


def test_a_client_with_a_token_is_told_apart_from_the_page(
    client_of: Callable[[str], TestClient], filled: ExperimentStore
) -> None:
    send(client_of("user"), "PATCH", "", {"state": "pause"}, Authorization="Bearer x")
    assert filled.changes("digits")[0].via == "rest"


def test_the_openapi_document_describes_every_versioned_route(client: TestClient, application: FastAPI) -> None:
    document = client.get("/axtx/v1/openapi.json").json()
    found = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    routes: list[Any] = list(application.routes)
    assert found == {
        (route.path, method)
        for route in routes
        for method in route.methods
        if route.path.startswith("/v1/") and route.include_in_schema
    }
    assert document["servers"] == [{"url": "/axtx"}]
    header = document["paths"]["/v1/experiments/{name}"]["patch"]["parameters"]
    assert "Idempotency-Key" in {parameter["name"] for parameter in header}


def test_a_changed_definition_is_sent_again_and_the_explanation_is_data(
    client_of: Callable[[str], TestClient], filled: ExperimentStore
) -> None:
    client = client_of("user")
    first = client.get("/axtx/api/experiment", params={"name": "digits"}).json()
    since = {"name": "digits", "since": first["cursor"]}
    assert "spec" not in client.get("/axtx/api/experiment", params=since).json()
    new = NewChange(Action.CHANGE_DEFINITION, "a", "DAG nightly", "dag", arguments={"changes": {}, "given": {}})
    changed = {**first["spec"], "objective": "-accuracy"}
    version = filled.snapshot("digits").version
    filled.change_definition("digits", new, changed, differences=["objective: ..."], expected_version=version)
    filled.record_explanation(
        "digits", [AnalysisCard("summary", "", "", (), EXPLANATION, "", {"completed": 3})], [], ""
    )
    after = client.get("/axtx/api/experiment", params=since).json()
    assert (after["spec"]["objective"], after["objective"][0]["minimize"]) == ("-accuracy", True)
    (change,) = after["changes"]
    assert (change["trial_index"], change["outcome"]) == (18, "from trial 18 on")
    assert change["arguments"] == {"changes": {}, "differences": ["objective: ..."]}
    assert (after["analysed_at"], after["explained_at"] is None) == (None, False)
    shown = client.get(f"{ROOT}/explanation").json()
    assert shown == {"charts": [{"name": "summary", "title": "", "completed": 3}]}
    assert client.get(f"{ROOT}/analyses").json() == {"cards": []}
