"""Warm workers: what every generating task would import (Ax: six seconds) is imported once, in the executor's parent.

In ``airflow_local_settings.py`` of the scheduler (LocalExecutor) or of the Celery worker::

    from airflow_provider_axtx.preload import preload; preload()

Both fork a process for each task, which finds the modules in memory that it shares with its parent. Every other
Airflow process (API server, dag processor, triggerer, command line) reads the same file and is left as it is.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Sequence

#: What tasks import when they run. Imports only: no model is fitted and no database opened, since a thread pool of
#: PyTorch or a connection would not survive the fork.
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
    """Import what tasks need, if this process is the parent from which an executor forks them.

    :return: whether it is.
    """
    if not forks_tasks(sys.argv, _executor()):
        return False
    for name in MODULES:
        importlib.import_module(name)
    return True


def forks_tasks(argv: Sequence[str], executor: str) -> bool:
    """Return whether a process with this command line forks tasks.

    :param argv: its ``sys.argv``.
    :param executor: Airflow's option ``[core] executor``; may name several.
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
    # Asked for without fixing it: whoever comes later may still choose another.
    return multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
