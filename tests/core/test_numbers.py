"""Numbers as people, forms, tables and libraries give them."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from airflow_provider_axtx.core.numbers import as_number, as_whole, finite


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        (" 3.0 ", 3),
        ("1_000", 1000),
        (np.int64(3), 3),
        (np.float32(3), 3),
        (Decimal("3.0"), 3),
        (2**60 + 1, 2**60 + 1),
        (str(2**60 + 1), 2**60 + 1),
        (3.5, None),
        ("3.5", None),
        ("3,0", None),
        ("three", None),
        (math.inf, None),
        (math.nan, None),
        (True, None),
        (np.True_, None),
        (None, None),
        ([3], None),
    ],
)
def test_whole_numbers(value: object, whole: int | None) -> None:
    found = as_whole(value)
    assert found == whole
    assert found is None or type(found) is int


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        ("1e-3", 1e-3),
        (Decimal("0.1"), 0.1),
        (Fraction(1, 4), 0.25),
        (np.float64(0.1), 0.1),
        (np.int32(7), 7.0),
        ("nan", None),
        (math.inf, None),
        (10**400, None),
        (False, None),
        (np.False_, None),
        ("", None),
        (None, None),
    ],
)
def test_numbers(value: object, number: float | None) -> None:
    found = as_number(value)
    assert found == number
    assert found is None or type(found) is float


@pytest.mark.parametrize("value", [True, None, "1", b"1", [1.0], math.nan, math.inf, -math.inf, 10**400])
def test_not_a_finite_number(value: object) -> None:
    assert finite(value) is None


@pytest.mark.parametrize("value", [0, -1, 3.3e-12, 5e-324, 1e308, np.float64(2.5), Decimal("0.5")])
def test_a_finite_number_is_exact(value: float) -> None:
    assert finite(value) == value
