"""Experiments side by side: their courses, their definitions, and which of them a user sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from airflow_provider_axtx.plugin.compared import progress
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import Course, Spent
from tests.plugin.material import SEVERAL, SINGLE, fill
from tests.plugin.roles import NO_SECRETS


def compare(client: TestClient, *names: str) -> Any:
    answer = client.get("/axtx/api/compare", params={"name": list(names)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_best_value_over_trials_time_and_resources() -> None:
    """Trial 1 ends first, a failed attempt costs as well, and the last point is kept although nothing improved."""
    course = Course(100.0, {1: 110.0, 0: 120.0, 2: 130.0, 3: 140.0}, [Spent(105, 3600, 0), Spent(120, 1800, 7200)])
    values = {1: 5.0, 0: 3.0, 2: 4.0}
    assert progress(course, values, minimize=True) == [
        (1, 10.0, 1.0, 0.0, 5.0),
        (2, 20.0, 1.5, 2.0, 3.0),
        (4, 40.0, 1.5, 2.0, 3.0),
    ]
    assert progress(course, values, minimize=False) == [(1, 10.0, 1.0, 0.0, 5.0), (4, 40.0, 1.5, 2.0, 5.0)]
    assert progress(course, {}, minimize=True) == []


def test_experiments_are_answered_in_the_order_asked_for(client: TestClient, store: ExperimentStore) -> None:
    for name, spec in (("first", SINGLE), ("second", SEVERAL)):
        fill(store, {**spec, "name": name}, 20)
    found = compare(client, "second", "first", "second", "nothing")
    assert [one["name"] for one in found["experiments"]] == ["second", "first"]
    assert found["missing"] == ["nothing"]
    several, single = found["experiments"]
    assert (several["best"], several["progress"]) == (None, [])
    best = store.trial("first", single["best"]["trial_index"])
    assert single["best"]["parameters"] == best.parameters
    assert single["spec"]["name"] == "first"
    trials, seconds, *_hours, value = single["progress"][-1]
    assert (trials, value) == (19, single["best"]["value"])
    assert 0 < seconds <= single["seconds"]


def test_a_hidden_experiment_is_missing(client_of: Callable[[str], TestClient], store: ExperimentStore) -> None:
    fill(store, SINGLE, 1, dag_id="secret_dag")
    fill(store, {**SINGLE, "name": "open"}, 1)
    found = compare(client_of(NO_SECRETS), "open", "digits", "unknown")
    assert ([one["name"] for one in found["experiments"]], found["missing"]) == (["open"], ["digits", "unknown"])


@pytest.mark.parametrize(("dag_id", "names"), [("one", ["b", "a"]), ("other", ["c"]), ("nothing", [])])
def test_the_experiments_of_a_dag_are_listed_the_latest_first(
    client: TestClient, store: ExperimentStore, dag_id: str, names: list[str]
) -> None:
    for name, dag in (("a", "one"), ("b", "one"), ("c", "other")):
        fill(store, {**SINGLE, "name": name}, 1, dag_id=dag)
    found = client.get("/axtx/api/experiments", params={"dag_id": dag_id}).json()
    assert [line["name"] for line in found["experiments"]] == names
