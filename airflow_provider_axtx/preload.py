"""Warm workers: the executor's parent process imports once what every generating task needs, Ax above all.

Put this into ``airflow_local_settings.py`` of the scheduler (LocalExecutor) or of the Celery worker::

    from airflow_provider_axtx.preload import preload; preload()

Both fork a process for each task, and the fork shares the imported modules with its parent. Every other Airflow
process (API server, DAG processor, triggerer, command line) reads the same file; ``preload`` does nothing there.
``docs/performance.md`` says how much time this saves.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Sequence

#: The modules that tasks import when they run. Preloading only imports: a thread pool of PyTorch or a database
#: connection would not survive the fork, so no model is fitted and no database is opened.
MODULES = (
    "airflow_provider_axtx.optimizer.engine",
    "airflow_provider_axtx.launcher.tracker",
    "airflow_provider_axtx.launcher.torchx_launcher",
    "airflow_provider_axtx.lifecycle.generate",
    "airflow_provider_axtx.lifecycle.optimize",
    "airflow_provider_axtx.lifecycle.reap",
    "airflow_provider_axtx.store.experiments",
    "airflow_provider_axtx.lifecycle.submit",
)


def preload() -> bool:
    """Import the modules that tasks need if this is the process from which an executor forks its tasks.

    ```python
    from airflow_provider_axtx.preload import preload

    preload()
    ```

    :return: whether this is such a process.
    """
    if not forks_tasks(sys.argv, _executor()):
        return False
    for name in MODULES:
        importlib.import_module(name)
    return True


def forks_tasks(argv: Sequence[str], executor: str) -> bool:
    """Return whether a process with this command line forks tasks.

    :param argv: the ``sys.argv`` of the process.
    :param executor: the value of Airflow's option ``[core] executor``, which may name several executors.
    """
    if _start_method() != "fork":
        return False
    command = [word for word in argv[1:] if not word.startswith("-")]
    if command[:1] == ["scheduler"]:
        return "LocalExecutor" in executor
    return command[:2] == ["celery", "worker"]


def _executor() -> str:
    from airflow.configuration import conf

    return conf.get("core", "executor", fallback="")


def _start_method() -> str:
    # `get_start_method()` without `allow_none` would set the start method; other code may still want to choose one.
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
