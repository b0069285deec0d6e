"""The patterns of ``allowed_components``: each matches references of its own kind only.

There are three kinds of reference: a registered component (``utils.booth``), a module and function
(``my_pkg.components:train``), and a file and function (``components.py:train``). A pattern consists of an ``fnmatch``
pattern for the place and one for the function. For a file the latter may be left out (``/shared/components/*``).
"""

from __future__ import annotations

import fnmatch
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from airflow_provider_axtx.core.errors import InvalidInputError

Kind = Literal["registered", "module", "file"]

#: Components that run a command, module or script of the caller's choice: no wildcard allows them.
RUN_ANYTHING = frozenset(
    {
        "utils.sh",
        "utils.python",
        "utils.binary",
        "dist.ddp",
        "dist.spmd",
        "axtx.command",
        "axtx.script",
        "axtx.ddp",
        "axtx.function",
    }
)


def is_file(place: str) -> bool:
    """Return whether what stands before the colon of a reference is a file, not a module."""
    return place.endswith(".py") or os.sep in place


def check_allowed(reference: str, kind: Kind, forms: Sequence[tuple[str, str]], allowed: Sequence[str] | None) -> None:
    """Refuse a reference unless one of its forms matches a pattern of its kind.

    :param reference: as the user wrote it, for the message.
    :param forms: place and function, as written and as the file that it is; the place of a registered one is empty.
    :param allowed: the patterns; None allows all.
    :raises InvalidInputError: none matches.
    """
    if allowed is None or any(_matches(pattern, kind, form) for pattern in allowed for form in forms):
        return
    name = forms[0][1]
    named = f" {name} runs whatever its caller names, so it has to be named in full." if name in RUN_ANYTHING else ""
    raise InvalidInputError(
        f"component {reference!r} is not allowed (allowed_components: {', '.join(allowed) or 'none'}).{named}",
        fix="use an allowed component, or have a pattern for it added to the operator or the torchx connection.",
    )


def check_own(reference: str, place: str, function: Callable[..., Any], allowed: Sequence[str] | None) -> None:
    """Refuse a function that an allowed module or file has merely imported, unless it is allowed where it is defined.

    A pattern that names the function without a wildcard allows it all the same.

    :param place: name of the module through which the function was reached.
    :raises InvalidInputError: it is not allowed.
    """
    while isinstance(function, functools.partial):
        function = function.func
    home, name = getattr(function, "__module__", place), getattr(function, "__name__", "")
    if allowed is None or home == place:
        return
    wanted = reference.strip().rpartition(":")[2]
    if any(pattern.rpartition(":")[2] == wanted for pattern in allowed if ":" in pattern):
        return
    check_allowed(f"{reference} (defined as {home}:{name})", "module", [(home, name)], allowed)


def _matches(pattern: str, kind: Kind, form: tuple[str, str]) -> bool:
    place, colon, name = pattern.rpartition(":")
    if not colon and is_file(pattern):
        place, colon, name = pattern, ":", "*"
    if kind != ("registered" if not colon else "file" if is_file(place) else "module"):
        return False
    if kind == "registered":
        return form[1] == name if form[1] in RUN_ANYTHING else fnmatch.fnmatchcase(form[1], name)
    place = os.path.normpath(place) if kind == "file" else place
    return fnmatch.fnmatchcase(form[0], place) and fnmatch.fnmatchcase(form[1], name)
