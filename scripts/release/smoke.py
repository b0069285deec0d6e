"""Try the installed package, away from the checkout: ``python smoke.py`` in an AIRFLOW_HOME with a migrated database.

``AIRFLOW__CORE__DAGS_FOLDER`` is the folder ``dags`` beside this file. Only the package and what pip installs with it
are needed.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Any

import airflow_provider_axtx

PACKAGE = Path(airflow_provider_axtx.__file__).parent
#: Modules that need an extra.
EXTRAS = {"airflow_provider_axtx.lineage"}


def import_modules() -> int:
    """Import every public module; return how many."""
    found = pkgutil.walk_packages(airflow_provider_axtx.__path__, "airflow_provider_axtx.")
    names = {each.name for each in found if not each.name.rpartition(".")[2].startswith("_")} - EXTRAS
    for name in sorted(names):
        importlib.import_module(name)
    return len(names)


def check_metadata() -> None:
    """Compare the installed metadata with the package; Airflow must know the provider and its connections."""
    from airflow.providers_manager import ProvidersManager

    assert version("airflow-provider-axtx") == airflow_provider_axtx.__version__
    assert metadata("airflow-provider-axtx")["License-Expression"] == "Apache-2.0 AND MIT"
    manager = ProvidersManager()
    assert "airflow-provider-axtx" in manager.providers
    for connection in ("ax", "torchx"):
        hook = manager.hooks[connection]
        assert hook is not None, f"the hook of connection type {connection} cannot be imported"


def parse_examples() -> list[str]:
    """Load the DAGs that ship with the package; return their ids."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(PACKAGE / "example_dags")
    assert bag.import_errors == {}, bag.import_errors
    assert len(bag.dags) > 9, sorted(bag.dags)
    return sorted(bag.dags)


def tune_branin() -> dict[str, Any]:
    """Tune with real processes as trials, in an Airflow of one process; return the best trial."""
    from airflow.configuration import conf
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(conf.get("core", "dags_folder"))
    assert bag.import_errors == {}, bag.import_errors
    run = bag.dags["branin"].test()
    assert run.state == "success", run.state
    result: dict[str, Any] = run.get_task_instance("tune").xcom_pull(task_ids="tune")
    assert result["trials"] == {"COMPLETED": 5}, result
    return dict(result["best"])


def main() -> None:
    """Run all checks and print what they saw."""
    print(f"imported {import_modules()} modules")
    check_metadata()
    print(f"parsed the examples {', '.join(parse_examples())}")
    print(f"best trial on Branin: {tune_branin()}")


if __name__ == "__main__":
    main()
