"""Collects everything that is wrong with an input, so that one error can name all of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten


class Problem(NamedTuple):
    """One thing that is wrong.

    :param path: the field, for example ``parameters[1].bounds``.
    :param value: what was given there.
    :param text: what is wrong with it.
    :param fix: what to write instead.
    :param parameter: name of the parameter whose field it is, if it is one's.
    """

    path: str
    value: Any
    text: str
    fix: str
    parameter: str | None = None

    def __str__(self) -> str:
        of = "" if self.parameter is None else f" for {self.parameter!r}"
        return f"{self.path}: {self.text} (got {shorten(self.value)}{of})."


def with_names(problems: Iterable[Problem], parameters: object) -> Iterator[Problem]:
    """Yield the problems; one in a parameter also tells the parameter's name.

    :param parameters: the parameters as they were given, whatever that is.
    """
    for problem in problems:
        place = re.match(r"parameters\[(\d+)\]\.(?!name$)", problem.path)
        given = parameters[int(place[1])] if place and isinstance(parameters, Sequence) else None
        name = given.get("name") if isinstance(given, Mapping) else None
        yield problem._replace(parameter=name) if isinstance(name, str) else problem


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
