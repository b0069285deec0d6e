"""The rule for the names of experiments, used by definitions, by the store and by asset addresses."""

from __future__ import annotations

import hashlib
import re

#: Characters of a name; the store's columns are as wide.
MAX_EXPERIMENT_NAME = 100
#: What to do about a name that is not allowed.
EXPERIMENT_NAME_FIX = (
    f"use 1 to {MAX_EXPERIMENT_NAME} letters, digits or _.:+@=,~- with spaces only inside, beginning with a letter, "
    "a digit or an underscore."
)
# Everything that Airflow allows in a run id, so that a name may hold one; nothing that changes a path or an address.
_NAME = re.compile(r"\w(?:[\w .:+@=,~-]*[\w.:+@=,~-])?")


_HASH_CHARACTERS = 16


def fitted_name(name: str) -> str:
    """Return a name that is at most ``MAX_EXPERIMENT_NAME`` long: a longer one is cut and made unique by a hash.

    For names that a template makes: a run id alone may have 250 characters, and the same text gives the same name in
    every task.
    """
    if len(name) <= MAX_EXPERIMENT_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:_HASH_CHARACTERS]
    return f"{name[: MAX_EXPERIMENT_NAME - _HASH_CHARACTERS - 1]}~{digest}"


def is_experiment_name(name: str) -> bool:
    """Return whether an experiment may have this name."""
    return len(name) <= MAX_EXPERIMENT_NAME and _NAME.fullmatch(name) is not None
