from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

from airflow_provider_axtx.get_provider_info import get_provider_info

INFO = get_provider_info()


def test_the_metadata_fits_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_airflow_finds_the_provider_through_its_entry_point() -> None:
    points = entry_points(group="apache_airflow_provider")
    assert "airflow_provider_axtx.get_provider_info:get_provider_info" in {point.value for point in points}


def named() -> list[str]:
    modules = [
        m for kind in ("operators", "sensors", "hooks", "triggers") for e in INFO[kind] for m in e["python-modules"]
    ]
    assets = [uris[role] for uris in INFO["asset-uris"] for role in ("handler", "factory", "to_openlineage_converter")]
    connections = [c["hook-class-name"] for c in INFO["connection-types"]]
    return [*modules, *connections, *INFO["cli"], *INFO["notifications"], *INFO["extra-links"], *assets]


@pytest.mark.parametrize("name", named())
def test_everything_that_the_metadata_names_exists(name: str) -> None:
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(import_module(module), attribute))


@pytest.mark.parametrize("connection", INFO["connection-types"], ids=lambda c: c["connection-type"])
def test_a_connection_type_is_what_its_hook_says(connection: dict[str, Any]) -> None:
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), name)
    assert (hook.conn_type, hook.hook_name) == (connection["connection-type"], connection["hook-name"])
