"""Trials that users attach by hand, as objects, as JSON and as rows of a table."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.attachment import Attachment, read_rows, read_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec

X = {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}
SPEC = ExperimentSpec(name="e", objective="loss", parameters=[X])
#: A space whose parameters have the names of the fields.
ODD = ExperimentSpec(name="odd", objective="loss", parameters=[{**X, "name": "parameters"}, {**X, "name": "baseline"}])


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"x": 0.5}, [Attachment({"x": 0.5})]),
        ([{"x": 0}, {"parameters": {"x": 1}}], [Attachment({"x": 0.0}), Attachment({"x": 1.0})]),
        (({"parameters": {"x": 1}, "baseline": True},), [Attachment({"x": 1.0}, None, True)]),
        ({"parameters": {"x": 1}, "results": {"loss": "2"}}, [Attachment({"x": 1.0}, {"loss": (2.0, None)})]),
        ({"parameters": {"x": 1}, "results": {}}, [Attachment({"x": 1.0})]),
        ('[{"x": 0.25}]', [Attachment({"x": 0.25})]),
        ([], []),
    ],
    ids=str,
)
def test_objects_and_json(given: object, read: list[Attachment]) -> None:
    assert read_trials(SPEC, given) == read


def test_parameters_may_have_the_names_of_the_fields() -> None:
    both = {"parameters": 0.1, "baseline": 0.2}
    assert read_trials(ODD, both) == [Attachment(both)]
    assert read_rows(ODD, [both]) == [Attachment(both)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("[{]", "trials is not valid JSON"),
        (3, "trials must be a list of objects, not 3"),
        ([{"x": 0}, 3], r"trials must be a list of objects, not \[\{'x': 0\}, 3\]"),
        ({"parameters": {"x": 0}, "result": {}}, r"trials\[0\].result: unknown key"),
        ([{"x": 0}, {"parameters": [0]}], r"trials\[1\].parameters must be an object, not \[0\]"),
        ({"parameters": {"x": 0}, "results": [1]}, r"trials\[0\].results must be an object, not \[1\]"),
        ({"parameters": {"x": 0}, "baseline": "yes"}, r"trials\[0\].baseline must be true or false, not 'yes'"),
        ({"parameters": {"x": 2}}, r"trials\[0\].parameters.x: is out of bounds"),
        ({"parameters": {"x": 0}, "results": {"loss": "n/a"}}, r"trials\[0\].results: metric 'loss'"),
        ([{"parameters": {"x": x}, "baseline": True} for x in (0, 1)], "Two trials are marked as the baseline"),
    ],
)
def test_what_is_refused(given: object, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        read_trials(SPEC, given)


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"x": "0.5"}, Attachment({"x": 0.5})),
        ({"x": 0.5, "loss": None, "baseline": None}, Attachment({"x": 0.5})),
        ({"x": 0.5, "loss": "", "baseline": ""}, Attachment({"x": 0.5})),
        ({"x": 0, "loss": 0}, Attachment({"x": 0.0}, {"loss": (0.0, None)})),
        ({"x": 1, "loss/mean": "2", "loss/sem": "0.5"}, Attachment({"x": 1.0}, {"loss": (2.0, 0.5)})),
        ({"x": 1, "loss": 2, "baseline": " Yes"}, Attachment({"x": 1.0}, {"loss": (2.0, None)}, True)),
        ({"x": 1, "baseline": True}, Attachment({"x": 1.0}, None, True)),
        ({"x": 1, "baseline": "0"}, Attachment({"x": 1.0})),
    ],
    ids=str,
)
def test_rows_of_a_table(row: dict[str, Any], read: Attachment) -> None:
    assert read_rows(SPEC, [row]) == [read]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"x": 0}, {"x": 0, "los": 1}], r"table\[1\]: column 'los' names neither .* did you mean 'loss'\?"),
        ([{"x": 0, "baseline": "maybe"}], r"table\[0\].baseline must be true or false, not 'maybe'"),
        ([{"x": ""}], r"table\[0\].parameters.x: is missing"),
        ([{"x": 0, "baseline": 1}, {"x": 1, "baseline": "true"}], "Two trials are marked as the baseline"),
    ],
)
def test_what_is_refused_of_a_table(rows: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        read_rows(SPEC, rows)
