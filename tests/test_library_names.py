"""Names of TorchX and Airflow that the package uses although they are not public, or not documented as stable.

A new version of a library may remove them silently. Some are methods that we override: without them nothing fails, the
override is just never called. The private names are listed here; one that is used but not listed fails as well.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.sdk import BaseSensorOperator
from airflow.sdk.bases.decorator import _TaskDecorator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from torchx.schedulers.api import Scheduler
from torchx.schedulers.docker_scheduler import DockerContainer, DockerJob
from torchx.schedulers.kubernetes_scheduler import KubernetesJob
from torchx.schedulers.local_scheduler import LocalScheduler, PopenRequest, ReplicaParam
from torchx.schedulers.slurm_scheduler import SlurmBatchRequest, SlurmReplicaRequest

from airflow_provider_axtx.launcher.local_detached.scheduler import LocalDetachedScheduler

PACKAGE = Path(__file__).parents[1] / "airflow_provider_axtx"

#: Private methods of TorchX's schedulers that ``local_detached`` overrides or calls, and their arguments.
TORCHX_METHODS = {
    "_run_opts": ["self"],
    "_submit_dryrun": ["self", "app", "cfg"],
    "_cancel_existing": ["self", "app_id"],
    "_get_app_log_dir": ["self", "app_id", "cfg"],
}
#: TorchX's requests, which the launcher reads and changes between the dry run and the submission.
TORCHX_REQUESTS = {
    SlurmBatchRequest: {"cmd", "replicas", "job_dir", "max_retries"},
    SlurmReplicaRequest: {"name", "entrypoint", "args", "srun_opts", "sbatch_opts", "env"},
    DockerJob: {"app_id", "containers"},
    DockerContainer: {"image", "command", "kwargs"},
    KubernetesJob: {"images_to_push", "resource"},
    PopenRequest: {"app_id", "log_dir", "role_params", "role_log_dirs"},
    ReplicaParam: {"args", "env", "stdout", "stderr", "combined", "cwd"},
}
#: Attributes with a leading underscore that the package reads from objects other than its own, by file.
PRIVATE_ATTRIBUTES = {
    "launcher/local_detached/processes.py": {"_exit"},
    "launcher/local_detached/spawner.py": {"_exit"},
    "launcher/local_detached/supervisor.py": {"_exit"},
}
#: Names with a leading underscore that are imported from Airflow or TorchX: of a class that is extended.
PRIVATE_IMPORTS = {("airflow.sdk.bases.decorator", "_TaskDecorator")}


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def _own_names() -> set[str]:
    """Return every name with a leading underscore that the package itself defines."""
    found: set[str] = set()
    for _, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return {name for name in found if name.startswith("_")}


def _imported_names() -> set[tuple[str, str]]:
    """Return module and name of every import from Airflow and TorchX, wherever in a module it stands."""
    return {
        (node.module, alias.name)
        for _, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(("airflow.", "torchx."))
        for alias in node.names
    }


@pytest.mark.parametrize("name", TORCHX_METHODS)
def test_torchx_still_has_the_methods_that_are_overridden(name: str) -> None:
    method = getattr(LocalScheduler, name)
    assert list(inspect.signature(method).parameters) == TORCHX_METHODS[name]
    if name != "_get_app_log_dir":
        assert hasattr(Scheduler, name)


def test_airflow_still_has_the_private_method_of_sensors_that_is_overridden() -> None:
    method = BaseSensorOperator._get_next_poke_interval
    assert list(inspect.signature(method).parameters) == ["self", "started_at", "run_duration", "poke_count"]


def test_airflow_still_maps_functions_with_the_methods_that_are_extended() -> None:
    assert list(inspect.signature(_TaskDecorator.expand).parameters) == ["self", "map_kwargs"]
    assert {"kwargs", "strict"} <= set(inspect.signature(_TaskDecorator.expand_kwargs).parameters)
    assert {"function", "operator_class", "kwargs"} <= set(inspect.signature(_TaskDecorator).parameters)


def test_airflow_still_tells_the_states_of_task_instances() -> None:
    parameters = inspect.signature(RuntimeTaskInstance.get_task_states).parameters
    assert {"dag_id", "run_ids", "task_ids", "map_index"} <= set(parameters)


def test_every_overridden_private_method_is_listed() -> None:
    inherited = {
        name
        for name in vars(LocalDetachedScheduler)
        if name.startswith("_") and not name.startswith("__") and hasattr(LocalScheduler, name)
    }
    assert inherited - {"_abc_impl"} <= set(TORCHX_METHODS)


@pytest.mark.parametrize("request_type", TORCHX_REQUESTS, ids=lambda t: t.__name__)
def test_torchx_requests_have_the_fields_that_are_changed(request_type: type) -> None:
    assert {field.name for field in dataclasses.fields(request_type)} >= TORCHX_REQUESTS[request_type]


@pytest.mark.parametrize(("module", "name"), sorted(_imported_names()))
def test_libraries_still_have_the_names_that_are_imported(module: str, name: str) -> None:
    """Also those that a function imports when it is called, which an import of our modules does not try."""
    loaded = importlib.import_module(module)
    assert hasattr(loaded, name) or importlib.util.find_spec(f"{module}.{name}")


def test_no_other_private_attribute_of_a_library_is_used() -> None:
    own = _own_names()
    used: dict[str, set[str]] = {}
    for file, tree in _trees():
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            if name.startswith("_") and not name.startswith("__") and name not in own:
                used.setdefault(file, set()).add(name)
    assert used == PRIVATE_ATTRIBUTES


def test_no_other_private_name_of_a_library_is_imported() -> None:
    private = {(module, name) for module, name in _imported_names() if f".{module}.{name}".count("._")}
    assert private == PRIVATE_IMPORTS
