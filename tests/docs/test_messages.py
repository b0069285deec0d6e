"""The messages that the documentation explains are those of the package."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Messages of Python and of the libraries underneath.
FOREIGN = {"database is locked", "No module named 'torchx'"}


def test_the_package_says_what_the_page_quotes() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "airflow_provider_axtx").rglob("*.py"))
    symptoms = re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
    quoted = {text for symptom in symptoms for text in re.findall(r"`([^`]+)`", symptom)}
    assert len(quoted) > 8
    assert {text for text in quoted - FOREIGN if text not in source} == set()
