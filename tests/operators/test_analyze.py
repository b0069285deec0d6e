"""Storing Ax's analyses from a task."""

from __future__ import annotations

from airflow_provider_axtx.operators.ax import (
    AxAnalyzeOperator,
    AxAttachTrialsOperator,
    AxCreateExperimentOperator,
)
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.operators.conftest import BOOTH, Execute


def test_the_cards_are_in_the_store(execute: Execute, store: ExperimentStore) -> None:
    execute(AxCreateExperimentOperator(task_id="create", experiment=BOOTH))
    rows = [{"x1": float(i), "x2": 3.0 - i, "booth_eval": 10.0 * i} for i in range(3)]
    execute(AxAttachTrialsOperator(task_id="attach", experiment_name="booth", table=rows))
    answer = execute(AxAnalyzeOperator(task_id="analyze", experiment_name="booth"))
    assert answer == [
        {"name": card.name, "title": card.title} for card in (*store.explanation("booth"), *store.analyses("booth"))
    ]
    assert "Summary" in {card["name"] for card in answer}
