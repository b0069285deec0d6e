"""Creates and upgrades the store's tables with Alembic, under a lock, when a store is opened."""

from __future__ import annotations

import os
import threading
from contextlib import nullcontext
from pathlib import Path

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import NewerSchemaError, SchemaVersionError, StoreNotFoundError
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.tables import HEAD_REVISION, VERSION_TABLE, experiments

MIGRATIONS = Path(__file__).parent / "migrations"
#: Key of the PostgreSQL advisory lock: "axtx" in ASCII.
_LOCK_KEY = 0x61787478
_LOCK_SECONDS = 60

# Alembic's ``context`` is a global of the process: two threads must not migrate at once, not even different databases.
_alembic_lock = threading.Lock()


def _after_fork() -> None:
    global _alembic_lock
    _alembic_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def open_schema(database: Database, *, create: bool = True) -> None:
    """Create or upgrade the tables if needed; safe when many processes do it at once.

    :param create: False changes nothing in the database.
    :raises NewerSchemaError: when the schema is newer than this package.
    :raises SchemaVersionError: when the tables are not ours; with ``create=False`` also when it is older or newer.
    :raises StoreNotFoundError: with ``create=False``, when the tables do not exist.
    """
    if not create:
        _require_current(database)
        return
    if database.read(_revision) == HEAD_REVISION:
        return
    if database.backend == "sqlite":
        database.use_wal()
    # MySQL has no lock that ends with the transaction: it has to outlast the commit.
    lock = database.named_lock("axtx_schema", _LOCK_SECONDS) if database.backend == "mysql" else nullcontext()
    with _alembic_lock, lock:
        database.write("schema", lambda connection: _upgrade(connection, database.shown_url))


def _require_current(database: Database) -> None:
    found = database.read(_revision) if database.exists else None
    if found is None:
        raise StoreNotFoundError(
            f"There is no experiment store at {database.shown_url} yet.",
            fix="run a DAG that creates an experiment, or correct the connection of the experiment store.",
        )
    if found != HEAD_REVISION:
        # The versions are numbers of four digits. Alembic, which knows them, is not imported to read.
        raise (NewerSchemaError if found > HEAD_REVISION else SchemaVersionError)(
            f"The schema of the experiment store {database.shown_url} has version {found}; this package needs "
            f"{HEAD_REVISION}, and reading does not change the store.",
            fix="use the same version of airflow-provider-axtx everywhere; the first task that runs with a newer "
            "version upgrades the store.",
        )


def _revision(connection: sa.Connection) -> str | None:
    inspector = sa.inspect(connection)
    if not inspector.has_table(VERSION_TABLE):
        if inspector.has_table(experiments.name):
            raise SchemaVersionError(
                f"The database has a table {experiments.name} but no {VERSION_TABLE}: it was not made by this package.",
                fix="give the experiment store a database of its own, or restore the missing table.",
            )
        return None
    found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return found


def _upgrade(connection: sa.Connection, shown_url: str) -> None:
    # SQLite needs no lock of its own: BEGIN IMMEDIATE admits one process, and its DDL is part of the transaction.
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_KEY)))
    _migrate(connection, shown_url)


def _migrate(connection: sa.Connection, shown_url: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    found = _revision(connection)
    if found == HEAD_REVISION:
        return
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise NewerSchemaError(
            f"The schema of the experiment store {shown_url} has version {found}; this package knows up to "
            f"{HEAD_REVISION}.",
            fix="upgrade airflow-provider-axtx on this machine to the version that the others use.",
        )
    command.upgrade(config, HEAD_REVISION)
