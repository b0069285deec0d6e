"""Stored definitions are read in one way everywhere, also when a newer version of this package has written them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_axtx
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.spec.experiment import ExperimentSpec

PACKAGE = Path(airflow_provider_axtx.__file__).parent
#: The modules that read what people write; every other one reads what the store holds.
READ_BY_LOAD = {
    "operators/_definition.py",
    "operators/base.py",
    "spec/changes.py",
    "spec/convert/__init__.py",
    "spec/partial.py",
}
KNOWN: dict[str, Any] = {
    "name": "e",
    "parameters": [{"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}],
    "objective": "-loss",
    "generation": {"method": "fast"},
}


@pytest.mark.parametrize(
    "newer",
    [
        {"quantum": True},
        {"parameters": [{**KNOWN["parameters"][0], "unit": "kg"}]},
        {"generation": {"method": "fast", "qubits": 3}},
        {"name": "a name/that a newer version allows"},
        {"objective": "-loss", "tracking_metrics": ["loss"]},
    ],
)
def test_what_a_newer_version_wrote_is_read_without_what_is_not_known(newer: dict[str, Any]) -> None:
    read = ExperimentSpec.from_store({**KNOWN, **newer})
    assert read.objective == "-loss"
    assert read.parameters[0].name == "x"


@pytest.mark.parametrize("broken", [{"objective": 3}, {"parameters": [{"type": "quantum", "name": "q"}]}])
def test_what_cannot_be_read_is_an_error_of_this_package(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        ExperimentSpec.from_store({**KNOWN, **broken})


def test_only_what_people_write_is_read_by_load() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "load" and ast.unparse(node.value) == "ExperimentSpec":
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == READ_BY_LOAD
