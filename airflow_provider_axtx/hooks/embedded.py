"""The embedded experiment store: an SQLite file in AIRFLOW_HOME, used while no connection ``ax_default`` is defined."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

from airflow.sdk import conf

from airflow_provider_axtx.core.home import axtx_home
from airflow_provider_axtx.hooks.executors import remote_executors

log = logging.getLogger(__name__)

#: Airflow's database drivers, SQLite's excepted.
_SERVER_DRIVERS = ("psycopg2", "psycopg", "asyncpg", "MySQLdb", "pymysql", "aiomysql")

_warned = False


def embedded_store_path() -> Path:
    """Return the absolute path of the embedded store; neither the file nor its folder need to exist."""
    return axtx_home() / "experiments.db"


def make_folder() -> None:
    """Create the folder of the embedded store, or close an existing one to other users of the machine."""
    folder = axtx_home()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _close_to_others(folder)


def make_file() -> None:
    """Create the embedded store as an empty file that only this user can read; SQLite makes its tables in it."""
    make_folder()
    path = embedded_store_path()
    if path.exists():
        _close_to_others(path)
        return
    # The file gets its name when it is complete and closed: closing a file of SQLite's drops the locks that other
    # threads of this process hold on it (howtocorrupt.html, 2.2).
    descriptor, empty = tempfile.mkstemp(dir=path.parent)
    os.close(descriptor)
    try:
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(empty, path)
    finally:
        Path(empty).unlink()


def _close_to_others(path: Path) -> None:
    found = path.stat()
    if found.st_uid == os.geteuid() and found.st_mode & 0o077:
        path.chmod(found.st_mode & 0o700)


def embedded_store_warning() -> str | None:
    """Return why the embedded store is probably not what the deployment needs, or None where it fits.

    It fits a single machine, which is what a deployment with SQLite as Airflow's own database is.
    """
    reason = _several_machines()
    if reason is None:
        return None
    return (
        f"The connection ax_default is not defined, so experiments are kept in the file {embedded_store_path()} of "
        f"this machine. {reason}: its scheduler, workers, triggerer, API server and command line may run on several "
        "machines, and each would use a file of its own. Fix: define the connection ax_default (type ax) for all of "
        "them, for example in Airflow's user interface under Admin, Connections."
    )


def warn_about_embedded_store() -> None:
    """Log ``embedded_store_warning``, once in each process."""
    global _warned
    if _warned:
        return
    _warned = True
    if (warning := embedded_store_warning()) is not None:
        log.warning(warning)


def _several_machines() -> str | None:
    """Return what shows that this deployment may run on several machines, or None."""
    if remote := remote_executors():
        return f"This Airflow uses the executor {', '.join(remote)}"
    scheme = conf.get("database", "sql_alchemy_conn", fallback="").partition(":")[0].partition("+")[0]
    if scheme in ("postgres", "postgresql", "mysql", "mariadb"):
        return f"Airflow's own database is {scheme}, not SQLite"
    # Airflow hides its database from tasks and triggers (`block_orm_access`). A task of LocalExecutor and a trigger
    # are forks of processes that use it, and inherit its driver.
    if scheme != "sqlite" and any(driver in sys.modules for driver in _SERVER_DRIVERS):
        return "Airflow's own database is not SQLite"
    return None
