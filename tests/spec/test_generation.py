"""How trials are generated: Ax's names and defaults, and what Ax could not carry out."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.generation import GenerationSpec, check_factory


def generated(**generation: Any) -> GenerationSpec:
    x = {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}
    return ExperimentSpec(name="g", objective="-loss", parameters=[x], generation=generation).generation


def test_the_defaults_are_a_contract() -> None:
    assert generated() == GenerationSpec(
        factory=None,
        method="fast",
        initialization_budget=None,
        initialization_random_seed=None,
        initialize_with_center=True,
        use_existing_trials_for_initialization=True,
        min_observed_initialization_trials=None,
        allow_exceeding_initialization_budget=False,
        torch_device=None,
        simplify_parameter_changes=False,
        random_seed=None,
        max_parallelism=None,
    )


def test_seeds_are_those_of_torch_and_numpy() -> None:
    given = generated(random_seed=2**32 - 1, initialization_random_seed=0)
    assert (given.random_seed, given.initialization_random_seed) == (2**32 - 1, 0)


@pytest.mark.parametrize(
    ("generation", "refused"),
    [
        ({"min_observed_initialization_trials": 5}, False),
        ({"min_observed_initialization_trials": 6}, True),
        ({"min_observed_initialization_trials": 6, "initialization_budget": 6}, False),
        ({"min_observed_initialization_trials": 7, "initialization_budget": 6}, True),
        ({"min_observed_initialization_trials": 6, "allow_exceeding_initialization_budget": True}, False),
    ],
)
def test_the_model_can_start(generation: dict[str, Any], refused: bool) -> None:
    if not refused:
        assert generated(**generation).min_observed_initialization_trials
        return
    with pytest.raises(InvalidInputError, match=r"so the model could never start(?s:.*)lower it"):
        generated(**generation)


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda", "cuda:1"])
def test_torch_devices(device: str) -> None:
    assert generated(torch_device=device).torch_device == device
    with pytest.raises(InvalidInputError, match="is not a torch device"):
        generated(torch_device=device + ":")


@pytest.mark.parametrize(
    ("factory", "allowed", "refused"),
    [
        (None, [], False),
        ("pkg.mod:make", None, False),
        ("pkg.mod:make", ["other:*", "pkg.*:make"], False),
        ("pkg.mod:make", ["pkg.mod:Make"], True),
        ("pkg.mod:make", [], True),
    ],
)
def test_a_factory_is_one_of_those_that_are_allowed(
    factory: str | None, allowed: list[str] | None, refused: bool
) -> None:
    if not refused:
        check_factory(factory, allowed)
        return
    with pytest.raises(InvalidInputError, match=r"factory 'pkg.mod:make' is not allowed(?s:.*)allowed_factories=\["):
        check_factory(factory, allowed)


def test_a_factory_may_stand_beside_what_it_does_not_decide_also_in_other_objects() -> None:
    # Equal, and not the same object.
    with pytest.raises(InvalidInputError, match="torch_device: has no effect together with factory"):
        generated(factory="pkg.mod:make", torch_device="cpu")
    assert generated(factory="pkg.mod:make", method="".join(["fa", "st"]), random_seed=1).factory == "pkg.mod:make"
