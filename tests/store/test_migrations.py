"""From each schema revision up: a database that was made then has to become today's, with its rows."""

from __future__ import annotations

import sqlite3

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from airflow_provider_axtx.store._schema import MIGRATIONS
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import HEAD_REVISION, VERSION_TABLE, metadata
from tests.store import releases
from tests.store.material import add, begin


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    return made


REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def migrate(url: str, revision: str) -> None:
    """Bring an empty database to a revision."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        made = config()
        made.attributes["connection"] = connection
        command.upgrade(made, revision)
    engine.dispose()


def load(url: str, revision: str) -> None:
    """Make the frozen database of a revision: on SQLite as it was, elsewhere its rows in tables of that revision."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.executescript(releases.frozen_sql(revision))
        connection.close()
        return
    migrate(url, revision)
    engine, source = sa.create_engine(url), sqlite3.connect(":memory:")
    source.row_factory = sqlite3.Row
    source.executescript(releases.frozen_sql(revision))
    there = sa.MetaData()
    with engine.begin() as connection:
        there.reflect(connection, only=lambda name, _: name.startswith("axtx_") and name != VERSION_TABLE)
        for table in there.sorted_tables:
            columns = {column.name: column.type for column in table.columns}
            rows = [dict(row) for row in source.execute(f"SELECT * FROM {table.name}")]
            for row in rows:
                row |= {name: bool(row[name]) for name, kind in columns.items() if isinstance(kind, sa.Boolean)}
            assert rows, f"nothing frozen in {table.name}"
            connection.execute(table.insert(), rows)
    source.close()
    engine.dispose()


def assert_tables_of_today(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert context.get_current_revision() == HEAD_REVISION
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_revision_has_a_frozen_database() -> None:
    assert releases.revisions() == REVISIONS, "python -m tests.store.releases freezes one of the newest revision"


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_empty_database_of_a_revision_becomes_todays(empty_url: str, revision: str) -> None:
    migrate(empty_url, revision)
    ExperimentStore(empty_url).close()
    assert_tables_of_today(empty_url)


@pytest.mark.parametrize("revision", releases.revisions())
def test_a_database_of_a_revision_keeps_its_rows(empty_url: str, revision: str) -> None:
    load(empty_url, revision)
    store = ExperimentStore(empty_url)
    frozen = releases.frozen_content(revision)
    assert list(releases.differences(frozen, releases.content(store))) == []
    assert_tables_of_today(empty_url)
    # And it works: the experiment goes on where it was.
    name = next(iter(frozen))
    assert [trial.index for trial in add(store, name)] == [len(frozen[name]["facts"]["trials"])]
    assert begin(store, name, 5).number == 1
    store.close()


def test_a_frozen_database_is_not_written_again() -> None:
    with pytest.raises(SystemExit, match="is frozen"):
        releases.main()
