"""Standard errors that only some observations of a metric have: Ax's models take none of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation
from airflow_provider_axtx.optimizer import engine, kept
from tests.optimizer.test_engine import facts_of, with_proposal

pytestmark = pytest.mark.filterwarnings("ignore")  # Ax and BoTorch warn of every numerical retry
GENERATION = {"initialization_budget": 3, "random_seed": 1, "initialization_random_seed": 1}


@pytest.fixture(autouse=True)
def no_client_kept() -> Iterator[None]:
    kept._kept.clear()
    yield
    kept._kept.clear()


def played(errors: list[float | None], *, metric: str = "loss", keeps: bool = True) -> ExperimentSnapshot:
    """Return an experiment in which each trial has reported with the given standard error."""
    facts = facts_of(generation=GENERATION)
    for index, sem in enumerate(errors):
        if not keeps:
            kept._kept.clear()
        facts = with_proposal(facts, engine.propose(facts, 1))
        parameters = facts.trials[index].parameters
        loss = (parameters["x"] - 0.3) ** 2 + parameters["y"]
        ended = replace(facts.trials[index], status="COMPLETED")
        seen = [Observation(index, "loss", loss, None), Observation(index, metric, math.sqrt(loss + 1), sem)]
        facts = replace(
            facts,
            trials=(*facts.trials[:index], ended),
            observations=(*facts.observations, *(seen if metric != "loss" else [replace(seen[0], sem=sem)])),
        )
    return facts


def parameters(facts: ExperimentSnapshot) -> list[dict[str, Any]]:
    return [dict(trial.parameters) for trial in facts.trials]


@pytest.mark.parametrize("metric", ["loss", "undeclared"])
def test_a_model_proposes_although_some_errors_are_unknown(metric: str) -> None:
    mixed = played([0.1, None, 0.1, 0.1, None], metric=metric)
    assert mixed.trials[-1].generation_node == "MBM"
    assert parameters(mixed) == parameters(played([None] * 5, metric=metric))


def test_a_kept_client_proposes_what_a_rebuilt_one_does_when_an_unknown_error_comes_later() -> None:
    errors = [0.1, 0.1, 0.1, None, 0.1, None]
    assert parameters(played(errors)) == parameters(played(errors, keeps=False))


def test_known_errors_of_all_are_used() -> None:
    assert parameters(played([0.9, 0.9, 0.9, 0.9])) != parameters(played([None] * 4))


def test_a_curve_that_no_model_sees_takes_no_errors_away() -> None:
    facts = played([0.9, 0.9, 0.9])
    curve = tuple(Observation(index, "loss", 1.0, None, step=1.0) for index in range(3))
    with_curve = replace(facts, observations=(*facts.observations, *curve))
    [one], [other] = (engine.propose(given, 1).trials for given in (facts, with_curve))
    assert dict(one.parameters) == dict(other.parameters)


def test_a_client_for_users_holds_each_error_as_it_was_observed() -> None:
    facts = played([0.1, None, 0.2])
    data = engine.client(facts)._experiment.lookup_data().df
    assert list(data.sort_values("trial_index")["sem"]) == pytest.approx([0.1, math.nan, 0.2], nan_ok=True)
