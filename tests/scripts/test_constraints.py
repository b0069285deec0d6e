"""The constraints files of the supported versions of Airflow."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What Airflow 3.2 needs in another version than 3.3.
OTHER = {"aiosqlite", "apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk"}


def pins(name: str) -> set[str]:
    return {line for line in (ROOT / name).read_text().splitlines() if "==" in line and not line.startswith("#")}


def test_the_constraints_of_airflow_3_2_differ_only_in_what_it_needs() -> None:
    differing = pins("constraints.txt") ^ pins("constraints-airflow-3.2.txt")
    assert {line.partition("==")[0] for line in differing} == OTHER
