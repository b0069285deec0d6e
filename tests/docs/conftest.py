from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.processes import run


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("world") / "airflow"
    home.mkdir()
    run("tests.docs.world", home=home, cwd=home)
    return home
