"""Every code block of the documentation and of the README runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import NOT_RUN

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: The number of blocks on all pages that may be excluded with a reason.
MAX_NOT_RUN = 2


def page_environment(home: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Without airflow.cfg every process would generate its own key.
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "DOCS_ROOT": str(ROOT),
        "DOCS_BIN": str(scripts),
        "DOCS_PYTHON": sys.executable,
    }


def run(module: str, *arguments: str, home: Path, cwd: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        env=page_environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout[-8000:]
    return ended.stdout


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("world") / "airflow"
    home.mkdir()
    run("tests.docs.world", home=home, cwd=home)
    return home


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_the_page_runs(page: Path, world: Path, tmp_path: Path) -> None:
    blocks = len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) // 2
    if not blocks:
        return
    home = tmp_path / "page" / "airflow"
    shutil.copytree(world, home)
    # Airflow writes the path of its database into its configuration.
    (home / "airflow.cfg").unlink(missing_ok=True)
    output = run("tests.docs.blocks", str(page), home=home, cwd=home.parent)
    assert int(output.splitlines()[-1]) == blocks


def test_blocks_that_are_not_run_are_rare() -> None:
    assert sum(page.read_text().count(f"<!-- {NOT_RUN}:") for page in PAGES) <= MAX_NOT_RUN
