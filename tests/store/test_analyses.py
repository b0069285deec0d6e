"""Analysis cards in the store: the newest ones, as they were given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard
from airflow_provider_axtx.core.errors import ExperimentNotFoundError
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import experiment

LONG = "<table/>" * 20000
CARDS = [
    AnalysisCard("Summary", "Summary", "of 3", ("Overview", "Results"), "table", LONG, {"data": [[3.3e-12]]}),
    AnalysisCard("Slice", "Slice", "é\x00", (), "plotly", "<div/>", {"columns": [], "data": []}),
]


def test_the_newest_cards_are_kept(store: ExperimentStore) -> None:
    name, other = experiment(store), experiment(store, name="other")
    assert store.analyses(name) == []
    store.record_analyses(other, CARDS[:1])
    for _ in range(2):
        store.record_analyses(name, CARDS)
    found = store.analyses(name)
    assert all(card.created_at for card in found)
    assert [replace(card, created_at=None) for card in found] == [CARDS[0], replace(CARDS[1], subtitle="é\ufffd")]
    assert found[0].level == 2
    store.record_analyses(name, [])
    assert (store.analyses(name), len(store.analyses(other))) == ([], 1)


def test_an_explanation_stands_beside_the_cards_of_ax(store: ExperimentStore) -> None:
    name, other = experiment(store), experiment(store, name="other")
    assert (store.explanation(name), store.explained(name)) == ([], 0)
    charts = [
        AnalysisCard("summary", "Summary", "", (), EXPLANATION, "", {"completed": 5}),
        AnalysisCard("importance", "Importance", "", (), EXPLANATION, "", {"completed": 99}),
    ]
    store.record_analyses(name, CARDS)
    store.record_explanation(name, charts, [], "computed")
    store.record_explanation(other, [replace(charts[0], data={"completed": 7})], [], "computed")
    assert [card.name for card in store.explanation(name)] == ["summary", "importance"]
    assert [card.name for card in store.analyses(name)] == ["Summary", "Slice"]
    assert (store.explained(name), store.explained(other)) == (5, 7)
    store.record_explanation(name, [replace(charts[0], data={"completed": 6})], [], "computed")
    store.record_analyses(name, CARDS[:1])
    assert [card.data for card in store.explanation(name)] == [{"completed": 6}]
    assert (store.explained(name), len(store.analyses(name)), len(store.explanation(other))) == (6, 1, 1)


def test_an_unknown_experiment(store: ExperimentStore) -> None:
    for call in (lambda: store.record_analyses("gone", CARDS), lambda: store.analyses("gone")):
        with pytest.raises(ExperimentNotFoundError):
            call()
