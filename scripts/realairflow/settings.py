"""How the demo and the tests configure Airflow: environment variables only, one home for each choice."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from realairflow.processes import MARKER

USERNAME = "admin"
#: Content of ``airflow_local_settings.py`` when the executor's parent imports Ax for all tasks.
WARM_WORKERS = "from airflow_provider_axtx.preload import preload; preload()\n"


@dataclass(frozen=True)
class Paths:
    """Every file and folder of one Airflow home."""

    home: Path
    dags: Path

    @property
    def logs(self) -> Path:
        """Task logs, and `<component>.log` with what each component printed."""
        return self.home / "logs"

    @property
    def database(self) -> Path:
        """Airflow's metadata database."""
        return self.home / "airflow.db"

    @property
    def password(self) -> Path:
        """User name and password of the UI, in the format of Airflow's simple auth manager."""
        return self.home / "password.json"

    @property
    def local_settings(self) -> Path:
        """Python that every Airflow process runs at its start."""
        return self.home / "config" / "airflow_local_settings.py"

    @property
    def lock(self) -> Path:
        """Locked by the process that runs Airflow in this home."""
        return self.home / "env.lock"

    @property
    def sessions(self) -> Path:
        """Session ids of the components, for whoever has to end them after a crash."""
        return self.home / "sessions.json"


def options(paths: Paths, port: int, jwt_secret: str, parallelism: int) -> dict[str, str]:
    """Return Airflow's options by `section.option`: loopback only, SQLite, quick to notice a dead process."""
    url = f"http://127.0.0.1:{port}"
    return {
        "core.dags_folder": str(paths.dags),
        "core.executor": "LocalExecutor",
        "core.parallelism": str(parallelism),
        "core.load_examples": "False",
        "core.dags_are_paused_at_creation": "True",
        "core.min_serialized_dag_update_interval": "1",
        "core.execution_api_server_url": f"{url}/execution/",
        "core.hostname_callable": "socket.gethostname",  # the default asks a name server
        "core.simple_auth_manager_users": f"{USERNAME}:admin",
        "core.simple_auth_manager_passwords_file": str(paths.password),
        "database.sql_alchemy_conn": f"sqlite:///{paths.database}?timeout=30",
        "api.host": "127.0.0.1",
        "api.port": str(port),
        "api.base_url": url,
        "api_auth.jwt_secret": jwt_secret,
        "dag_processor.refresh_interval": "3",
        "dag_processor.bundle_refresh_check_interval": "1",
        "dag_processor.parsing_processes": "1",
        "logging.base_log_folder": str(paths.logs),
        "logging.dag_processor_child_process_log_directory": str(paths.logs / "dag_processor"),
        "logging.colored_console_log": "False",
        # A killed component is declared dead, and its work taken over, after seconds instead of minutes.
        "scheduler.job_heartbeat_sec": "2",
        "scheduler.scheduler_heartbeat_sec": "1",
        "scheduler.scheduler_idle_sleep_time": "0.3",
        "scheduler.scheduler_health_check_threshold": "10",
        "scheduler.orphaned_tasks_check_interval": "5",
        "scheduler.task_instance_heartbeat_timeout": "60",
        "scheduler.task_instance_heartbeat_timeout_detection_interval": "5",
        "scheduler.trigger_timeout_check_interval": "2",
        # A task's supervisor may notice the end of its task only at the next heartbeat, 5 s later by default. Besides
        # the lost time: a deferred task that resumes within that gap is marked as failed (apache/airflow#72716).
        "workers.min_heartbeat_interval": "1",
        # So many seconds a task goes on while the API server restarts; the default of 3 meant 15 seconds.
        "workers.max_failed_heartbeats": "45",
        "triggerer.job_heartbeat_sec": "1",
        "triggerer.triggerer_health_check_threshold": "10",
    }


def environ(home: Path, configured: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every component and so of every task: this process's, without its own AIRFLOW_ ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    scripts = str(Path(sys.executable).parent)
    return {
        "OMP_NUM_THREADS": "1",  # several tasks and apps share the machine
        **kept,
        **{f"AIRFLOW__{name.replace('.', '__').upper()}": value for name, value in configured.items()},
        "AIRFLOW_HOME": str(home),
        "PATH": scripts + os.pathsep + kept.get("PATH", os.defpath),  # an app calls `python` and `torchx` by name
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "SPT_NOENV": "1",  # otherwise setproctitle overwrites the environment that our marker is read from
        MARKER: str(home),
        **extra,
    }
