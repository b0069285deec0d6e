"""The URL of the experiment store from a connection: which options the driver gets, and which are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import Connection
from sqlalchemy.engine import make_url

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.hooks.store_url import connection_url

POSTGRES: dict[str, Any] = {"conn_type": "postgres", "host": "db", "login": "ax", "password": "pw", "schema": "trials"}
MYSQL = {**POSTGRES, "conn_type": "mysql"}
SQLITE: dict[str, Any] = {"conn_type": "sqlite"}


def url(extra: object = None, **fields: Any) -> str:
    text = extra if isinstance(extra, str) else json.dumps(extra or {})
    return connection_url(Connection(conn_id="team", extra=text, **fields))


def driver_arguments(text: str) -> dict[str, Any]:
    """Return the arguments with which SQLAlchemy calls the driver."""
    parsed = make_url(text)
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    return dict(arguments)


TLS = {"sslmode": "verify-full", "sslrootcert": "/certs/ca.pem", "sslcert": "/certs/me.pem", "sslkey": "/certs/me.key"}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({**POSTGRES, "extra": TLS}, id="postgres"),
        pytest.param({**POSTGRES, "conn_type": "ax", "extra": {**TLS, "drivername": "postgresql+psycopg"}}, id="ax"),
    ],
)
def test_postgresql_gets_the_tls_options(fields: dict[str, Any]) -> None:
    arguments = driver_arguments(url(**fields))
    assert {name: arguments[name] for name in TLS} == TLS
    assert (arguments["host"], arguments["user"], arguments["password"], arguments["dbname"]) == (
        "db",
        "ax",
        "pw",
        "trials",
    )


def test_postgresql_gets_other_options() -> None:
    extra = {"connect_timeout": 5, "keepalives_idle": "60", "options": "-c search_path=axtx", "sslmode": None}
    arguments = driver_arguments(url(extra, **POSTGRES))
    assert (arguments["connect_timeout"], arguments["keepalives_idle"]) == ("5", "60")
    assert arguments["options"] == "-c search_path=axtx"
    assert "sslmode" not in arguments


@pytest.mark.parametrize(
    "extra",
    [
        {"ssl_ca": "/ca.pem", "ssl_cert": "/me.pem", "ssl_key": "/me.key", "ssl_check_hostname": False},
        {"ssl": {"ca": "/ca.pem", "cert": "/me.pem", "key": "/me.key", "check_hostname": False}},
        {"ssl": '{"ca": "/ca.pem", "cert": "/me.pem", "key": "/me.key", "check_hostname": false}'},
    ],
)
@pytest.mark.parametrize("conn_type", ["mysql", "ax"])
def test_mysql_gets_the_tls_options(extra: dict[str, Any], conn_type: str) -> None:
    driver = {"drivername": "mysql+pymysql"} if conn_type == "ax" else {}
    arguments = driver_arguments(url({**extra, **driver}, **{**MYSQL, "conn_type": conn_type}))
    assert arguments["ssl"] == {"ca": "/ca.pem", "cert": "/me.pem", "key": "/me.key", "check_hostname": False}


def test_mysql_gets_other_options() -> None:
    arguments = driver_arguments(url({"charset": "utf8mb4", "connect_timeout": 7}, **MYSQL))
    assert (arguments["charset"], arguments["connect_timeout"]) == ("utf8mb4", 7)
    socket = {**MYSQL, "host": None}
    assert driver_arguments(url({"unix_socket": "/run/mysqld.sock"}, **socket))["unix_socket"] == "/run/mysqld.sock"


def test_postgresql_may_be_reached_through_a_socket() -> None:
    assert driver_arguments(url(**{**POSTGRES, "host": "/run/postgresql"}))["host"] == "/run/postgresql"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({**SQLITE, "host": "/data/ax.db"}, "sqlite:////data/ax.db"),
        ({**SQLITE, "schema": "/data/ax.db"}, "sqlite:////data/ax.db"),
        ({**SQLITE, "schema": "data/ax.db"}, "sqlite:////data/ax.db"),
        ({"conn_type": "ax", "host": "/data/ax.db"}, "sqlite:////data/ax.db"),
        ({"conn_type": "ax", "schema": "/data/ax.db"}, "sqlite:////data/ax.db"),
    ],
)
def test_the_file_of_sqlite_is_the_host_or_the_schema(fields: dict[str, Any], expected: str) -> None:
    assert url(**fields) == expected


def test_a_file_name_with_special_characters_stays_what_it_is() -> None:
    path = "/data/a?b#c%20d e/ax.db"
    assert make_url(url(conn_type="ax", schema=path)).database == path


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({**POSTGRES, "extra": {"sslmod": "require"}}, "sslmod"),
        ({**POSTGRES, "extra": {"iam": True, "sslmode": "require"}}, "iam"),
        ({**POSTGRES, "extra": {"ssl_ca": "/ca.pem"}}, "ssl_ca"),
        ({**POSTGRES, "extra": {"drivername": "sqlite"}}, "drivername"),
        ({**POSTGRES, "extra": {"sslmode": ["require"]}}, "sslmode"),
        ({**POSTGRES, "extra": {"connect_timeout": "soon"}}, "connect_timeout"),
        ({**POSTGRES, "extra": "[1]"}, "extra"),
        ({**POSTGRES, "extra": "{"}, "extra"),
        ({**POSTGRES, "schema": None}, "schema"),
        ({**POSTGRES, "host": None}, "host"),
        ({**MYSQL, "extra": {"ssl_mode": "REQUIRED"}}, "ssl_mode"),
        ({**MYSQL, "extra": {"ssl": "REQUIRED"}}, "ssl"),
        ({**MYSQL, "extra": {"ssl": {"password": "Ohw4"}}}, "ssl"),
        ({**SQLITE, "host": "/data/ax.db", "extra": {"mode": "ro"}}, "mode"),
        ({**SQLITE, "host": "data/ax.db"}, "host"),
        ({**SQLITE, "host": "/data/ax.db", "schema": "/data/other.db"}, "schema"),
        (SQLITE, "schema"),
        ({"conn_type": "ax", "schema": "/data/ax.db", "extra": {"drivername": "oracle"}}, "drivername"),
        ({"conn_type": "http", "host": "db"}, "http"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=f"(?s)'team'.*{named}") as caught:
        url(**fields)
    assert "Ohw4" not in str(caught.value)


def test_no_value_of_an_extra_field_is_shown() -> None:
    for extra in ({"sslpassword": "Ohw4"}, {"connect_timeout": "Ohw4"}, '{"sslpassword": "Ohw4'):
        with pytest.raises(InvalidInputError) as caught:
            url(extra, **POSTGRES)
        assert "Ohw4" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
