"""A trial's tasks, each in a fresh interpreter: only those that ask Ax load it."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import imports


@pytest.fixture(scope="module")
def life() -> dict[str, dict[str, Any]]:
    return imports.one_life()


@pytest.mark.parametrize("step", ["submit", "wait", "complete"])
def test_submitting_waiting_and_completing_load_nothing_heavy(life: dict[str, dict[str, Any]], step: str) -> None:
    assert life[step]["heavy"] == []


@pytest.mark.parametrize("step", imports.ASK_AX)
def test_what_asks_ax_is_seen_to_load_it(life: dict[str, dict[str, Any]], step: str) -> None:
    assert "ax" in life[step]["heavy"]
