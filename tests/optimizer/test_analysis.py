"""Ax's analyses from an experiment's facts: every card as HTML and data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer.analysis import analyse

pytestmark = pytest.mark.filterwarnings("ignore")

SPEC: dict[str, Any] = {
    "name": "analysed",
    "parameters": [
        {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"},
        {"type": "choice", "name": "kind", "values": ["<script>alert(1)</script>", "b"], "parameter_type": "str",
         "is_ordered": False},
    ],
    "objective": "-loss",
    "generation": {"random_seed": 1, "initialization_random_seed": 1},
}  # fmt: skip


def facts(trials: int) -> ExperimentSnapshot:
    kinds = SPEC["parameters"][1]["values"]
    points = [{"x": 0.1 + i / 10, "kind": kinds[i % 2]} for i in range(trials)]
    return ExperimentSnapshot(
        name="analysed",
        uid="uid",
        spec=SPEC,
        generator_state=None,
        version=0,
        trials=tuple(TrialRecord(i, f"{i}_0", point, "COMPLETED") for i, point in enumerate(points)),
        observations=tuple(Observation(i, "loss", (p["x"] - 0.4) ** 2) for i, p in enumerate(points)),
    )


def test_cards_are_html_and_data() -> None:
    cards = analyse(facts(7))
    assert {"plotly", "table"} <= {card.kind for card in cards}
    summary = next(card for card in cards if card.name == "Summary")
    column = summary.data["columns"].index("loss")
    assert sorted(row[column] for row in summary.data["data"])[0] == pytest.approx(0.0, abs=1e-12)
    assert summary.level == len(summary.section) >= 1
    plot = next(card for card in cards if card.kind == "plotly")
    assert "Plotly.newPlot" in plot.html
    assert json.loads(json.dumps(plot.data))["data"]
    for card in cards:
        assert card.title
        assert "<script>alert" not in card.html, card.title


def test_an_experiment_without_trials_has_cards_that_say_so() -> None:
    cards = analyse(facts(0))
    assert cards
    assert not [card for card in cards if card.kind == "plotly"]
