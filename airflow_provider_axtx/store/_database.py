"""Connections and transactions: one engine for each database and process, every transaction short and retried."""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from airflow_provider_axtx.core.errors import InvalidInputError, StoreUnavailableError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.store._failures import is_transient, translated

T = TypeVar("T")

#: Seconds for which a transaction is tried again while the database is away or busy.
DEFAULT_RETRY_SECONDS = 60.0
#: Seconds that SQLite itself waits for another process's write transaction before it says "locked".
_SQLITE_BUSY_SECONDS = 15.0
_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
#: The execution option that carries the statement to execute when a transaction begins (SQLite, MySQL).
_BEGIN = "axtx_begin"
_READ_BEGINS = {"sqlite": "BEGIN", "mysql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"}
# SQLite: a transaction that reads first and writes later cannot wait ("database is locked" at once, the busy timeout
# notwithstanding), so it takes the write lock at its beginning. MySQL: its default also locks the gaps between rows,
# over which trials that are completed at once would deadlock.
_WRITE_BEGINS = {"sqlite": "BEGIN IMMEDIATE", "mysql": "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"}
#: A cable that is cut sends no packet: without these a transaction would wait for the kernel's two hours.
_POSTGRESQL_TIMEOUTS: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
#: Longer than the server itself waits for a lock (50 s).
_MYSQL_TIMEOUTS: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 90, "write_timeout": 90}
_TIMEOUTS = {"postgresql+psycopg": _POSTGRESQL_TIMEOUTS, "mysql+pymysql": _MYSQL_TIMEOUTS}
#: A reader holds a thread of Airflow's API server, which has forty of them for all users.
_READER_SECONDS = 2
_READER_TIMEOUTS: dict[str, dict[str, Any]] = {
    "postgresql+psycopg": {
        **_POSTGRESQL_TIMEOUTS,
        "connect_timeout": _READER_SECONDS,
        "tcp_user_timeout": _READER_SECONDS * 1000,
        "options": f"-c statement_timeout={_READER_SECONDS * 1000} -c default_transaction_read_only=on",
    },
    "mysql+pymysql": dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), _READER_SECONDS),
}


class Database:
    """Runs short transactions on one database.

    A transaction is a function of a connection, which may be called several times: after a lost connection it is
    unknown whether the commit went through, so each function must recognise what an earlier call of it has written.

    :param url: SQLAlchemy URL; ``sqlite``, ``postgresql`` or ``mysql``.
    :param retry_seconds: for how long a transient failure is retried.
    :param reader: use connections that cannot write, create no file, and give up after two seconds without an answer.
    :raises InvalidInputError: for a URL that cannot be used, or a missing driver.
    """

    def __init__(self, url: str, retry_seconds: float = DEFAULT_RETRY_SECONDS, *, reader: bool = False) -> None:
        self._url = checked_url(url)
        self._retry_seconds = retry_seconds
        self._engine = _engine_for(self._url, reader)

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def backend(self) -> str:
        """``sqlite``, ``postgresql`` or ``mysql`` (also MariaDB)."""
        return self._url.get_backend_name().replace("mariadb", "mysql")

    @property
    def exists(self) -> bool:
        """False when it is an SQLite file that does not exist; a server is only asked when a transaction begins."""
        return self.backend != "sqlite" or Path(str(self._url.database)).is_file()

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run a transaction that only reads; all its statements see the database at one moment."""

        @_undisturbed
        def attempt() -> T:
            options = {_BEGIN: _READ_BEGINS.get(self.backend, "")}
            if self.backend == "postgresql":
                # Its default gives each statement its own moment: a version older than the rows read after it.
                options["isolation_level"] = "REPEATABLE READ"
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                return work(connection)

        return self._retried(attempt)

    def write(self, step: str, work: Callable[[sa.Connection], T]) -> T:
        """Run a transaction that writes.

        :param step: its name, for the crash points ``store.before_<step>_commit`` and ``store.after_<step>_commit``.
        :param work: what it does; may be called again after a commit that went through unnoticed.
        """

        @_undisturbed
        def attempt() -> T:
            options = {_BEGIN: _WRITE_BEGINS.get(self.backend, "")}
            with self._engine.connect().execution_options(**options) as connection:
                with connection.begin():
                    result = work(connection)
                    crash_point(f"store.before_{step}_commit")
                crash_point(f"store.after_{step}_commit")
            return result

        return self._retried(attempt)

    def use_wal(self) -> None:
        """Switch an SQLite file to write-ahead logging, so that readers and the writer do not wait for each other."""

        def attempt() -> None:
            # The mode cannot change inside a transaction.
            with self._engine.connect().execution_options(**{_BEGIN: ""}) as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")

        self._retried(attempt)

    @contextmanager
    def named_lock(self, name: str, seconds: int) -> Iterator[None]:
        """Hold a lock of a MySQL server by its name; it ends with the connection that took it.

        :raises StoreUnavailableError: when another process holds it for longer than ``seconds``.
        """
        with ExitStack() as closing:

            def take() -> Any:
                connection = closing.enter_context(self._engine.connect())
                connection.detach()  # from the pool: it is closed for good at the end, and the lock with it
                return connection.scalar(sa.select(sa.func.get_lock(name, seconds)))

            if self._retried(take) != 1:
                raise StoreUnavailableError(
                    f"Another process has held the lock {name!r} of {self.shown_url} for {seconds} s.",
                    fix="retry when it has finished; SELECT IS_USED_LOCK(name) tells its connection.",
                )
            yield

    def close(self) -> None:
        """Close this process's idle connections to the database; the next transaction opens a new one."""
        self._engine.dispose()

    def _retried(self, attempt: Callable[[], T]) -> T:
        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_delay(self._retry_seconds),
            wait=wait_random_exponential(multiplier=0.05, max=2.0),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except sa.exc.SQLAlchemyError as error:
            raise translated(error, self.shown_url) from error


def _undisturbed(attempt: Callable[[], T]) -> Callable[[], T]:
    """Let a SIGTERM wait until the transaction is over.

    Airflow ends a task by SIGTERM, whose handler calls ``on_kill``, which records the cancellation in this store. In
    the middle of a transaction it would wait for a lock that the interrupted transaction holds: for ever.
    """

    @functools.wraps(attempt)
    def guarded() -> T:
        if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGTERM)):
            return attempt()
        received: list[int] = []
        handler = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
        try:
            return attempt()
        finally:
            signal.signal(signal.SIGTERM, handler)
            if received:
                signal.raise_signal(signal.SIGTERM)

    return guarded


def checked_url(url: str) -> sa.URL:
    """Return the URL with the driver that this package uses.

    :raises InvalidInputError: when it cannot be parsed or names a database that cannot serve several processes.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        # The text is not shown: a URL that does not parse may still hold a password.
        raise InvalidInputError(
            "The URL of the experiment store (ax connection) is not a database URL.",
            fix="write dialect://login:password@host:port/database, with special characters percent-encoded.",
        ) from error
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise InvalidInputError(
            f"The experiment store (ax connection) cannot be on {backend!r}.",
            fix="use a URL that starts with sqlite:////, postgresql:// or mysql://.",
        )
    if backend == "sqlite":
        _check_sqlite_path(parsed.database)
    return parsed if "+" in parsed.drivername else parsed.set(drivername=_DRIVERS[backend])


def _check_sqlite_path(path: str | None) -> None:
    # Tasks run in other processes and other working directories: an in-memory database or a relative path would give
    # each its own, silently.
    if not path or not Path(path).is_absolute():
        raise InvalidInputError(
            f"The SQLite path of the experiment store (ax connection) is not absolute: {path or 'in memory'!r}.",
            fix="write four slashes and the full path: sqlite:////folder/file.db.",
        )
    if not Path(path).parent.is_dir():
        raise InvalidInputError(
            f"The folder of the experiment store (ax connection) does not exist: {Path(path).parent}.",
            fix="create the folder, or correct the path in the URL.",
        )


_engines: dict[tuple[sa.URL, bool], sa.Engine] = {}
_engines_lock = threading.Lock()


def _engine_for(url: sa.URL, reader: bool) -> sa.Engine:
    with _engines_lock:
        if (url, reader) not in _engines:
            _engines[url, reader] = _new_engine(url, reader)
        return _engines[url, reader]


def _before_fork() -> None:
    """An SQLite connection must never cross a fork, not even to be closed (howtocorrupt.html, 2.6)."""
    for engine in list(_engines.values()):  # another thread may be adding one
        if engine.dialect.name == "sqlite":
            engine.dispose()


def _after_fork() -> None:
    """Airflow forks its workers: the child must not speak on the parent's connections, nor close them."""
    global _engines_lock
    _engines_lock = threading.Lock()
    for engine in _engines.values():
        engine.dispose(close=False)


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _new_engine(url: sa.URL, reader: bool) -> sa.Engine:
    try:
        if url.get_backend_name() == "sqlite":
            return _sqlite_engine(url, reader)
        timeouts = (_READER_TIMEOUTS if reader else _TIMEOUTS).get(url.drivername, {})
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=8,
            pool_timeout=_READER_SECONDS if reader else 30,
            pool_recycle=1800,
            connect_args={name: value for name, value in timeouts.items() if name not in url.query},
        )
        if engine.dialect.name in ("mysql", "mariadb"):
            sa.event.listen(engine, "connect", _set_up_mysql)
            if reader:
                sa.event.listen(engine, "connect", _make_mysql_read_only)
            sa.event.listen(engine, "begin", _begin)
        return engine
    except (ImportError, sa.exc.ArgumentError) as error:
        extra = "postgres" if url.get_backend_name() == "postgresql" else "mysql"
        raise InvalidInputError(
            f"The driver {url.drivername!r} of the experiment store's URL (ax connection) cannot be loaded: {error}.",
            fix=f"pip install 'airflow-provider-axtx[{extra}]', or name an installed driver in the URL.",
        ) from error


def _sqlite_engine(url: sa.URL, reader: bool) -> sa.Engine:
    path = Path(str(url.database))
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        # Kept open between transactions: the last to close a file copies its write-ahead log back and deletes it, and
        # opening it anew reads its schema; both together took half of each of the thirty small transactions of a trial.
        pool_size=2,
        max_overflow=-1,
        # isolation_level None: the driver's own BEGIN comes too late and only before a write.
        connect_args={"isolation_level": None, "timeout": _SQLITE_BUSY_SECONDS},
        **({"creator": lambda: _connect_reader(path)} if reader else {}),
    )

    def set_up(connection: Any, record: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA query_only={'ON' if reader else 'OFF'}")
        record.info["file"] = _file_at(path)

    def refuse_another_file(_: Any, record: ConnectionPoolEntry, __: Any) -> None:
        if record.info["file"] != _file_at(path):
            # Deleted or replaced meanwhile: what is written into a deleted file is lost.
            raise sa.exc.DisconnectionError(f"{path} is another file now")

    sa.event.listen(engine, "connect", set_up)
    sa.event.listen(engine, "checkout", refuse_another_file)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _connect_reader(path: Path) -> sqlite3.Connection:
    # Not mode=ro: the last connection to close would leave the write-ahead log's files behind.
    uri = f"file:{quote(str(path))}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_READER_SECONDS, check_same_thread=False)


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from any other, or None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _set_up_mysql(connection: Any, _: ConnectionPoolEntry) -> None:
    with connection.cursor() as cursor:
        # Without it a server of relaxed settings cuts a value that is too long, and says nothing.
        cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")


def _make_mysql_read_only(connection: Any, _: ConnectionPoolEntry) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")


def _begin(connection: sa.Connection) -> None:
    statement = connection.get_execution_options().get(_BEGIN)
    if statement:
        connection.exec_driver_sql(statement)
