"""What the hooks make of their connections."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError, StoreNotFoundError
from airflow_provider_axtx.hooks import embedded
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook, TorchXSettings


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, value: dict[str, Any] | str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)


def test_without_a_connection_the_store_is_a_file_in_airflow_home(airflow_home: Path) -> None:
    assert AxHook().get_url() == f"sqlite:///{airflow_home}/axtx/experiments.db"
    assert AxHook().store.summaries() == []
    assert (airflow_home / "axtx" / "experiments.db").exists()


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_its_user_can_read_the_embedded_store(umask: int, airflow_home: Path) -> None:
    before = os.umask(umask)
    try:
        AxHook().store.create("e", {})
        files = {path.name: path.stat().st_mode & 0o777 for path in (airflow_home / "axtx").iterdir()}
    finally:
        os.umask(before)
    assert (airflow_home / "axtx").stat().st_mode & 0o777 == 0o700
    assert set(files) >= {"experiments.db", "experiments.db-wal"}
    assert set(files.values()) == {0o600}


def test_an_embedded_store_that_others_could_read_is_closed_to_them(airflow_home: Path) -> None:
    folder = airflow_home / "axtx"
    folder.mkdir(mode=0o755)
    sqlite3.connect(folder / "experiments.db").close()
    (folder / "experiments.db").chmod(0o644)
    AxHook().store.create("e", {})
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "experiments.db").stat().st_mode & 0o777 == 0o600


def test_reading_makes_no_store(airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreNotFoundError, match=r"experiments\.db"):
        _ = AxHook().existing_store
    assert list(airflow_home.iterdir()) == []
    connect(monkeypatch, "team", {"conn_type": "ax", "schema": str(tmp_path / "team.db")})
    with pytest.raises(StoreNotFoundError, match=r"team\.db"):
        _ = AxHook("team").existing_store
    assert not (tmp_path / "team.db").exists()
    AxHook("team").store.create("e", {})
    assert [summary.name for summary in AxHook("team").existing_store.summaries()] == ["e"]


def test_where_the_store_is_can_be_shown(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = AxHook().describe_store()
    assert f"{airflow_home}/axtx/experiments.db" in shown
    assert "the connection ax_default is not defined" in shown
    connect(monkeypatch, "ax_default", "postgresql://ax:secret123@db/trials")
    assert AxHook().describe_store() == "postgresql+psycopg://ax:***@db/trials (connection ax_default)"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"database__sql_alchemy_conn": "postgresql+psycopg2://a:secret123@db/airflow"}, "is postgresql, not SQLite"),
        ({"database__sql_alchemy_conn": "mysql://a:secret123@db/airflow"}, "is mysql, not SQLite"),
        ({"core__executor": "CeleryExecutor"}, "the executor CeleryExecutor"),
        ({"core__executor": "LocalExecutor,team:KubernetesExecutor"}, "the executor KubernetesExecutor"),
        # What Airflow puts in the place of its database for tasks and triggers.
        ({"database__sql_alchemy_conn": "airflow-db-not-allowed:///"}, "database is not SQLite"),
    ],
)
async def test_several_machines_are_warned_about_the_embedded_store_once(
    options: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embedded, "_warned", False)
    monkeypatch.setitem(sys.modules, "psycopg2", ModuleType("psycopg2"))  # inherited from the scheduler
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__{name.upper()}", value)
    AxHook().get_url()
    await AxHook().aget_url()
    (record,) = [record for record in caplog.records if "ax_default" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()
    assert "secret123" not in record.getMessage()


def test_one_machine_is_not_warned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(embedded, "_warned", False)
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////airflow.db")
    AxHook().get_url()
    assert caplog.records == []


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ({"conn_type": "ax", "schema": "/data/ax.db"}, "sqlite:////data/ax.db"),
        (
            {
                "conn_type": "ax",
                "host": "db",
                "port": 5433,
                "login": "ax",
                "password": "p@ss/word",
                "schema": "trials",
                "extra": {"drivername": "postgresql+psycopg"},
            },
            "postgresql+psycopg://ax:p%40ss%2Fword@db:5433/trials",
        ),
        ("postgresql://ax:secret123@db/trials", "postgresql+psycopg://ax:secret123@db/trials"),
        ("mysql://ax:secret123@db/trials", "mysql+pymysql://ax:secret123@db/trials"),
    ],
)
def test_a_connection_gives_the_url(
    connection: dict[str, Any] | str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, "ax_default", connection)
    assert AxHook().get_url() == url


async def test_a_trigger_reads_the_same_url_without_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await AxHook().aget_url() == AxHook().get_url()
    connect(monkeypatch, "ax_default", {"conn_type": "ax", "schema": "/data/ax.db"})
    assert await AxHook().aget_url() == "sqlite:////data/ax.db"
    with pytest.raises(InvalidInputError, match="elsewhere"):
        await AxHook("elsewhere").aget_url()


def test_the_test_button_says_what_is_there_or_what_is_wrong(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok, message = AxHook().test_connection()
    assert (ok, "the first task creates it" in message) == (True, True)
    assert not (airflow_home / "axtx").exists()
    _ = AxHook().store
    assert AxHook().test_connection() == (True, "The experiment store answers; it holds 0 experiment(s).")
    connect(monkeypatch, "ax_default", {"conn_type": "ax", "schema": "/nowhere/at/all/x.db"})
    ok, message = AxHook().test_connection()
    assert (ok, "/nowhere/at/all" in message) == (False, True)


def test_without_a_connection_apps_run_on_local_detached(airflow_home: Path) -> None:
    settings = TorchXHook().settings
    assert settings == TorchXSettings("local_detached", {}, None, None)
    assert settings.tracker_root == f"{airflow_home}/axtx/tracker"
    assert TorchXHook().get_launcher().scheduler == "local_detached"


@pytest.mark.parametrize(
    ("extra", "settings"),
    [
        ({"scheduler": "slurm", "scheduler_args": {"partition": "gpu"}}, TorchXSettings("slurm", {"partition": "gpu"})),
        ({"scheduler_args": '{"max_parallel": 2}'}, TorchXSettings(scheduler_args={"max_parallel": 2})),
        ({"tracker_base": "s3://bucket/t"}, TorchXSettings(tracker_base="s3://bucket/t")),
        (
            {"allowed_components": "utils.*, my.components:*"},
            TorchXSettings(allowed_components=("utils.*", "my.components:*")),
        ),
        ({"prices": '{"cpu_hour": "0.04", "gpu_hour": 2}'}, TorchXSettings(prices={"cpu_hour": 0.04, "gpu_hour": 2.0})),
        ({"prices": {"gpu_hour": 2.5}}, TorchXSettings(prices={"gpu_hour": 2.5})),
        (
            {"scheduler": "", "scheduler_args": "", "tracker_base": "", "allowed_components": "", "prices": ""},
            TorchXSettings(),
        ),
    ],
)
def test_a_torchx_connection_is_read_by_field(
    extra: dict[str, Any], settings: TorchXSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, "torchx_default", {"conn_type": "torchx", "extra": extra})
    assert TorchXHook().settings == settings


def test_options_of_the_connection_belong_to_its_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"scheduler": "slurm", "scheduler_args": {"partition": "gpu"}}
    connect(monkeypatch, "torchx_default", {"conn_type": "torchx", "extra": extra})
    assert TorchXHook().get_launcher("local_detached").scheduler == "local_detached"
    with pytest.raises(InvalidInputError, match="max_parallel"):
        TorchXHook().get_launcher("local_detached", {"max_parallel": "many"})


@pytest.mark.parametrize(
    ("recorded", "namespace"),
    [
        ({"namespace": "recorded"}, "recorded"),
        (None, "of-the-connection"),  # an attempt of an older version
        ({}, "default"),
    ],
)
def test_launcher_for_an_attempt_needs_no_option_of_a_submission(
    recorded: dict[str, Any] | None, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"scheduler": "kubernetes", "scheduler_args": {"queue": "q", "namespace": "of-the-connection"}}
    connect(monkeypatch, "torchx_default", {"conn_type": "torchx", "extra": extra})
    attempt = SimpleNamespace(scheduler="kubernetes", lookup_options=recorded)
    launcher = TorchXHook().get_launcher_for(attempt)
    assert launcher.lookup_options().get("namespace", "default") == namespace
    assert launcher.host is None


def test_launcher_for_an_attempt_on_another_scheduler_than_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"scheduler": "slurm", "scheduler_args": {"job_dir": "/jobs"}}
    connect(monkeypatch, "torchx_default", {"conn_type": "torchx", "extra": extra})
    attempt = SimpleNamespace(scheduler="kubernetes", lookup_options=None)
    assert TorchXHook().get_launcher_for(attempt).scheduler == "kubernetes"


@pytest.mark.parametrize(
    "extra",
    [
        {"scheduler_args": '{"token": "Ohw4"'},
        {"scheduler_args": '["Ohw4"]'},
        {"scheduler_args": ["Ohw4"]},
        {"scheduler_args": {"token": "Ohw4"}},
        {"tracker_base": {"token": "Ohw4"}},
        {"allowed_components": {"token": "Ohw4"}},
        {"prices": {"token": "Ohw4"}},
    ],
)
def test_no_part_of_a_broken_torchx_connection_is_shown(extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "torchx_default", {"conn_type": "torchx", "extra": extra})
    with pytest.raises(InvalidInputError, match=next(iter(extra))) as caught:
        TorchXHook().get_launcher()
    assert "Ohw4" not in str(caught.value)


@pytest.mark.parametrize("prices", ["cheap", "[2]", {"cpu": 1}, {"cpu_hour": -1}, {"gpu_hour": "free"}, 5])
def test_prices_that_cannot_be_used_are_refused(prices: object, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "torchx_default", {"conn_type": "torchx", "extra": {"prices": prices}})
    with pytest.raises(InvalidInputError, match="prices must be an object with cpu_hour and gpu_hour"):
        _ = TorchXHook().settings


def test_broken_json_of_a_torchx_connection_is_located_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "torchx_default", {"conn_type": "torchx", "extra": '{"scheduler_args": "Ohw4'})
    with pytest.raises(InvalidInputError, match="line 1") as caught:
        _ = TorchXHook().settings
    assert "Ohw4" not in str(caught.value)
