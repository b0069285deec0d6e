from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook, TorchXSettings


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, value: dict[str, Any] | str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", text)


def test_without_a_connection_the_store_is_a_file_in_airflow_home(airflow_home: Path) -> None:
    assert AxHook().get_url() == f"sqlite:///{airflow_home}/axtx/experiments.db"
    assert AxHook().store.summaries() == []
    assert (airflow_home / "axtx" / "experiments.db").exists()


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


def test_the_test_button_says_what_is_there_or_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"scheduler": "", "scheduler_args": "", "tracker_base": "", "allowed_components": ""}, TorchXSettings()),
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
