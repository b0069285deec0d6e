"""What a request of the page costs: counts of SQL statements and bytes, which no machine changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.plugin.material import SINGLE, fill

#: Statements of one request at most.
MOST_STATEMENTS = {"experiment": 18, "refresh": 15, "trials": 11, "curves": 10}


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Collects what is executed on any database from now on."""
    found: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("PRAGMA", "BEGIN")):
            found.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_a_request_executes_as_many_statements_for_a_long_experiment_as_for_a_short_one(
    client: TestClient, store: ExperimentStore, statements: list[str]
) -> None:
    counts: dict[int, dict[str, int]] = {}
    for size in (20, 50):
        name = fill(store, {**SINGLE, "name": f"of{size}"}, size, steps=2, open_trials=2)
        cursor = store.summary(name).last_activity_at + 1
        calls = {
            "experiment": {"limit": 15},
            "refresh": {"since": cursor, "curves": "accuracy"},
            "trials": {"before": size, "limit": 15},
            "curves": {},
        }
        counts[size] = {}
        for call, query in calls.items():
            statements.clear()
            path = "experiment" if call == "refresh" else call
            client.get(f"/axtx/api/{path}", params={"name": name, **query}).raise_for_status()
            counts[size][call] = len(statements)
    assert counts[20] == counts[50]
    assert {call: most for call, most in MOST_STATEMENTS.items() if counts[20][call] > most} == {}, counts[20]


def test_the_list_reads_an_experiment_again_only_when_it_has_changed(
    client: TestClient, store: ExperimentStore, statements: list[str]
) -> None:
    def count() -> int:
        statements.clear()
        client.get("/axtx/api/experiments").raise_for_status()
        return len(statements)

    for number in range(3):
        fill(store, {**SINGLE, "name": f"short{number}"}, 2, open_trials=1)
    count()
    few = count()
    for number in range(6):
        fill(store, {**SINGLE, "name": f"more{number}"}, 1)
    count()
    assert count() == few
    store.complete("short1", 1, status="FAILED", reason="x")
    assert count() == few + 2  # its trials and their results, of those that have changed


def test_a_refresh_is_small_and_an_unchanged_one_is_empty(client: TestClient, store: ExperimentStore) -> None:
    fill(store, SINGLE, 80, open_trials=2, steps=2)
    query = {"name": "digits", "since": store.summary("digits").last_activity_at + 1, "curves": "accuracy"}
    whole = client.get("/axtx/api/experiment", params={"name": "digits"})
    first = client.get("/axtx/api/experiment", params=query)
    assert len(first.content) < 5000 < 10 * 5000 < len(whole.content)
    again = client.get("/axtx/api/experiment", params=query, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, len(again.content)) == (304, 0)
