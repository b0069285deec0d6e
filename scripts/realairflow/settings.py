"""How the demo and the tests configure Airflow: environment variables only, one home for each choice.

Apart from ports, paths and secrets Airflow runs with its default settings, as a user's does: a test that needs another
setting passes it to `AirflowEnv` and says why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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
        """Airflow's metadata database, unless it is elsewhere."""
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
        """Session ids of the components, which the next holder of the home ends after a crash."""
        return self.home / "sessions.json"


def options(paths: Paths, url: str, jwt_secret: str, metadata_url: str | None) -> dict[str, str]:
    """Return Airflow's options by `section.option`: addresses, paths and secrets; everything else is Airflow's default.

    :param url: address of the API server, on 127.0.0.1.
    :param metadata_url: SQLAlchemy URL of Airflow's own database; without one it is SQLite in `paths.home`.
    """
    chosen = {
        "core.dags_folder": str(paths.dags),
        "core.load_examples": "False",
        "core.execution_api_server_url": f"{url}/execution/",
        "core.simple_auth_manager_users": f"{USERNAME}:admin",
        "core.simple_auth_manager_passwords_file": str(paths.password),
        "api.host": "127.0.0.1",
        "api.port": str(urlsplit(url).port),
        "api.base_url": url,
        "api_auth.jwt_secret": jwt_secret,
    }
    if metadata_url is None:
        # The components share the file: each waits for its turn to write instead of giving up after 5 seconds.
        chosen["database.sql_alchemy_conn"] = f"sqlite:///{paths.database}?timeout=30"
    else:
        chosen["database.sql_alchemy_conn"] = metadata_url
        # Airflow would expect asyncpg; SQLAlchemy's dialect for psycopg 3 serves both ways.
        chosen["database.sql_alchemy_conn_async"] = metadata_url
    return chosen


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
        "SHLVL": "1",  # a task's stdin is a socket: bash would take it for a remote login and read ~/.bashrc
        "SPT_NOENV": "1",  # otherwise setproctitle overwrites the environment that our marker is read from
        MARKER: str(home),
        **extra,
    }
