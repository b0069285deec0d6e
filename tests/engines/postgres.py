"""A private PostgreSQL server for tests: an own data folder, a free loopback port, stopped at the end.

Import the fixtures into a ``conftest.py``: ``from tests.engines.postgres import postgres_server, postgres_url``.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

LOGIN = "axtx_tests"
_START_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
_SETTINGS = {
    "max_connections": "200",
    # Losing the data of a test at a power cut is fine.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
}


def find_programs() -> Path:
    """Return the folder of PostgreSQL's server programs."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], check=True, capture_output=True, text=True)
        folders.insert(0, Path(answer.stdout.strip()))
    for folder in folders:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    looked_in = ", ".join(map(str, folders)) or "no pg_config on PATH, no /usr/lib/postgresql"
    raise RuntimeError(
        f"The PostgreSQL tests need the server programs initdb and postgres ({looked_in}). "
        "Fix: install them (Debian: apt-get install postgresql), or leave these tests out with -m 'not postgres'."
    )


def _unprivileged() -> dict[str, Any]:
    """Return the subprocess arguments to run the server: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = known.get("postgres") or known["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _end_with_parent() -> None:
    """Let the kernel tell this process (a server, on Linux) to stop when the process that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificates(folder: Path) -> None:
    """Make an authority (``ca.pem``) and a certificate for 127.0.0.1 signed by it (``server.pem``, ``server.key``)."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=axtx tests", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *sign, "-out", "server.pem")


class PostgresServer:
    """One server; ``start`` and ``stop`` may alternate (an outage) and keep port and data.

    :param tls: whether it takes connections over TLS and no others; its certificate is for 127.0.0.1.
    :param address: where it listens; clients of the same network of 256 addresses are let in.
    """

    #: What a COMMIT looks like on the wire.
    commit = b"COMMIT\x00"

    def __init__(self, *, tls: bool = False, address: str = "127.0.0.1") -> None:
        self.address = address
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self._programs = find_programs()
        self._account = _unprivileged()
        # Not below pytest's tmp_path: that is closed to the account which the server runs under.
        self._folder = Path(tempfile.mkdtemp(prefix="axtx-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._settings = {**_SETTINGS, "listen_addresses": address}
        self._initialise()
        if tls:
            self._require_tls()

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signed the server's; only with ``tls``."""
        return self._folder / "ca.pem"

    def _require_tls(self) -> None:
        make_certificates(self._folder)
        key = self._folder / "server.key"
        key.chmod(0o600)
        if self._account:
            os.chown(key, self._account["user"], self._account["group"])
        # Others read the authority's certificate.
        self._folder.chmod(0o755)
        self._settings |= {"ssl": "on", "ssl_cert_file": str(self._folder / "server.pem"), "ssl_key_file": str(key)}
        access = self._folder / "data" / "pg_hba.conf"
        access.write_text(access.read_text().replace("\nhost ", "\nhostssl "))

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.write_text(self.password)
        if self._account:
            for path in (self._folder, secret):
                os.chown(path, self._account["user"], self._account["group"])
        initdb = [self._programs / "initdb", "-D", self._folder / "data", "-U", LOGIN, "--pwfile", secret]
        options = ["--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        made = subprocess.run(
            [*map(str, initdb), *options], capture_output=True, text=True, cwd=self._folder, **self._account
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr or made.stdout}")
        with (self._folder / "data" / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {self.address}/24 scram-sha-256\n")

    def start(self) -> None:
        """Start the server and return when it answers."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        place = ["-D", str(self._folder / "data"), "-p", str(self.port), "-k", str(self._folder)]
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), *place, *settings],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self._folder,
                # Ctrl-C in a terminal goes to pytest, which stops the server itself.
                start_new_session=True,
                # A killed pytest stops nothing, and its server would stay. The kernel means the thread that starts it:
                # a server that a thread restarts would stop when that thread ends.
                preexec_fn=_end_with_parent if threading.current_thread() is threading.main_thread() else None,
                **self._account,
            )
        self._await_answer(time.monotonic() + _START_SECONDS)

    def _await_answer(self, deadline: float) -> None:
        while True:
            try:
                psycopg.connect(self._conninfo("postgres")).close()
                return
            except psycopg.OperationalError as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{log}") from error
                time.sleep(0.05)

    def stop(self, *, crash: bool = False) -> None:
        """Stop the server; open connections are cut (``crash``: without the server telling its clients)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            self._process.wait(timeout=_START_SECONDS)
            self._process = None

    def remove(self) -> None:
        """Stop the server and remove its data."""
        # Its data goes anyway: an orderly stop would write it all to disk first.
        self.stop(crash=True)
        shutil.rmtree(self._folder)

    def _conninfo(self, database: str) -> str:
        return f"host={self.address} port={self.port} user={LOGIN} password={self.password} dbname={database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside a transaction."""
        with psycopg.connect(self._conninfo(database), autocommit=True) as connection:
            connection.execute(statement)

    def truncate(self, database: str, tables: Sequence[str]) -> None:
        """Empty the tables."""
        self.execute(f"TRUNCATE {', '.join(tables)}", database)

    @contextmanager
    def read_only(self, database: str) -> Iterator[None]:
        """Refuse writes in new connections, as a standby does, for the time of a block."""
        self.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            self.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")

    def new_database(self) -> str:
        """Create an empty database; return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str, *, port: int | None = None) -> str:
        """Return the SQLAlchemy URL of a database, through another port (a proxy) if wanted."""
        return f"postgresql+psycopg://{LOGIN}:{self.password}@{self.address}:{port or self.port}/{database}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server, one for each test process (so that pytest-xdist's workers do not share one)."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database of the test's own."""
    return postgres_server.url(postgres_server.new_database())
