"""Strict matching of values and annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Optional, Union

import pytest

from airflow_provider_axtx.launcher.typecheck import shown, type_problem


@dataclass
class Point:
    x: int


class Opaque:
    pass


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, 1.5),
        (float, 1),
        (int, 1),
        (bool, False),
        (str, "a"),
        (Optional[int], None),  # noqa: UP045 - as components are written
        (Union[int, str], "a"),  # noqa: UP007
        (int | None, 3),
        (list[str], ["a"]),
        (dict[str, int], {"a": 1}),
        (Literal["a", "b"], "b"),
        (Point, Point(1)),
        (Opaque, Opaque()),
        (Any, object()),
        ("NotResolvable", object()),
    ],
)
def test_fits(annotation: Any, value: object) -> None:
    assert type_problem(annotation, value) is None


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, True),
        (float, "1.5"),
        (float, None),
        (int, 1.0),
        (int, True),
        (int, "1"),
        (bool, 1),
        (bool, "true"),
        (str, 1),
        (Optional[int], "a"),  # noqa: UP045
        (list[str], ["a", 1]),
        (list[str], "a"),
        (dict[str, int], {"a": "1"}),
        (Literal["a", "b"], "c"),
        (Opaque, 1),
    ],
)
def test_does_not_fit(annotation: Any, value: object) -> None:
    assert type_problem(annotation, value)


def test_a_sample_is_judged_by_its_type_alone() -> None:
    assert type_problem(Literal["a", "b"], "text", value_matters=False) is None
    assert type_problem(Opaque, "text", value_matters=False)
    assert type_problem(int, "text", value_matters=False)


def test_containers_are_not_shown_because_they_may_hold_secrets() -> None:
    assert shown({"TOKEN": "secret"}) == "a dict"
    assert shown("x" * 1000).endswith("... (str)")
