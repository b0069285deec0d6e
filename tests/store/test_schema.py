"""Opening a store: the migrations, foreign and newer schemas, URLs that cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from airflow_provider_axtx.core.errors import (
    InvalidInputError,
    NewerSchemaError,
    SchemaVersionError,
    StoreNotFoundError,
    StoreUnavailableError,
)
from airflow_provider_axtx.store import _schema
from airflow_provider_axtx.store._schema import MIGRATIONS
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import HEAD_REVISION, VERSION_TABLE, metadata
from tests.engines.mariadb import MariadbServer
from tests.engines.postgres import PostgresServer
from tests.store.material import SPEC, begin, experiment


def test_the_head_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD_REVISION]


def test_migrations_make_what_the_tables_say(empty_url: str) -> None:
    ExperimentStore(empty_url).close()
    engine = sa.create_engine(empty_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_make_the_very_same_sqlite_schema(migrated_file: Path, tmp_path: Path) -> None:
    def schema(path: Path) -> dict[str, list[object]]:
        """Each table's columns with type, default and key, its foreign keys and its indexes with their columns."""
        found: dict[str, list[object]] = {}
        with sqlite3.connect(path) as connection:

            def pragma(what: str, name: str) -> list[tuple[object, ...]]:
                return list(connection.execute(f"PRAGMA {what}({name})"))

            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in [row for row in tables if row[0] != VERSION_TABLE]:
                columns = sorted(row[1:] for row in pragma("table_xinfo", table))
                foreign = sorted(row[1:] for row in pragma("foreign_key_list", table))
                indexes = sorted(
                    (unique, origin, tuple(column for _, _, column in pragma("index_info", name)))
                    for _, name, unique, origin, _ in pragma("index_list", table)
                )
                found[table] = [columns, foreign, indexes]
        return found

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema(migrated_file) == schema(tmp_path / "created.db")


def test_opening_for_reading_makes_no_tables(empty_url: str) -> None:
    with pytest.raises(StoreNotFoundError, match="experiment store"):
        ExperimentStore(empty_url, create=False)
    engine = sa.create_engine(empty_url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_opening_for_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match=r"new\.db"):
        ExperimentStore(f"sqlite:///{tmp_path / 'new.db'}", create=False)
    assert not (tmp_path / "new.db").exists()


def test_opening_for_reading_changes_no_schema_of_another_version(migrated_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    shutil.copy(migrated_file, path)
    assert ExperimentStore(f"sqlite:///{path}", create=False).summaries() == []
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0000'")
    with pytest.raises(SchemaVersionError, match="0000"):
        ExperimentStore(f"sqlite:///{path}", create=False)


def test_sqlite_uses_write_ahead_logging(migrated_file: Path) -> None:
    with sqlite3.connect(migrated_file) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_opening_an_open_store_does_not_import_alembic(migrated_file: Path) -> None:
    code = (
        "import sys; from airflow_provider_axtx.store.experiments import ExperimentStore; "
        f"ExperimentStore('sqlite:///{migrated_file}'); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=MIGRATIONS.parents[2]).returncode == 0


def test_a_newer_schema_is_refused(store_url: str) -> None:
    engine = sa.create_engine(store_url)
    statement = sa.text(f"UPDATE {VERSION_TABLE} SET version_num = :version")
    with engine.begin() as connection:
        connection.execute(statement, {"version": "9999"})
    try:
        with pytest.raises(NewerSchemaError, match="version 9999; this package knows up to") as raised:
            ExperimentStore(store_url)
        # The task may be tried again on a worker that has been upgraded.
        assert raised.value.retryable
        with pytest.raises(NewerSchemaError, match="has version 9999"):  # cleanup and reap only read
            ExperimentStore(store_url, create=False)
    finally:
        with engine.begin() as connection:
            connection.execute(statement, {"version": HEAD_REVISION})
        engine.dispose()


def test_tables_of_another_maker_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE axtx_experiments (x)")
    with pytest.raises(SchemaVersionError, match="not made by this package"):
        ExperimentStore(f"sqlite:///{path}")


def test_a_database_may_be_shared_with_airflow_and_others(empty_url: str) -> None:
    engine = sa.create_engine(empty_url)
    with engine.begin() as connection:
        for name in ("experiments", "trials", "runs", "alembic_version"):
            connection.execute(sa.text(f"CREATE TABLE {name} (version_num VARCHAR(32))"))
    assert ExperimentStore(empty_url).create("digits", SPEC)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not a database URL"),
        ("not a url", "not a database URL"),
        ("postgresql://u:secret@host:port/db", "not a database URL"),
        ("oracle://u:secret@host/db", "cannot be on 'oracle'"),
        ("sqlite://", "not absolute: 'in memory'"),
        ("sqlite:///:memory:", "not absolute: ':memory:'"),
        ("sqlite:///store.db", "not absolute: 'store.db'"),
        ("sqlite:////no/such/folder/store.db", "folder .* does not exist: /no/such/folder"),
        ("postgresql+nodriver://u:secret@127.0.0.1/db", r"driver 'postgresql\+nodriver' .* cannot be loaded"),
        ("postgresql+pg8000://u:secret@127.0.0.1/db", r"driver 'postgresql\+pg8000' .* cannot be loaded"),
    ],
)
def test_urls_that_cannot_be_used(url: str, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        ExperimentStore(url)
    assert "ax connection" in caught.value.message and "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_text("These are my notes, not a database. " * 100)
    with pytest.raises(InvalidInputError, match="file is not a database"):
        ExperimentStore(f"sqlite:///{path}")


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="unable to open database file"):
        ExperimentStore(f"sqlite:///{tmp_path}")


@pytest.mark.postgres
def test_the_plain_postgresql_scheme_is_enough(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(postgres_server.new_database())
    store = ExperimentStore(url.replace("postgresql+psycopg:", "postgresql:"))
    assert store.create("digits", SPEC)
    store.close()


@pytest.mark.postgres
@pytest.mark.parametrize("field", ["password", "login", "database"])
def test_a_login_that_postgresql_refuses(postgres_server: PostgresServer, field: str) -> None:
    url = sa.make_url(postgres_server.url("postgres"))
    wrong: dict[str, dict[str, Any]] = {
        "password": {"password": "wrong"},
        "login": {"username": "nobody"},
        "database": {"database": "nope"},
    }
    with pytest.raises(InvalidInputError, match="correct login, password, host and schema") as caught:
        ExperimentStore(url.set(**wrong[field]).render_as_string(hide_password=False))
    assert "***" in str(caught.value) and postgres_server.password not in str(caught.value)


@pytest.mark.postgres
def test_a_login_without_the_right_to_make_tables(postgres_server: PostgresServer) -> None:
    database = postgres_server.new_database()
    postgres_server.execute("CREATE ROLE reader LOGIN PASSWORD 'pw'")
    url = sa.make_url(postgres_server.url(database)).set(username="reader", password="pw")
    with pytest.raises(InvalidInputError, match="permission denied for schema public"):
        ExperimentStore(url.render_as_string(hide_password=False))


@pytest.mark.mysql
@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_the_plain_mysql_scheme_is_enough(mariadb_server: MariadbServer, scheme: str) -> None:
    url = mariadb_server.url(mariadb_server.new_database())
    store = ExperimentStore(url.replace("mysql+pymysql:", f"{scheme}:"))
    assert store.create("digits", SPEC)
    store.close()


@pytest.mark.mysql
@pytest.mark.parametrize("field", ["password", "login", "database"])
def test_a_login_that_mariadb_refuses(mariadb_server: MariadbServer, field: str) -> None:
    url = sa.make_url(mariadb_server.url(mariadb_server.new_database()))
    wrong: dict[str, dict[str, Any]] = {
        "password": {"password": "wrong"},
        "login": {"username": "nobody"},
        "database": {"database": "nope"},
    }
    with pytest.raises(InvalidInputError, match="correct login, password, host and schema") as caught:
        ExperimentStore(url.set(**wrong[field]).render_as_string(hide_password=False))
    assert "***" in str(caught.value) and mariadb_server.password not in str(caught.value)


@pytest.mark.mysql
def test_a_message_of_any_length_is_kept_on_mariadb(mariadb_server: MariadbServer) -> None:
    """The server of the tests would cut what is too long, without a word."""
    store = ExperimentStore(mariadb_server.url(mariadb_server.new_database()))
    name = experiment(store)
    reason = "ü" * 100_000
    assert store.complete(name, 0, status="FAILED", reason=reason).reason == reason
    with pytest.raises(InvalidInputError, match="Data too long"):
        begin(store, name, scheduler="s" * 300, reopen_reason="again")
    assert store.attempts(name) == []
    store.close()


@pytest.mark.mysql
def test_a_schema_lock_that_is_never_released_on_mariadb(
    mariadb_server: MariadbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = mariadb_server.url(mariadb_server.new_database())
    monkeypatch.setattr(_schema, "_LOCK_SECONDS", 1)
    holder = sa.create_engine(url)
    with holder.connect() as connection:
        connection.execute(sa.text("SELECT GET_LOCK('axtx_schema', 0)"))
        with pytest.raises(StoreUnavailableError, match="held the lock 'axtx_schema'"):
            ExperimentStore(url)
    holder.dispose()
    ExperimentStore(url).close()
