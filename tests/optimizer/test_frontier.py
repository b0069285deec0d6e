"""The observed frontier: Ax's own, and with bounds on only some of the objectives, where Ax finds none."""

from __future__ import annotations

import pytest

from airflow_provider_axtx.core.errors import TrialNotFoundError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from tests.optimizer.frontier import observed_frontier

pytestmark = pytest.mark.filterwarnings("ignore")

#: (a, quality, cost, latency) of each trial; the first is the baseline. The last is dominated by the one before.
ROWS = [
    (0.1, 1.75, 0.42, 2.35),
    (0.2, 3.70, 1.14, 2.60),
    (0.3, 0.31, 0.04, 2.07),
    (0.4, 1.41, 0.34, 1.93),
    (0.5, 2.25, 0.50, 1.55),
    (0.6, 2.20, 0.60, 1.50),
]


def facts(*constraints: str, baseline: str = "COMPLETED") -> ExperimentSnapshot:
    spec = ExperimentSpec(
        name="frontier",
        parameters=[{"type": "range", "name": "a", "bounds": [0, 1], "parameter_type": "float"}],
        objective="quality, -cost",
        outcome_constraints=constraints,
        tracking_metrics=[] if any("latency" in text for text in constraints) else ["latency"],
    )
    trials, observations = [], []
    for i, (a, *values) in enumerate(ROWS):
        origin, name = ("baseline", "baseline") if i == 0 else ("attached", f"{i}_0")
        status = baseline if i == 0 else "COMPLETED"
        trials.append(TrialRecord(i, name, {"a": a}, status, origin=origin))
        if status == "COMPLETED":
            observations += [Observation(i, m, v) for m, v in zip(("quality", "cost", "latency"), values, strict=True)]
    return ExperimentSnapshot("frontier", "uid", spec.to_json(), None, 0, tuple(trials), tuple(observations))


def best(data: ExperimentSnapshot) -> list[int]:
    return [entry["trial_index"] for entry in optimizer.best(data)]


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ((), [0, 1, 2, 3, 4]),
        (("latency <= 1.05*baseline",), [0, 2, 3, 4]),
        (("latency <= 2",), [3, 4]),
        (("latency >= 1.05*baseline",), [1]),
    ],
)
def test_without_bounds_on_objectives_it_is_axs_own(constraints: tuple[str, ...], expected: list[int]) -> None:
    data = facts(*constraints)
    assert best(data) == expected == observed_frontier(data)


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        (("quality >= 1",), [0, 1, 3, 4]),
        (("quality >= 0.2*baseline",), [0, 1, 3, 4]),
        (("cost <= 0.45", "latency <= 1.05*baseline"), [0, 2, 3]),
        (("cost <= 0.45", "quality >= 1"), [0, 3]),
    ],
)
def test_bounds_on_some_of_the_objectives(constraints: tuple[str, ...], expected: list[int]) -> None:
    assert best(facts(*constraints)) == expected


def test_a_bound_by_a_baseline_without_a_value() -> None:
    with pytest.raises(TrialNotFoundError, match="let the baseline trial complete first"):
        best(facts("quality >= 0.2*baseline", baseline="RUNNING"))
