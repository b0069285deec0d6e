from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import as_choice, as_duration, as_int, as_object, as_seconds, is_templated


@pytest.mark.parametrize("value", ["{{ run_id }}", {"a": ["{% if x %}"]}, ["{# c #}"], {"{{ k }}": 1}])
def test_a_template_is_not_known_at_parse(value: object) -> None:
    assert is_templated(value)


@pytest.mark.parametrize("value", ["plain", 3, None, {"a": [1, "b"]}, ("x",)])
def test_a_literal_is_known_at_parse(value: object) -> None:
    assert not is_templated(value)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (lambda v: as_object("f", v), '{"a": 1}', {"a": 1}),
        (lambda v: as_object("f", v), None, {}),
        (lambda v: as_int("f", v, minimum=1), " 7 ", 7),
        (lambda v: as_seconds("f", v), "1.5", 1.5),
        (lambda v: as_duration("f", v), "90d", 90 * 86400.0),
        (lambda v: as_duration("f", v), " PT12H ", 12 * 3600.0),
        (lambda v: as_duration("f", v), "3600", 3600.0),
        (lambda v: as_duration("f", v), timedelta(days=1), 86400.0),
    ],
)
def test_what_a_form_or_template_gives_is_read(read: Callable[[Any], Any], value: object, expected: object) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda v: as_object("field_x", v), "{'a': 1}"),
        (lambda v: as_object("field_x", v), [1]),
        (lambda v: as_object("field_x", v), 3),
        (lambda v: as_int("field_x", v, minimum=1), 0),
        (lambda v: as_int("field_x", v, minimum=1), "many"),
        (lambda v: as_int("field_x", v, minimum=1), 1.5),
        (lambda v: as_int("field_x", v, minimum=1), True),
        (lambda v: as_int("field_x", v, minimum=1), None),
        (lambda v: as_seconds("field_x", v), 0),
        (lambda v: as_seconds("field_x", v), "soon"),
        (lambda v: as_seconds("field_x", v), float("inf")),
        (lambda v: as_choice("field_x", v, ("a", "b")), "c"),
    ],
)
def test_what_cannot_be_used_is_refused_with_field_value_and_fix(read: Callable[[Any], Any], value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(value)
    assert "field_x" in caught.value.message
    assert repr(value)[:20] in caught.value.message or type(value).__name__ in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("value", ['{"token": "Ohw4', '["Ohw4"]', ["Ohw4"], '"Ohw4"'])
def test_scheduler_options_may_hold_a_secret_and_are_not_shown(value: object) -> None:
    with pytest.raises(InvalidInputError, match="scheduler_args") as caught:
        as_object("scheduler_args", value)
    assert "Ohw4" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "soon", "90x", "-90d", "0d", 0, "0", None, "nan", "inf", True, "1e400", "P1X"])
def test_what_is_not_a_duration_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match="field_x must be a duration"):
        as_duration("field_x", value)
