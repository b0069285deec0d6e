"""How Airflow finds the page, and which modules it adds to an API server."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from airflow import plugins_manager

from airflow_provider_axtx.store.experiments import ExperimentStore

IMPORTS = """
import json, sys
from airflow.api_fastapi.app import create_app
create_app()
before = set(sys.modules)
from airflow_provider_axtx.plugin.app import the_app
from airflow_provider_axtx.store.views import ExperimentViews
the_app()
ExperimentViews(sys.argv[1]).page()
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_airflow_finds_the_plugin_through_its_entry_point() -> None:
    (found,) = [plugin for plugin in plugins_manager.get_plugin_info() if plugin["name"] == "axtx"]
    assert [view["destination"] for view in found["external_views"]] == ["nav", "dag_run"]
    assert found["fastapi_apps"][0]["url_prefix"] == "/axtx"


def test_the_page_adds_only_our_own_modules_to_an_api_server(tmp_path: Path) -> None:
    ExperimentStore(f"sqlite:///{tmp_path}/experiments.db")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, f"sqlite:///{tmp_path}/experiments.db"],
        check=True,
        capture_output=True,
        text=True,
    )
    new = json.loads(done.stdout.splitlines()[-1])
    foreign = {name for name in new if not name.startswith("airflow_provider_axtx")}
    assert not {name.partition(".")[0] for name in foreign} & {"ax", "torch", "torchx", "botorch", "plotly", "pandas"}
    # The base class of AxHook, and what Airflow 3.2 has not loaded by itself.
    later = {"airflow.sdk.definitions.variable"} if version("apache-airflow").startswith("3.2.") else set()
    assert foreign <= {"airflow.sdk.bases.hook", *later}
    assert "airflow_provider_axtx.plugin.app" in new
