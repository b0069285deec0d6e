"""What an error out of Ax means: a user has to change something, or Airflow tries the task again."""

from __future__ import annotations

from typing import Any

import pytest
from ax.api.client import Client
from ax.exceptions.core import UnsupportedError, UserInputError
from ax.exceptions.generation_strategy import GenerationStrategyMisconfiguredException
from botorch.exceptions.errors import InfeasibilityError, ModelFittingError
from linear_operator.utils.errors import NotPSDError
from numpy.linalg import LinAlgError

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer import engine
from airflow_provider_axtx.spec.experiment import ExperimentSpec

SPEC = ExperimentSpec.load(
    {
        "name": "e",
        "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
        "objective": "-loss",
    }
)
FOR_THE_USER = [
    UserInputError("the bounds"),
    UnsupportedError("not with this objective"),
    GenerationStrategyMisconfiguredException("a node without an end"),
    InfeasibilityError("nothing is feasible"),
]
#: Numerical code fails by these, with the data of one moment.
PASSING = [
    RuntimeError("CUDA error"),
    LinAlgError("Singular matrix"),
    NotPSDError("Matrix not positive definite after repeatedly adding jitter up to 1.0e-04."),
    ModelFittingError("All attempts to fit the model have failed."),
    ValueError("array must not contain infs or NaNs"),
]


def raise_from_ax(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(self: Client, **_: Any) -> Any:
        raise error

    monkeypatch.setattr(Client, "get_next_trials", fail)


@pytest.mark.parametrize("error", FOR_THE_USER, ids=lambda error: type(error).__name__)
def test_what_a_user_has_to_change_is_final(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    raise_from_ax(monkeypatch, error)
    with pytest.raises(InvalidInputError, match=str(error)):
        engine.propose(ExperimentSnapshot("e", "uid", SPEC.to_json(), None, 0), 1)


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_anything_else_passes_as_it_is(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    raise_from_ax(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        engine.propose(ExperimentSnapshot("e", "uid", SPEC.to_json(), None, 0), 1)
    assert caught.value is error


@pytest.mark.parametrize("error", PASSING[:3], ids=lambda error: type(error).__name__)
def test_a_definition_is_not_refused_for_an_error_of_numerical_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    raise_from_ax(monkeypatch, error)
    with pytest.raises(type(error)):
        engine.validate(SPEC)
