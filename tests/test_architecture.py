"""The dependency direction of docs/architecture.md, and that a DAG file's imports stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airflow_provider_axtx"

#: Area -> areas of the package that its modules may import. An area is a folder or a module of the package.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "get_provider_info": set(),
    "preload": set(),
    "lineage": set(),
    "links": {"compat", "core"},
    "compat": set(),
    "core": {"core"},
    "spec": {"core", "spec"},
    "store": {"core", "store"},
    "optimizer": {"core", "spec", "optimizer"},
    "launcher": {"core", "launcher"},
    "integrations": {"core", "spec", "store", "launcher", "lifecycle", "integrations"},
    "lifecycle": {"core", "spec", "store", "optimizer", "launcher", "lifecycle"},
    "hooks": {"compat", "core", "spec", "store", "optimizer", "launcher", "hooks"},
    "assets": {"core", "spec", "hooks", "lineage"},
    "triggers": {"compat", "core", "store", "launcher", "lifecycle", "hooks", "triggers"},
    "operators": {
        *("core", "spec", "store", "optimizer", "launcher", "lifecycle"),
        *("hooks", "triggers", "lineage", "assets", "links", "compat", "operators"),
    },
    "sensors": {"core", "lifecycle", "links", "operators"},
    "decorators": {"core", "operators"},
    "task_groups": {"core", "spec", "lifecycle", "hooks", "operators", "sensors"},
    "notifications": {"core", "spec", "store", "hooks", "assets"},
    "listeners": {"core", "hooks", "integrations", "store"},
    "plugin": {"core", "spec", "store", "hooks", "listeners", "plugin"},
    "cli": {"cli", "core", "spec", "store", "launcher", "lifecycle", "hooks", "integrations"},
}
#: Library -> the only areas or modules that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "ax": ("optimizer/", "hooks/ax.py"),
    "torchx": ("launcher/",),
    "sqlalchemy": ("store/", "hooks/ax.py", "hooks/store_url.py", "cli/common.py"),
    "alembic": ("store/",),
    "airflow": (
        *("hooks/", "triggers/", "operators/", "sensors/", "notifications/", "plugin/"),
        *(
            "listeners/",
            "assets.py",
            "compat.py",
            "lineage.py",
            "links.py",
            "task_groups.py",
            "decorators.py",
            "cli/",
            "preload.py",
            "launcher/object_store.py",
        ),
    ),
    "openlineage": (),
    "optuna": ("integrations/",),
    "mlflow": ("launcher/mlflow_runs.py", "integrations/"),
    "wandb": ("integrations/",),
    "tensorboard": ("launcher/metric_files.py", "integrations/"),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    area = relative.parts[0].removesuffix(".py")
    used = {name.split(".")[1] for name in imports(path) if name.startswith("airflow_provider_axtx.")}
    assert used - {"__version__"} <= ALLOWED[area]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_one_home(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    for library in {name.split(".")[0] for name in imports(path)} & set(ONLY_IN):
        assert relative.startswith(ONLY_IN[library]), f"{relative} imports {library}"


def test_modules_and_files_stay_small() -> None:
    long = {str(path.relative_to(PACKAGE)): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert not long


DAG_FILE_MODULES = """
import sys
import airflow.sdk
before = set(sys.modules)
import airflow_provider_axtx.operators.ax
import airflow_provider_axtx.operators.torchx
import airflow_provider_axtx.sensors.torchx
import airflow_provider_axtx.task_groups
import airflow_provider_axtx.hooks.ax
import airflow_provider_axtx.hooks.torchx
import airflow_provider_axtx.triggers.trial
import airflow_provider_axtx.assets
import airflow_provider_axtx.notifications.new_best
import airflow_provider_axtx.get_provider_info
import airflow_provider_axtx.plugin
heavy = {"ax", "torch", "torchx", "botorch", "pandas", "alembic", "openlineage"} & set(sys.modules)
new_sql = {m for m in set(sys.modules) - before if m.startswith("sqlalchemy.dialects")}
assert not heavy, heavy
assert not new_sql, new_sql
"""

DAG_BAG = """
import sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(Path(sys.argv[1]))
assert not bag.import_errors, bag.import_errors
assert len(bag.dags) >= 5, list(bag.dags)
heavy = {"ax", "torch", "torchx", "botorch"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture
def airflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.mark.usefixtures("airflow_home")
def test_modules_of_a_dag_file_import_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", DAG_FILE_MODULES], check=True)


@pytest.mark.usefixtures("airflow_home")
def test_parsing_all_example_dags_imports_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", DAG_BAG, str(ROOT / "dags")], check=True)
