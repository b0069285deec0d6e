"""Search spaces in annotations, and functions that run in another process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel

from airflow_provider_axtx.core.definition_file import read_definition
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.function_source import packed, reference_of, source_of, unpacked
from airflow_provider_axtx.core.search_space import Choice, Range, Report, read_function
from airflow_provider_axtx.spec.experiment import ExperimentSpec


def train(
    lr: Annotated[float, Range(1e-5, 1e-1, log=True)],
    depth: Annotated[int, Range(1, 9, step=2)],
    kernel: Literal["rbf", "poly"],
    mode: Annotated[str, Choice("a", "b")],
    layers: Annotated[int, Choice(1, 2, 4, ordered=True)],
    report: Report,
    epochs: int = 3,
    fixed: str = "x",
) -> dict[str, float]:
    """Train."""
    import math as m

    values = [lr * depth for _ in range(epochs)]
    return {"loss": m.fsum(values)}


def test_annotations_are_the_search_space() -> None:
    tuned = read_function(train, {"fixed": "y"})
    spec = ExperimentSpec.load({"name": "e", "objective": "-loss", "parameters": tuned.parameters})
    assert [p.name for p in spec.parameters] == ["lr", "depth", "kernel", "mode", "layers"]
    assert tuned.parameters[0] == {
        "type": "range",
        "name": "lr",
        "parameter_type": "float",
        "bounds": [1e-5, 1e-1],
        "scaling": "log",
    }
    assert tuned.parameters[1]["step_size"] == 2
    assert tuned.parameters[2]["values"] == ["rbf", "poly"]
    assert tuned.parameters[4]["is_ordered"] is True
    assert tuned.report == "report"


class Kernel(StrEnum):
    RBF = "rbf"
    POLY = "poly"


class Solver(str, Enum):  # noqa: UP042 - str(Solver.ADAM) is "Solver.ADAM"
    ADAM = "adam"
    SGD = "sgd"


def optional(
    lr: Annotated[float, Range(0.0, 1.0)] | None = None,
    depth: Annotated[int | None, Range(1, 9)] = None,
    kernel: Literal["rbf", "poly"] | None = None,
    report: Report | None = None,
) -> float:
    return lr or 0.0


def test_a_parameter_may_be_none_where_the_function_is_called_without_airflow() -> None:
    tuned = read_function(optional, {})
    assert [(one["name"], one["parameter_type"]) for one in tuned.parameters] == [
        ("lr", "float"),
        ("depth", "int"),
        ("kernel", "str"),
    ]
    assert tuned.report == "report"


@pytest.mark.parametrize(
    ("hint", "values"),
    [
        (Annotated[str, Choice(Kernel.RBF, Kernel.POLY)], ["rbf", "poly"]),
        (Annotated[str, Choice(Solver.ADAM, Solver.SGD)], ["adam", "sgd"]),
        (Literal[Solver.ADAM, Solver.SGD], ["adam", "sgd"]),
    ],
)
def test_the_values_of_an_enumeration_of_texts_are_its_texts(hint: Any, values: list[str]) -> None:
    def fit(choice: Any) -> float:
        return 0.0

    fit.__annotations__["choice"] = hint
    tuned = read_function(fit, {})
    spec = ExperimentSpec.load({"name": "e", "objective": "-loss", "parameters": tuned.parameters})
    assert spec.to_json()["parameters"][0]["values"] == values


@dataclass
class Config:
    lr: Annotated[float, Range(1e-5, 1e-1, log=True)]
    kernel: Literal["rbf", "poly"]
    folds: int = 5


class Model(BaseModel):
    lr: Annotated[float, Range(1e-5, 1e-1, log=True)]
    kernel: Literal["rbf", "poly"] = "rbf"
    folds: int = 5


@dataclass
class Plain:
    folds: int = 5


@pytest.mark.parametrize("config", [Config, Model])
def test_a_class_is_a_search_space(config: type) -> None:
    read = read_definition({"name": "e", "objective": "-loss", "parameters": config})
    assert [(p.name, p.type) for p in ExperimentSpec.load(read).parameters] == [("lr", "range"), ("kernel", "choice")]


def test_a_class_without_a_range_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Plain tunes nothing"):
        read_definition({"parameters": Plain})


def test_an_argument_of_the_call_is_not_tuned() -> None:
    assert [p["name"] for p in read_function(train, {"lr": 0.1, "mode": "a"}).parameters] == [
        "depth",
        "kernel",
        "layers",
    ]


def unannotated(x: float, y: Annotated[float, Range(0, 1)]) -> float:
    return x + y


def nothing_to_tune(x: float = 1.0) -> float:
    return x


def text_range(x: Annotated[str, Range(0, 1)]) -> float:
    return float(x)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (unannotated, "x of unannotated has neither a range nor a value"),
        (nothing_to_tune, "nothing_to_tune tunes nothing"),
        (text_range, "x has a Range and is annotated as str"),
    ],
)
def test_what_cannot_be_tuned_is_named(function: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        read_function(function, {})
    assert said in str(raised.value)


def test_a_source_stands_alone() -> None:
    found = source_of(train)
    assert found["name"] == "train"
    assert found["source"].startswith("def train(")
    assert unpacked(packed(found)) == found
    assert "{" not in packed(found)


def uses_module(x: Annotated[float, Range(0, 1)]) -> float:
    return math.sin(x)


def default_of_module(x: Any = Range) -> Any:
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (uses_module, "it uses math from outside"),
        (default_of_module, "does not stand alone: NameError"),
        (lambda x: x, "not an ordinary function"),
        (len, "its source is not known"),
    ],
)
def test_a_source_that_does_not_stand_alone_is_refused(function: Any, said: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        source_of(function)
    assert said in str(raised.value)


def test_a_closure_is_refused() -> None:
    offset = 3

    def shifted(x: Annotated[float, Range(0, 1)]) -> float:
        return x + offset

    with pytest.raises(InvalidInputError, match="it uses offset from outside"):
        source_of(shifted)
    with pytest.raises(InvalidInputError, match="cannot be imported by another process"):
        reference_of(shifted)


def test_a_function_of_a_module_is_referenced() -> None:
    assert reference_of(train) == {"module": train.__module__, "name": "train"}
