"""A disk that is full, a database that cannot be written: a clear error and an unharmed store."""

from __future__ import annotations

import resource
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.errors import StoreUnavailableError
from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.conftest import Server
from tests.store.material import at_once, experiment

_MANY = [Observation(0, f"metric {i:04}", i / 3, 0.5) for i in range(3000)]


@pytest.fixture
def file_store(migrated_file: Path, tmp_path: Path) -> tuple[ExperimentStore, Path]:
    path = tmp_path / "store.db"
    path.write_bytes(migrated_file.read_bytes())
    return ExperimentStore(f"sqlite:///{path}", retry_seconds=2), path


def _each_connection(store: ExperimentStore, pragma: str) -> None:
    """Give every later connection of the store a limit of SQLite's own."""
    store.close()
    engine = store._db._engine
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute(f"PRAGMA {pragma}"))


def test_a_full_disk(file_store: tuple[ExperimentStore, Path]) -> None:
    store, path = file_store
    name = experiment(store)
    before = store.snapshot(name)
    _each_connection(store, f"max_page_count={path.stat().st_size // 4096 + 2}")
    with pytest.raises(StoreUnavailableError, match=r"disk is full.*free space on the database's disk"):
        store.complete(name, 0, status="COMPLETED", observations=_MANY)
    assert store.snapshot(name) == before
    assert store.complete(name, 0, status="COMPLETED", observations=_MANY[:1]).status == "COMPLETED"


def test_a_disk_that_refuses_a_write(file_store: tuple[ExperimentStore, Path]) -> None:
    store, _ = file_store
    name = experiment(store)
    before = store.snapshot(name)

    def work(_: int) -> Any:
        # The kernel refuses to let any file of this process grow beyond 64 kB: the write-ahead log hits it first.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        return store.complete(name, 0, status="COMPLETED", observations=_MANY)

    (answer,) = at_once(1, work)
    assert isinstance(answer, StoreUnavailableError) and "permissions and disk" in answer.fix
    assert store.snapshot(name) == before
    assert store.complete(name, 0, status="COMPLETED", observations=_MANY).status == "COMPLETED"


def test_a_file_that_cannot_be_written(file_store: tuple[ExperimentStore, Path]) -> None:
    store, _ = file_store
    name = experiment(store)
    _each_connection(store, "query_only=ON")
    with pytest.raises(StoreUnavailableError, match=r"readonly database.*make the database writable"):
        store.complete(name, 0, status="FAILED")
    assert store.trial(name, 0).status == "CANDIDATE"


def test_a_file_that_was_replaced(file_store: tuple[ExperimentStore, Path], migrated_file: Path) -> None:
    store, path = file_store
    experiment(store)
    for file in path.parent.glob("store.db*"):
        file.unlink()
    path.write_bytes(migrated_file.read_bytes())
    assert store.summaries() == []
    name = experiment(store)
    assert ExperimentStore(f"sqlite:///{path}").trial(name, 0).status == "CANDIDATE"


def test_no_connection_crosses_a_fork(file_store: tuple[ExperimentStore, Path]) -> None:
    store, path = file_store
    experiment(store)

    def opened() -> list[str]:
        return [file.path for file in psutil.Process().open_files() if file.path == str(path)]

    assert opened(), "kept open between transactions"
    assert at_once(1, lambda _: opened()) == [[]]


def test_a_standby_server(server: Server, server_database: str) -> None:
    url = server.url(server_database)
    store = ExperimentStore(url)
    name = experiment(store)
    store.close()
    with server.read_only(server_database):
        with pytest.raises(StoreUnavailableError, match=r"read-only.*make the database writable"):
            store.complete(name, 0, status="FAILED")
        assert store.trial(name, 0).status == "CANDIDATE"
        store.close()


def test_waiting_for_another_writer_needs_no_second_try(file_store: tuple[ExperimentStore, Path]) -> None:
    store, path = file_store
    name = experiment(store)
    impatient = ExperimentStore(f"sqlite:///{path}", retry_seconds=0)
    other = sa.create_engine(f"sqlite:///{path}", connect_args={"isolation_level": None, "check_same_thread": False})
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("UPDATE axtx_experiments SET ax_version = 'other'")
        threading.Timer(0.3, connection.exec_driver_sql, ["COMMIT"]).start()
        assert impatient.complete(name, 0, status="FAILED").status == "FAILED"


def test_a_writer_that_never_ends(file_store: tuple[ExperimentStore, Path]) -> None:
    store, path = file_store
    name = experiment(store)
    _each_connection(store, "busy_timeout=100")
    blocking = sa.create_engine(f"sqlite:///{path}", connect_args={"isolation_level": None})
    with blocking.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        assert store.trial(name, 0).status == "CANDIDATE"  # readers do not wait
        with pytest.raises(StoreUnavailableError, match="database is locked"):
            store.complete(name, 0, status="FAILED")
        connection.exec_driver_sql("ROLLBACK")
    assert store.complete(name, 0, status="FAILED").status == "FAILED"
