"""From an Airflow connection to the SQLAlchemy URL of the experiment store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import read_json

if TYPE_CHECKING:
    from airflow.sdk import Connection

_POSTGRESQL, _MYSQL, _SQLITE = "postgresql+psycopg", "mysql+pymysql", "sqlite"
#: SQLAlchemy driver by connection type: a plain database connection can be used as it is.
_DRIVERS = {"postgres": _POSTGRESQL, "postgresql": _POSTGRESQL, "mysql": _MYSQL, "sqlite": _SQLITE}
#: What the extra field ``drivername`` of an ``ax`` connection may hold.
DRIVERNAMES = (_SQLITE, _POSTGRESQL, _MYSQL)

#: Extra fields that are passed on to the driver, under the names that Airflow's own providers use. Others are refused:
#: dropping one silently may mean a connection without TLS.
_OPTIONS: Mapping[str, frozenset[str]] = {
    _POSTGRESQL: frozenset(
        {
            *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "ssl_min_protocol_version"),
            *("channel_binding", "gssencmode", "passfile"),
            *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
            *("tcp_user_timeout", "target_session_attrs", "application_name", "client_encoding", "options"),
        }
    ),
    _MYSQL: frozenset(
        {
            *("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher", "ssl_check_hostname"),
            *("connect_timeout", "read_timeout", "write_timeout", "charset", "unix_socket"),
        }
    ),
    _SQLITE: frozenset(),
}
#: What Airflow's MySQL provider takes inside of its field ``ssl``.
_MYSQL_SSL = ("ca", "capath", "cert", "key", "cipher", "check_hostname")
_WHOLE_NUMBERS = frozenset(
    {
        *("connect_timeout", "read_timeout", "write_timeout", "tcp_user_timeout"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    }
)


def connection_url(connection: Connection) -> str:
    """Return the SQLAlchemy URL that a connection describes, with the password.

    :param connection: type ``ax`` with the extra field ``drivername``, or a plain database connection of type
        ``postgres``, ``mysql`` or ``sqlite``. ``schema`` is the database; for SQLite the absolute path of the file
        stands in ``schema`` or ``host``.
    :raises InvalidInputError: when a field is missing or cannot be used; names the connection and the field.
    """
    from sqlalchemy.engine import URL

    where = f"connection {connection.conn_id!r}"
    extra = _extra(connection, where)
    drivername = _drivername(connection, extra, where)
    query = _options(drivername, extra, where)
    if drivername == _SQLITE:
        return URL.create(drivername, database=_sqlite_path(connection, where)).render_as_string()
    if not connection.schema:
        raise InvalidInputError(f"{where}: the field schema is empty.", fix="set it to the database's name.")
    host = connection.host
    if not host and "unix_socket" not in query:
        raise InvalidInputError(f"{where}: the field host is empty.", fix="set it to the database server's name.")
    if host and host.startswith("/"):
        # A folder of sockets does not fit between the @ and the port of a URL.
        query, host = {**query, "host": host}, None
    url = URL.create(
        drivername,
        username=connection.login,
        password=connection.password,
        host=host,
        port=connection.port,
        database=connection.schema,
        query=query,
    )
    return url.render_as_string(hide_password=False)


def _extra(connection: Connection, where: str) -> dict[str, Any]:
    try:
        extra = read_json(connection.extra or "{}")
    except ValueError as error:
        raise InvalidInputError(
            f"{where}: the field extra is not valid JSON (line {error.lineno}, column {error.colno})."
            if isinstance(error, json.JSONDecodeError)
            else f"{where}: the field extra is not valid JSON.",
            fix="write a JSON object into the field extra.",
        ) from None
    if not isinstance(extra, dict):
        raise InvalidInputError(f"{where}: the field extra is not a JSON object.", fix='write for example {"a": "b"}.')
    return {name: value for name, value in extra.items() if value is not None and value != ""}


def _drivername(connection: Connection, extra: dict[str, Any], where: str) -> str:
    if connection.conn_type in _DRIVERS:
        return _DRIVERS[connection.conn_type]
    if connection.conn_type != "ax":
        raise InvalidInputError(
            f"{where}: the type {connection.conn_type!r} cannot hold an experiment store.",
            fix=f"use type ax, or one of {', '.join(sorted(_DRIVERS))}.",
        )
    drivername = str(extra.pop("drivername", _SQLITE))
    if drivername not in DRIVERNAMES:
        raise InvalidInputError(
            f"{where}: drivername {drivername!r} is not supported.", fix=f"one of {', '.join(DRIVERNAMES)}."
        )
    return drivername


def _options(drivername: str, extra: dict[str, Any], where: str) -> dict[str, str]:
    """Return the options of the driver, checked by name; errors never show a value."""
    if drivername == _MYSQL and "ssl" in extra:
        extra = {**extra, **_mysql_ssl(extra["ssl"], where)}
        del extra["ssl"]
    refused = sorted(set(extra) - _OPTIONS[drivername])
    if refused:
        known = ", ".join(sorted(_OPTIONS[drivername])) or "none"
        raise InvalidInputError(
            f"{where}: the experiment store does not know the extra field(s) {', '.join(refused)}.",
            fix=f"remove them, or define a connection of type ax for the store. Known for {drivername} are: {known}.",
        )
    for name, value in extra.items():
        if not isinstance(value, str | int | bool):
            raise InvalidInputError(f"{where}: the extra field {name} is not text or a number.", fix="correct it.")
        if name in _WHOLE_NUMBERS and not str(value).isdecimal():
            raise InvalidInputError(f"{where}: the extra field {name} is not a whole number.", fix="correct it.")
    return {name: str(value) for name, value in extra.items()}


def _mysql_ssl(value: Any, where: str) -> dict[str, Any]:
    """Return the fields ``ssl_...`` for the field ``ssl`` of Airflow's MySQL provider, an object or its JSON text."""
    if isinstance(value, str):
        try:
            value = read_json(value)
        except ValueError:
            value = None
    if not isinstance(value, dict) or set(value) - set(_MYSQL_SSL):
        raise InvalidInputError(
            f"{where}: the extra field ssl is not an object with some of the keys {', '.join(_MYSQL_SSL)}.",
            fix='write for example {"ssl": {"ca": "/path/to/ca.pem"}}.',
        )
    return {f"ssl_{name}": one for name, one in value.items()}


def _sqlite_path(connection: Connection, where: str) -> str:
    host, schema = connection.host, connection.schema
    if host and schema:
        raise InvalidInputError(
            f"{where}: both host ({host!r}) and schema ({schema!r}) are set.",
            fix="keep the one that is the absolute path of the SQLite file.",
        )
    if host and not host.startswith("/"):
        raise InvalidInputError(
            f"{where}: the field host {host!r} is not an absolute path.",
            fix="set it, or the field schema, to the absolute path of the SQLite file.",
        )
    path = host or schema
    if not path:
        raise InvalidInputError(
            f"{where}: the fields host and schema are empty.",
            fix="set one of them to the absolute path of the SQLite file.",
        )
    # Airflow drops the slash of a path that is part of a connection's URI.
    return path if path.startswith("/") else f"/{path}"
