from __future__ import annotations

import inspect
import json
import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.cli.cli_parser import get_parser
from airflow.sdk import BaseHook, BaseNotifier, BaseOperator, BaseOperatorLink, BaseSensorOperator
from airflow.triggers.base import BaseTrigger

import airflow_provider_axtx
from airflow_provider_axtx.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[1]
INFO = get_provider_info()
#: Airflow's base classes, and the part of the metadata that names what derives from them.
KINDS = {
    "sensors": BaseSensorOperator,
    "operators": BaseOperator,
    "hooks": BaseHook,
    "triggers": BaseTrigger,
    "notifications": BaseNotifier,
    "extra-links": BaseOperatorLink,
}


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(airflow.__file__).parent / f"{name}.schema.json").read_text())
    return loaded


def test_the_metadata_fits_airflows_schema() -> None:
    jsonschema.validate(INFO, schema("provider_info"))


@pytest.mark.parametrize("part", INFO)
def test_each_part_fits_the_stricter_schema_of_airflows_own_providers(part: str) -> None:
    own = schema("provider.yaml")
    if part == "integrations":
        # Airflow's providers keep their logos on its site.
        for integration in INFO[part]:
            assert (ROOT / integration["logo"].lstrip("/")).is_file()
            assert all((ROOT / page.lstrip("/")).is_file() for page in integration["how-to-guide"])
    jsonschema.validate(INFO[part], {**own["properties"][part], "definitions": own["definitions"]})


def public_classes() -> dict[str, set[str]]:
    """Return the classes that users and Airflow import, by kind, as ``module.Class``."""
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for each in pkgutil.walk_packages(airflow_provider_axtx.__path__, "airflow_provider_axtx."):
        package = each.name.split(".")[1]
        if package not in {"operators", "sensors", "hooks", "triggers", "notifications", "links"}:
            continue
        module = import_module(each.name)
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == each.name and not name.startswith(("_", "Base")):
                kind = next((kind for kind, base in KINDS.items() if issubclass(value, base)), None)
                if kind and not name.endswith(("Mixin", "FunctionOperator")) and ".operators._" not in each.name:
                    found[kind].add(f"{each.name}.{name}")
    return found


@pytest.mark.parametrize(("kind", "names"), public_classes().items(), ids=lambda value: str(value)[:15])
def test_the_metadata_names_every_public_class(kind: str, names: set[str]) -> None:
    assert names
    if kind in ("notifications", "extra-links"):
        assert set(INFO[kind]) == names
        return
    modules = [import_module(module) for entry in INFO[kind] for module in entry["python-modules"]]
    reachable = {f"{v.__module__}.{v.__name__}" for m in modules for v in vars(m).values() if inspect.isclass(v)}
    assert names - reachable == set()
    integrations = {integration["integration-name"] for integration in INFO["integrations"]}
    assert {entry["integration-name"] for entry in INFO[kind]} <= integrations


def test_fields_that_hold_json_say_so() -> None:
    fields = {name: field for c in INFO["connection-types"] for name, field in c["conn-fields"].items()}
    as_json = {name for name, field in fields.items() if field["schema"].get("format") == "json"}
    assert (
        as_json
        == {name for name, field in fields.items() if "JSON" in field["description"]}
        == {"scheduler_args", "prices"}
    )


def test_airflow_lists_the_options_with_their_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = get_parser().parse_args(["config", "list", "--section", "axtx", "--include-descriptions"])
    arguments.func(arguments)
    listed = capsys.readouterr().out
    assert "[axtx]" in listed
    for name, option in INFO["config"]["axtx"]["options"].items():
        assert f"\n{name} =" in listed or f"\n# {name} =" in listed
        assert option["description"].split(".")[0][:40] in listed


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
