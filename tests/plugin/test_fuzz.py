"""The page's routes with generated queries, as four users: no error of the server, and nothing that is not theirs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from airflow.models.connection import Connection
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.errors import StoreNotFoundError
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews
from tests.plugin.material import RUN, SINGLE, fill
from tests.plugin.roles import NO_PLUGINS, NO_SECRETS

#: Is in the description, the analysis card and the trials of every experiment that one user may not read.
SECRET = "zugunruhe"
ANONYMOUS = ""
HEADERS = {"Idempotency-Key": "id", "Content-Type": "application/json"}
ANSWERS = {200, 202, 304, 401, 403, 404, 405, 409, 415, 422, 503}
#: Experiments that the user of one DAG may not read.
FOREIGN = ("hidden", "both", "outside")
#: Users who may read every DAG.
MAY_SEE_SECRETS = ("admin", "viewer")
#: Values that lead into the store; the others are made from the routes' own schema.
KNOWN: dict[str, list[str]] = {
    "name": ["mine", "both", "hidden", "broken", "outside", "Mine", "mine "],
    "conn_id": ["ax_default", "team", "away", "missing"],
    "dag_id": ["my_dag", "secret_dag"],
    "run_id": [RUN],
    "search": ["", "m", "hidden", "%", "_", "\x00"],
    "since": ["0", "1e308", "nan", "-inf", "1e400"],
    "position": ["0", "1", "-1", "99999999999999999999"],
    "limit": ["1", "200"],
    "offset": ["0", "1", "2147483648"],
}


@pytest.fixture
def stores(url: str, tmp_path: Path, application: FastAPI, connections: Session) -> dict[str, str]:
    """Stores with experiments of several DAGs; what the user of one DAG may not read contains ``SECRET``."""
    secret = {**SINGLE, "description": SECRET}
    default = ExperimentStore(url)
    fill(default, {**SINGLE, "name": "mine"}, 3, dag_id="my_dag", steps=2, open_trials=1)
    fill(default, {**secret, "name": "hidden"}, 20, dag_id="secret_dag", steps=2)
    fill(default, {**secret, "name": "both"}, 2, dag_id="my_dag")
    attempt = default.latest_attempt("hidden", 0)
    assert attempt is not None
    default.create("outside", {**secret, "name": "outside"})
    fill(default, {**SINGLE, "name": "broken", "objective": "()"}, 2, dag_id="my_dag")
    default.record_analyses("hidden", [AnalysisCard("S", SECRET, SECRET, (), "table", SECRET, {})])
    default.record_analyses("mine", [AnalysisCard("S", "S", "", (), "table", "<p>", {})])
    default.complete("both", 0, status="FAILED", reason=SECRET, overwrite=True)
    default.begin_attempt("both", 0, scheduler="s", identity=attempt.identity, tracker_root="/r", reopen_reason=SECRET)
    (tmp_path / "folder").mkdir()
    team = f"sqlite:///{tmp_path / 'folder' / 'team.db'}"
    fill(ExperimentStore(team), {**secret, "name": "hidden"}, 2, dag_id="secret_dag")
    found = {"ax_default": url, "team": team, "away": f"sqlite:///{tmp_path / 'folder'}", "missing": f"{team}x"}
    connections.add_all(Connection(conn_id=conn_id, conn_type="ax") for conn_id in found)
    connections.commit()

    def opened(conn_id: str) -> ExperimentViews:
        if conn_id not in found:
            raise StoreNotFoundError(f"no {conn_id}", fix="-")
        return ExperimentViews(found[conn_id])

    application.state.opened = opened
    application.state.opened_to_write = lambda conn_id: ExperimentStore(found[conn_id], create=False)
    return found


#: Method, path, query, body.
Sent = tuple[str, str, dict[str, Any], Any]


def requests_of(application: FastAPI) -> st.SearchStrategy[Sent]:
    """Return a strategy for requests: as the routes' schema wants them, against it, and with known values."""
    schema = schemathesis.openapi.from_dict(application.openapi())
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    cases = st.one_of(schema.as_strategy(generation_mode=mode) for mode in modes)
    known = {name: st.sampled_from(values) for name, values in KNOWN.items()}
    optional = st.fixed_dictionaries({}, optional=known)

    def sent(one: tuple[Any, dict[str, Any]]) -> Sent:
        case, given_query = one
        body = None if isinstance(case.body, schemathesis.core.NotSet) else case.body
        return case.method, case.formatted_path, {**(case.query or {}), **given_query}, body

    odd = st.tuples(cases, optional).map(sent)
    found = st.fixed_dictionaries({"name": known["name"], "position": st.just("0")})
    paths = [
        f"/{name}" for name in ("api/experiment", "api/trials", "api/curves", "api/analyses", "api/experiments", "card")
    ]
    changes = [f"/v1/experiments/{name}" for name in ("mine", "hidden", "both", "outside")]
    patches = st.fixed_dictionaries({"state": st.sampled_from(["run", "pause", "kill"])})
    return st.one_of(
        odd,
        st.tuples(st.just("GET"), st.sampled_from(paths), found, st.none()),
        st.tuples(st.just("PATCH"), st.sampled_from(changes), st.just({}), patches),
    )


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("role", ["admin", "viewer", NO_SECRETS, NO_PLUGINS, ANONYMOUS])
@pytest.mark.parametrize("examples", [50, pytest.param(300, marks=pytest.mark.thorough)])
def test_no_query_fails_or_shows_what_is_not_theirs(
    app: FastAPI, application: FastAPI, client_of: Callable[[str], TestClient], role: str, examples: int
) -> None:
    client = client_of(role) if role else TestClient(app)
    statuses: Counter[int] = Counter()
    secrets = 0

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(requests_of(application))
    # What is chosen at random depends on the modules that the process has loaded. These are always among them.
    @example(("GET", "/api/experiment", {"name": "hidden", "position": "0"}, None))
    @example(("PATCH", "/v1/experiments/mine", {}, {"state": "pause"}))
    def check(request: Sent) -> None:
        nonlocal secrets
        method, path, query, body = request
        # A body against the schema may have bytes in it.
        content = None if body is None else json.dumps(body, default=repr)
        answer = client.request(method, f"/axtx{path}", params=query, content=content, headers=HEADERS)
        statuses[answer.status_code] += 1
        secrets += SECRET in answer.text
        assert answer.status_code in ANSWERS, (method, path, query, body, answer.text)
        if answer.status_code == 503:
            assert set(answer.json()) == {"detail"}
        assert SECRET not in answer.text or role in MAY_SEE_SECRETS, (path, query)
        if role == NO_SECRETS and answer.status_code == 200 and path.startswith(("/api", "/v1")):
            # Not even that they exist; what was asked for may be repeated.
            told = [name for name in FOREIGN if f'"{name}"' in answer.text and name not in query.values()]
            assert not told, (path, query)

    check()
    expected = {NO_PLUGINS: {403}, ANONYMOUS: {401}}.get(role)
    if expected:
        assert set(statuses) <= expected | {404, 405}, statuses  # no such route
    else:
        assert {200, 404, 422} <= set(statuses), statuses
        assert (202 in statuses) == (role != "viewer"), statuses
    assert (secrets > 0) == (role in MAY_SEE_SECRETS)
