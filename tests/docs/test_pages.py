"""Every code block of the documentation and of the README runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import NOT_RUN
from tests.docs.processes import run

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: The number of blocks on all pages that may be excluded with a reason and are run nowhere else.
MAX_NOT_RUN = 2


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
    reasons = [
        (page, reason) for page in PAGES for reason in re.findall(rf"<!-- {NOT_RUN}: (.+?) -->", page.read_text())
    ]
    elsewhere = [
        (page, path)
        for page, reason in reasons
        for path in re.findall(r"run by (\S+)", reason)
        if (ROOT / path).exists()
    ]
    assert len(reasons) - len(elsewhere) <= MAX_NOT_RUN
    # What runs a block elsewhere names the page.
    assert [str(page) for page, path in elsewhere if str(page.relative_to(ROOT)) not in (ROOT / path).read_text()] == []
