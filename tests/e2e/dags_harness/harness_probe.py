"""DAGs that only test the harness: a task that runs until it is let go, mapped tasks, and a deferred task."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import dag, task


@dag(schedule=None, catchup=False)
def harness_mapped() -> None:
    @task
    def add(number: int, dag_run: Any = None) -> dict[str, int]:
        if number == dag_run.conf.get("refuse"):
            raise ValueError(f"asked to refuse {number}")
        return {"sum": number + 1}

    add.expand(number=[1, 2, 3])


@dag(schedule=None, catchup=False)
def harness_deferred() -> None:
    # Airflow marks a task as failed that resumes within the 5 seconds of a heartbeat (apache/airflow#72716).
    TimeDeltaSensor(task_id="wait", delta=timedelta(seconds=12), deferrable=True)


@dag(schedule=None, catchup=False)
def harness_running() -> None:
    @task(retries=5, retry_delay=timedelta(seconds=1))
    def hold(dag_run: Any = None) -> None:
        """Leave a line for each try, then wait for the file `go` (at most a minute)."""
        folder = Path(dag_run.conf["folder"])
        with (folder / "tries").open("a") as tries:
            tries.write("try\n")
        deadline = time.monotonic() + 60
        while not (folder / "go").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("nobody let this task go")
            time.sleep(0.1)

    hold()


@dag(schedule=None, catchup=False)
def harness_escapes() -> None:
    # The app has a session of its own and no living parent, like an app that outlives its submitter.
    BashOperator(task_id="detach", bash_command="setsid sleep 600 >/dev/null 2>&1 & echo $!")


harness_mapped()
harness_deferred()
harness_running()
harness_escapes()
