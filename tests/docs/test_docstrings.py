"""Every public name has an example in its docstring, and the examples run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.docstrings import examples
from tests.docs.processes import run

pytestmark = pytest.mark.docs


def test_every_public_name_has_an_example() -> None:
    found = examples()
    assert len(found) > 20
    assert [name for name, blocks in found.items() if not blocks] == []


def test_every_example_runs(world: Path, tmp_path: Path) -> None:
    output = run("tests.docs.docstrings", home=world, cwd=tmp_path)
    assert int(output.splitlines()[-1]) == sum(map(len, examples().values()))
