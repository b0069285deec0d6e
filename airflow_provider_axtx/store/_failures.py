"""What a database error means: try again, tell the user what to mend, or another process was first."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa

from airflow_provider_axtx.core.errors import (
    AxtxError,
    InvalidInputError,
    SchemaVersionError,
    StoreConflictError,
    StoreUnavailableError,
)

_TRANSIENT_SQLITE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
#: Serialization failure, deadlock, lock not available, too many connections, shutdown, crash, starting up.
_TRANSIENT_SQLSTATES = {"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"}
#: Lock wait timeout, deadlock, too many connections, connection refused or lost.
_TRANSIENT_MYSQL = {1205, 1213, 1040, 2002, 2003, 2006, 2013}

_FULL = {sqlite3.SQLITE_FULL, "53100", 1021, 1114}
_READ_ONLY = {sqlite3.SQLITE_READONLY, "25006", 1290, 1836}
_UNREADABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR}
_NOT_A_DATABASE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
_NO_TABLE = {"42P01", 1146}
#: Insufficient privilege, wrong password or role, no such database.
_REFUSED = {"42501", "28000", "28P01", "3D000", 1044, 1045, 1049, 1142}
#: libpq reports a refused connection as text only, without an SQLSTATE.
_REFUSED_TEXTS = ("authentication failed", "no pg_hba.conf entry", "no password supplied")


def _code(error: BaseException) -> int | str | None:
    """Return the driver's own error code: SQLite's primary code, an SQLSTATE or a MySQL number."""
    original = getattr(error, "orig", None)
    if isinstance(original, sqlite3.Error):
        code: int = getattr(original, "sqlite_errorcode", 0)
        # How a full disk shows before any page is written: the file shared by a log's readers cannot be made.
        return sqlite3.SQLITE_FULL if code == sqlite3.SQLITE_IOERR_SHMSIZE else code & 0xFF
    state = getattr(original, "sqlstate", None)
    if state is not None:
        return str(state)
    arguments = getattr(original, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _first_line(error: BaseException) -> str:
    """Return the driver's message; SQLAlchemy's own would add the statement."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]


def _is_refused(error: BaseException) -> bool:
    text = str(getattr(error, "orig", None))
    return (
        _code(error) in _REFUSED
        or any(part in text for part in _REFUSED_TEXTS)
        or ("FATAL:" in text and "does not exist" in text)
    )


def is_transient(error: BaseException) -> bool:
    """Return whether the same transaction may succeed in a moment without anybody changing anything."""
    if isinstance(error, sa.exc.TimeoutError):
        return True
    if not isinstance(error, sa.exc.DBAPIError) or _is_refused(error):
        return False
    if error.connection_invalidated:
        return True
    code = _code(error)
    if isinstance(error.orig, sqlite3.Error):
        return code in _TRANSIENT_SQLITE
    if isinstance(code, str):
        return code in _TRANSIENT_SQLSTATES or code.startswith("08")
    # PostgreSQL's driver has no code for a connection that broke or was never made.
    return code in _TRANSIENT_MYSQL or (code is None and isinstance(error, sa.exc.OperationalError))


def translated(error: sa.exc.SQLAlchemyError, store: str) -> AxtxError:
    """Return the error to show for one that a retry did not cure.

    :param error: what SQLAlchemy raised.
    :param store: the store's URL without its password.
    """
    said = f"The experiment store {store} said: {_first_line(error)}."
    code = _code(error)
    if isinstance(error, sa.exc.IntegrityError):
        return StoreConflictError(said, fix="read the experiment again and repeat the step.")
    if isinstance(error, sa.exc.DataError):
        return InvalidInputError(said, fix="shorten or correct the value that the database refuses.")
    if code in _NOT_A_DATABASE:
        return InvalidInputError(said, fix="point the ax connection at an SQLite file, or restore it from a backup.")
    if _is_refused(error):
        return InvalidInputError(
            said, fix="correct login, password, host and schema (the database's name) of the ax connection."
        )
    if code in _NO_TABLE or "no such table" in said:
        return SchemaVersionError(said, fix="open the store again (this creates its tables) with a login that may.")
    return StoreUnavailableError(said, fix=_unavailable_fix(code))


def _unavailable_fix(code: int | str | None) -> str:
    if code in _FULL:
        return "free space on the database's disk, then retry; nothing was half-written."
    if code in _READ_ONLY:
        return "make the database writable (file permissions, or the primary server instead of a standby), then retry."
    if code in _UNREADABLE:
        return "check the file's path, permissions and disk in the ax connection's URL, then retry."
    return "check that the database is up and reachable from this machine, then retry; nothing was half-written."
