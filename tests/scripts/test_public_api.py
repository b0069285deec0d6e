"""What changes in the public API is in the changelog."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from release import api

from airflow_provider_axtx import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def current() -> list[str]:
    return api.describe()


def test_the_changelog_names_what_has_changed_since_the_last_release(current: list[str]) -> None:
    assert api.check(api.RECORD.read_text().splitlines(), (ROOT / "CHANGELOG.md").read_text(), release=False) == []


def test_every_public_name_exists_and_is_described(current: list[str]) -> None:
    names = api.public_names()
    assert len(names) > 20
    for module, name in names:
        assert getattr(importlib.import_module(module), name)
        assert f"{module}.{name}" in current


def test_parameters_of_base_classes_are_described(current: list[str]) -> None:
    optimize = [line for line in current if line.startswith("airflow_provider_axtx.operators.ax.AxOptimizeOperator(")]
    named = {api.subject(line) for line in optimize}
    assert {"max_trials", "experiment", "component", "torchx_conn_id", "ax_conn_id"} <= named


RECORDED = ["m.Operator(*gone: int = 1)", "m.Operator(*kept: int)", "airflow ax show --old-name", "m.Operator"]
CURRENT = ["m.Operator(*kept: int)", "m.Operator(*fresh: str)", "[axtx] choice: string = ''", "m.Operator"]


def test_an_unnamed_change_is_reported_with_its_line() -> None:
    problems = api.unnamed(RECORDED, CURRENT, "- `AxOptimizeOperator(fresh=...)` and the option `choice`.")
    assert [problem.partition(" ")[0] for problem in problems] == ["removed", "removed"]
    assert "(gone)" in problems[1] and "(--old-name)" in problems[0]
    assert api.unnamed(RECORDED, CURRENT, "fresh, choice, gone, --old-name") == []
    # A longer name is another name.
    assert len(api.unnamed(RECORDED, CURRENT, "fresher, choice, gone, --old-name")) == 1


@pytest.mark.parametrize(
    ("heading", "release", "ready"),
    [
        (f"{__version__} (unreleased)", False, True),
        (f"{__version__} (unreleased)", True, False),
        (f"{__version__} (2026-11-26)", True, True),
        ("9.9.9 (2026-11-26)", False, False),
    ],
)
def test_a_release_needs_the_version_and_a_date(heading: str, release: bool, ready: bool, current: list[str]) -> None:
    problems = api.check(current, f"# Changelog\n\n## {heading}\n\n- First.\n", release=release)
    assert (problems == []) is ready
