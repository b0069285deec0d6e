"""A private MariaDB server for tests: an own data folder, a free loopback port, stopped at the end.

Import the fixtures into a ``conftest.py``: ``from tests.engines.mariadb import mariadb_server, mariadb_url``.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pymysql
import pytest

from tests.engines.postgres import free_port

LOGIN = "axtx_tests"
_START_SECONDS = 60.0
_SETTINGS = (
    "--bind-address=127.0.0.1",
    "--max_connections=150",
    # As many a server in the wild: values that do not fit are cut silently, unless the client asks for better.
    "--sql_mode=",
    # Losing the data of a test at a power cut is fine.
    # Handed to the system at each commit: a killed server loses nothing. Only a power cut could.
    "--innodb_flush_log_at_trx_commit=2",
    "--innodb_doublewrite=OFF",
    "--innodb_buffer_pool_size=32M",
    "--innodb_log_file_size=16M",
    "--performance_schema=OFF",
    "--skip-log-bin",
    "--skip-name-resolve",
)
_PLACES = {"datadir": "data", "socket": "socket", "pid-file": "pid", "init-file": "init.sql"}


class MariadbServer:
    """One server; ``start`` and ``stop`` may alternate (an outage) and keep port and data."""

    #: What a COMMIT looks like on the wire: the text query command and its text.
    commit = b"\x03COMMIT"

    def __init__(self) -> None:
        if not shutil.which("mariadbd"):
            raise RuntimeError(
                "The MariaDB tests need the server program mariadbd. Fix: install it (Debian: apt-get install "
                "mariadb-server; make engines-mysql does), or leave these tests out."
            )
        self.port = free_port()
        self.password = secrets.token_hex(8)
        # Not below pytest's tmp_path: that is closed to the account which the server runs under.
        self._folder = Path(tempfile.mkdtemp(prefix="axtx-mariadb-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._initialise()

    @property
    def _account(self) -> list[str]:
        # It refuses to run as root.
        return ["--user=mysql"] if os.geteuid() == 0 else []

    def _initialise(self) -> None:
        data = self._folder / "data"
        if self._account:
            shutil.chown(self._folder, "mysql")
        options = [f"--datadir={data}", "--skip-test-db", "--auth-root-authentication-method=normal"]
        made = subprocess.run(
            ["mariadb-install-db", "--no-defaults", *self._account, *options], capture_output=True, text=True
        )
        if made.returncode != 0:
            raise RuntimeError(f"mariadb-install-db failed: {made.stderr or made.stdout}")
        # Run by the server when it starts. No administrator's rights: those would pass a server that is read-only.
        (self._folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS {LOGIN}@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON `test\\_%`.* TO {LOGIN}@'127.0.0.1';\n"
        )

    def start(self) -> None:
        """Start the server and return when it answers."""
        place = [f"--{name}={self._folder / file}" for name, file in _PLACES.items()]
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                ["mariadbd", "--no-defaults", *self._account, *place, f"--port={self.port}", *_SETTINGS],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                # Ctrl-C in a terminal goes to pytest, which stops the server itself.
                start_new_session=True,
            )
        self._await_answer(time.monotonic() + _START_SECONDS)

    def _await_answer(self, deadline: float) -> None:
        while True:
            try:
                pymysql.connect(host="127.0.0.1", port=self.port, user=LOGIN, password=self.password).close()
                return
            except pymysql.OperationalError as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"MariaDB did not start: {error}\n{log}") from error
                time.sleep(0.05)

    def stop(self, *, crash: bool = False) -> None:
        """Stop the server; open connections are cut (``crash``: without the server telling its clients)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if crash else signal.SIGTERM)
            self._process.wait(timeout=_START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop the server and remove its data."""
        self.stop(crash=True)
        shutil.rmtree(self._folder)

    def execute(self, *statements: str, database: str | None = None) -> None:
        """Run statements as the administrator."""
        socket = str(self._folder / "socket")
        with (
            pymysql.connect(unix_socket=socket, user="root", database=database, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)

    def truncate(self, database: str, tables: Sequence[str]) -> None:
        """Empty the tables."""
        # TRUNCATE makes new files.
        emptied = [f"DELETE FROM {table}" for table in tables]
        self.execute("SET foreign_key_checks = 0", *emptied, database=database)

    @contextmanager
    def read_only(self, database: str) -> Iterator[None]:
        """Refuse writes, as a replica does, for the time of a block."""
        self.execute("SET GLOBAL read_only = ON")
        try:
            yield
        finally:
            self.execute("SET GLOBAL read_only = OFF")

    def new_database(self) -> str:
        """Create an empty database; return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        # Another collation than the tables ask for.
        self.execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
        return name

    def url(self, database: str, *, port: int | None = None) -> str:
        """Return the SQLAlchemy URL of a database, through another port (a proxy) if wanted."""
        return f"mysql+pymysql://{LOGIN}:{self.password}@127.0.0.1:{port or self.port}/{database}"


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariadbServer]:
    """A running server, one for each test process (so that pytest-xdist's workers do not share one)."""
    server = MariadbServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def mariadb_url(mariadb_server: MariadbServer) -> str:
    """The URL of an empty database of the test's own."""
    return mariadb_server.url(mariadb_server.new_database())
