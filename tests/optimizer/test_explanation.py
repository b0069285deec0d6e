"""The numbers of the charts equal those of Ax's own analyses of the same data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from ax.adapter.base import Adapter
from ax.analysis.plotly.cross_validation import CrossValidationPlot
from ax.analysis.plotly.sensitivity import SensitivityAnalysisPlot
from ax.analysis.plotly.surface.contour import ContourPlot
from ax.analysis.plotly.surface.slice import SlicePlot
from ax.utils.common.random import with_rng_seed
from scipy.stats import qmc

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer.explanation import explain
from airflow_provider_axtx.optimizer.rebuild import Rebuilt, rebuild

pytestmark = pytest.mark.filterwarnings("ignore")

BOUNDS = {"x1": (-5.0, 10.0), "x2": (0.0, 15.0), "dead1": (0.0, 1.0), "dead2": (0.0, 1.0)}
SPEC: dict[str, Any] = {
    "name": "branin",
    "parameters": [
        {"type": "range", "name": name, "bounds": list(bounds), "parameter_type": "float"}
        for name, bounds in BOUNDS.items()
    ],
    "objective": "-branin",
    "generation": {"random_seed": 1, "initialization_budget": 5},
}


def branin(x1: float, x2: float) -> float:
    valley = x2 - 5.1 / (4 * math.pi**2) * x1**2 + 5 / math.pi * x1 - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x1) + 10


def facts(trials: int) -> ExperimentSnapshot:
    lower, upper = zip(*BOUNDS.values(), strict=True)
    rows = qmc.scale(qmc.Sobol(len(BOUNDS), seed=0).random(32), lower, upper)[:trials]
    points = [dict(zip(BOUNDS, map(float, row), strict=True)) for row in rows]
    return ExperimentSnapshot(
        name="branin",
        uid="uid",
        spec=SPEC,
        generator_state=None,
        version=0,
        trials=tuple(TrialRecord(i, f"{i}_0", dict(point), "COMPLETED") for i, point in enumerate(points)),
        observations=tuple(Observation(i, "branin", branin(p["x1"], p["x2"]), 0.0) for i, p in enumerate(points)),
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cards() -> list[AnalysisCard]:
    # As the page gets them.
    return [AnalysisCard(**{**vars(card), "data": json.loads(json.dumps(card.data))}) for card in explain(facts(24))]


@pytest.fixture(scope="module")
def of_ax() -> tuple[Rebuilt, Adapter]:
    rebuilt = rebuild(facts(24))
    with with_rng_seed(1):
        adapter = rebuilt.strategy.fit(rebuilt.experiment)
    assert adapter is not None
    return rebuilt, adapter


def named(cards: list[AnalysisCard], name: str) -> list[dict[str, Any]]:
    return [card.data for card in cards if card.name == name]


def test_importance_is_that_of_ax_and_dead_parameters_have_none(
    cards: list[AnalysisCard], of_ax: tuple[Rebuilt, Adapter]
) -> None:
    (shown,) = named(cards, "importance")
    card = SensitivityAnalysisPlot("branin", top_k=None).compute(experiment=of_ax[0].experiment, adapter=of_ax[1])
    theirs = dict(zip(card.df["parameter_name"], card.df["sensitivity"], strict=True))
    ours = dict(zip(shown["parameters"], shown["shares"], strict=True))
    assert ours == pytest.approx(theirs, abs=0.02)  # Ax estimates them by random draws
    assert set(shown["parameters"][:2]) == {"x1", "x2"}
    assert sum(abs(ours[name]) for name in ("dead1", "dead2")) < 0.05


def test_slices_and_contours_are_those_of_ax(cards: list[AnalysisCard], of_ax: tuple[Rebuilt, Adapter]) -> None:
    rebuilt, adapter = of_ax
    given = {"experiment": rebuilt.experiment, "generation_strategy": rebuilt.strategy, "adapter": adapter}
    assert [one["parameter"] for one in named(cards, "slice")[:2]] == named(cards, "importance")[0]["parameters"][:2]
    shown = next(one for one in named(cards, "slice") if one["parameter"] == "x1")
    df = SlicePlot("x1", "branin").compute(**given).df.set_index("x1")
    theirs = df.loc[shown["values"]]
    np.testing.assert_allclose(shown["mean"], theirs["branin_mean"], rtol=1e-9)
    np.testing.assert_allclose(shown["sem"], theirs["branin_sem"], rtol=1e-6)
    assert len(named(cards, "contour")) == 6
    contour = next(one for one in named(cards, "contour") if {one["x"], one["y"]} == {"x1", "x2"})
    df = ContourPlot(contour["x"], contour["y"], "branin").compute(**given).df
    ours = {
        (round(x, 9), round(y, 9)): (contour["mean"][j][i], contour["sem"][j][i])
        for j, y in enumerate(contour["ys"])
        for i, x in enumerate(contour["xs"])
    }
    rows = df[[contour["x"], contour["y"], "branin_mean", "branin_sem"]].itertuples(index=False)
    compared = [(ours[at], (mean, sem)) for x, y, mean, sem in rows if (at := (round(x, 9), round(y, 9))) in ours]
    assert len(compared) >= 100
    np.testing.assert_allclose([one for one, _ in compared], [other for _, other in compared], rtol=1e-6)


def test_cross_validation_is_that_of_ax(cards: list[AnalysisCard], of_ax: tuple[Rebuilt, Adapter]) -> None:
    (shown,) = named(cards, "cross_validation")
    plot = CrossValidationPlot(["branin"], untransform=True)
    chart, summary = plot.compute(experiment=of_ax[0].experiment, adapter=of_ax[1]).children
    assert shown["trials"] == [int(name.partition("_")[0]) for name in chart.df["arm_name"]]
    for ours, theirs in (("observed",) * 2, ("predicted",) * 2, ("predicted_reach", "predicted_95_ci")):
        np.testing.assert_allclose(shown[ours], chart.df[theirs], rtol=1e-6)
    assert shown["r2"] == pytest.approx(summary.df["R²"][0])


def test_the_first_card_says_what_the_charts_rest_on(cards: list[AnalysisCard]) -> None:
    assert cards[0].data == {"completed": 24, "problems": []}
    (best,) = named(cards, "best")
    assert best["observed"][0]["trial_index"] == best["predicted"][0]["trial_index"]
    (card,) = explain(facts(2))
    assert card.data["completed"] == 2
    assert "no model yet: 2 trials have completed" in card.data["problems"][0]
