"""Each promise of the README is shown by something that exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.promises import PAGE, ROOT, SHOWN_BY, page

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("promise", SHOWN_BY)
def test_a_promise_is_in_the_readme(promise: str) -> None:
    assert promise in README


def test_every_feature_of_the_readme_is_shown() -> None:
    features = re.findall(r"^- (\*\*[^*]+\*\*)", README, re.MULTILINE)
    assert len(features) > 4
    assert set(features) <= set(SHOWN_BY)


@pytest.mark.parametrize("by", sorted({by for named in SHOWN_BY.values() for by in named}))
def test_what_shows_a_promise_exists(by: str) -> None:
    if by.startswith("make "):
        assert re.search(rf"^{by.removeprefix('make ')}:", MAKEFILE, re.MULTILINE)
        return
    file, _, name = by.partition("::")
    nodes = list(ast.walk(ast.parse((ROOT / file).read_text())))
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions if name else functions
