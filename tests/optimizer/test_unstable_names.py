"""A new Ax that drops a name in use fails here, by name."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from ax.api.client import Client

import airflow_provider_axtx
from airflow_provider_axtx.optimizer import spaces
from airflow_provider_axtx.optimizer.unstable_names import UNSTABLE_NAMES
from airflow_provider_axtx.spec.generation import GenerationSpec

PACKAGE = Path(airflow_provider_axtx.__file__).parent
STABLE = {"ax.api.client": {"Client"}, "ax.api.configs": None}


@pytest.mark.parametrize("module", UNSTABLE_NAMES)
def test_each_name_exists(module: str) -> None:
    for name in UNSTABLE_NAMES[module]:
        found = importlib.import_module(module)
        for part in name.split("."):
            # Attributes that Ax's instances get in their constructor are annotated on the class, if anywhere.
            assert hasattr(found, part) or part in getattr(found, "__annotations__", {}), f"{module}: {name}"
            found = getattr(found, part, None)


def test_every_import_from_ax_is_listed() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None)
            if isinstance(node, ast.ImportFrom) and module and module.split(".")[0] in ("ax", "botorch"):
                stable = STABLE.get(module, set())
                names = {alias.name for alias in node.names} if stable is not None else set()
                assert names <= {*UNSTABLE_NAMES.get(module, ()), *(stable or ())}, f"{path}: {module}"


def test_ax_still_calls_these_methods_unstable() -> None:
    for method in ("set_experiment", "set_generation_strategy"):
        assert "not part of the API" in (getattr(Client, method).__doc__ or "")


def test_the_fields_of_definitions_are_those_of_ax() -> None:
    from ax.api.utils.structs import GenerationStrategyDispatchStruct

    own = {"factory", "random_seed", "max_parallelism"}
    assert set(GenerationSpec.model_fields) - own == set(GenerationStrategyDispatchStruct.__dataclass_fields__)
    names, ours_alone = vars(spaces), {"type", "backfill_value", "frozen_value"}
    for ours, theirs in (
        ("RangeParameter", "RangeParameterConfig"),
        ("ChoiceParameter", "ChoiceParameterConfig"),
        ("DerivedParameter", "DerivedParameterConfig"),
    ):
        assert set(names[ours].model_fields) - ours_alone == set(names[theirs].__dataclass_fields__)
