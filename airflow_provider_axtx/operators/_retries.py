"""Retries for operators that go on with their work when they start again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import conf


def with_retries(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return an operator's arguments with retries, unless the DAG or Airflow's configuration gives some.

    Without any, a worker that dies ends the experiment, although a retry would go on with it.
    """
    given = {**(arguments.get("default_args") or {}), **arguments}
    if "retries" in given or conf.getint("core", "default_task_retries", fallback=0):
        return arguments
    return {"retry_delay": timedelta(seconds=10), **arguments, "retries": 2}
