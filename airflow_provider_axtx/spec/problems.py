"""Collects everything that is wrong with an input, so that one error can name all of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten


class Problem(NamedTuple):
    """One thing that is wrong.

    :param path: the field, for example ``parameters[1].bounds``.
    :param value: what was given there.
    :param text: what is wrong with it.
    :param fix: what to write instead.
    """

    path: str
    value: Any
    text: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text} (got {shorten(self.value)})."


def raise_for(what: str, problems: Iterable[Problem]) -> None:
    """Raise one error that lists all problems, or return when there are none.

    :param what: the input, in the words of the message.
    :raises InvalidInputError: with field, value and fix of every problem.
    """
    found = list(problems)
    if not found:
        return
    if len(found) == 1:
        raise InvalidInputError(f"{what} is invalid: {found[0]}", fix=found[0].fix)
    lines = "".join(f"\n  - {problem} Fix: {problem.fix}" for problem in found)
    raise InvalidInputError(
        f"{what} is invalid, {len(found)} problems:{lines}\n", fix="correct the fields listed above, all of them."
    )


def closest(word: object, known: Iterable[str]) -> str:
    """Return a fix for a misspelt word: the closest known one first, then all of them."""
    names = sorted(known)
    match = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}Known: {', '.join(names)}."
