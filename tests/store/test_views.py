"""The read-only views, on every database."""

from __future__ import annotations

import pytest

from airflow_provider_axtx.core.errors import ExperimentNotFoundError
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.views import ExperimentViews
from tests.store.material import IDENTITY, add, begin, experiment


@pytest.fixture
def views(store_url: str) -> ExperimentViews:
    return ExperimentViews(store_url)


@pytest.fixture
def store(store_url: str) -> ExperimentStore:
    return ExperimentStore(store_url)


def test_an_experiment_as_a_whole(store: ExperimentStore, views: ExperimentViews) -> None:
    experiment(store, 3)
    for index in (1, 2):
        begin(store, "digits", index)
    steps = [Observation(1, "loss", 0.5, None, 1.0), Observation(1, "loss", 0.25, 0.1)]
    store.complete("digits", 1, status="COMPLETED", observations=steps)
    store.plan("digits", 9)
    view = views.experiment("digits")
    assert [(t.record.index, len(t.attempts), len(t.observations)) for t in view.trials] == [
        (0, 0, 0),
        (1, 1, 1),
        (2, 1, 0),
    ]
    assert (view.completed, view.baseline, view.has_curves) == ([(1, {"loss": 0.25})], None, True)
    assert (view.line.dag_ids, view.line.summary.planned_trials) == ((IDENTITY.dag_id,), 9)
    assert views.curves("digits") == steps[:1]
    assert views.completed("digits") == (view.completed, None)
    assert views.line("digits") == view.line


def test_only_what_is_open_or_has_changed_is_read_again(store: ExperimentStore, views: ExperimentViews) -> None:
    experiment(store, 3)
    for index in range(2):
        store.complete("digits", index, status="FAILED", reason="x")
    since = views.experiment("digits").trials[1].updated_at
    assert [trial.record.index for trial in views.experiment("digits", since).trials] == [1, 2]
    assert [trial.record.index for trial in views.experiment("digits", since + 1).trials] == [2]


def test_the_latest_activity_comes_first(store: ExperimentStore, views: ExperimentViews) -> None:
    for name in ("a", "b", "c"):
        experiment(store, 1, name)
    add(store, "b")
    store.complete("a", 0, status="FAILED", reason="x")
    assert [line.summary.name for line in views.lines()] == ["a", "b", "c"]


def test_the_experiments_of_a_dag_run(store: ExperimentStore, views: ExperimentViews) -> None:
    experiment(store, 1, "asked")
    experiment(store, 0, "ran")
    add(store, "ran", task="another/run/generate/-1")
    begin(store, "ran")
    assert views.experiments_of("dag", "run") == []  # a DAG run is known by the key that names.dag_run_key makes
    assert views.experiments_of(IDENTITY.dag_id, IDENTITY.run_id) == ["ran"]


def test_what_does_not_exist(views: ExperimentViews) -> None:
    for read in (views.line, views.experiment, views.curves):
        with pytest.raises(ExperimentNotFoundError, match="nothing"):
            read("nothing")
