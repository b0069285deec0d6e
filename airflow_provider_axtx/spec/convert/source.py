"""What is read of another tool's experiment, and what of it cannot be expressed."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import shorten
from airflow_provider_axtx.core.numbers import as_number, as_whole
from airflow_provider_axtx.core.search_space import Choice, Range
from airflow_provider_axtx.spec.problems import Problem, closest

#: How a program's parameter can have bounds although its distribution has none.
NO_BOUNDS = "give it bounds: write a uniform distribution over the values that you would accept."
_Kind = type[int] | type[float]


class Foreign:
    """Collects the parts of a definition while another tool's file is read.

    :param parameters: the search space so far.
    :param definition: other fields of the definition.
    :param arguments: arguments of ``AxOptimizeOperator`` that the file also gives.
    :param notes: what has to be said in another way here.
    :param problems: the fields that cannot be expressed.
    """

    def __init__(self) -> None:
        self.parameters: list[dict[str, Any]] = []
        self.definition: dict[str, Any] = {}
        self.arguments: dict[str, Any] = {}
        self.notes: list[str] = []
        self.problems: list[Problem] = []

    def refuse(self, path: str, value: object, text: str, fix: str) -> None:
        """Note a field that cannot be expressed.

        :param path: its path in the file.
        :param fix: what the user can write instead.
        """
        self.problems.append(Problem(path, value, text, fix))

    def fields(self, path: str, given: object, known: Iterable[str]) -> Mapping[str, Any]:
        """Return an object of the file, and refuse the fields that are not known."""
        if not isinstance(given, Mapping):
            self.refuse(path or "the file", given, "must be an object", "write an object.")
            return {}
        known = list(known)
        for key in given:
            if key not in known:
                self.refuse(_joined(path, key), given[key], "is not known", closest(key, known))
        return given

    def items(self, path: str, given: object) -> Sequence[Any]:
        """Return a list of the file; nothing is an empty one."""
        if given is None or isinstance(given, (list, tuple)):
            return given or ()
        self.refuse(path, given, "must be a list", "write a list, also of one.")
        return ()

    def add_range(
        self, path: str, name: str, kind: _Kind, bounds: Sequence[object], *, log: bool = False, step: object = None
    ) -> None:
        """Add a range, or a constant where both bounds are the same.

        :param bounds: lower and upper bound, both possible.
        :param step: distance of the possible values from the lower bound on; None is none.
        """
        read = as_whole if kind is int else as_number
        low, high = (read(bound) for bound in bounds)
        by = None if step is None else read(step)
        if low is None or high is None or (step is not None and (by is None or by <= 0)):
            what = {int: "whole numbers", float: "finite numbers"}[kind]
            given = [*bounds, *([] if step is None else [step])]
            self.refuse(path, given, f"must have {what} as bounds and step", "correct them.")
        elif low == high:
            self.parameters.append(Choice(low).to_parameter(name))
        elif log and by is not None and not (kind is int and by == 1):
            self.refuse(path, by, "combines steps with a logarithmic scale", "remove one of the two, or list values.")
        else:
            stepless = by is None or (kind is int and by == 1)
            space = Range(low, high, log=log, step=None if stepless else by)
            self.parameters.append(space.to_parameter(name, kind))

    def add_choice(self, path: str, name: str, values: object) -> None:
        """Add a choice of values; one value makes a constant."""
        if not isinstance(values, (list, tuple)) or not values:
            self.refuse(path, values, "must be a list of values", "list at least one value.")
            return
        for value in values:
            is_finite = not isinstance(value, float) or math.isfinite(value)
            if not isinstance(value, (bool, int, float, str)) or not is_finite:
                fix = "write a word in its place that the program translates."
                self.refuse(path, value, "is not a finite number, a text or a boolean", fix)
                return
        kinds = {type(value) for value in values}
        if len(kinds) > 1 and kinds != {int, float}:
            self.refuse(path, list(values), "has values of several types", "write all of them as text, in quotes.")
            return
        distinct = list(dict.fromkeys(map(float, values) if kinds == {int, float} else values))
        self.parameters.append(Choice(*distinct).to_parameter(name))

    def set_objective(self, metric: object, direction: object, path: str) -> None:
        """Set the objective from a metric and ``minimize`` or ``maximize``, in any case; ``min`` and ``max`` too."""
        word = str(direction).lower()[:3]
        if not isinstance(metric, str) or not metric or word not in ("min", "max"):
            self.refuse(path, [metric, direction], "must name a metric and its direction", "minimize or maximize.")
        else:
            self.definition["objective"] = f"-{metric}" if word == "min" else metric


def reachable(low: object, high: object, step: object) -> object:
    """Return the last value that steps from the lower bound on reach, as Optuna has it; else the bound as it is."""
    first, last, by = as_number(low), as_number(high), as_number(step)
    if first is None or last is None or by is None or by <= 0 or first >= last:
        return high
    exact_first, exact_last, exact_by = (Decimal(repr(number)) for number in (first, last, by))
    rest = (exact_last - exact_first) % exact_by
    return high if not rest else float(exact_last - rest)


def are_multiples(step: object, *bounds: object) -> bool:
    """Return whether both bounds are multiples of the step, as where values are rounded to multiples of it."""
    by = as_number(step)
    numbers = [as_number(bound) for bound in bounds]
    return by is not None and by > 0 and all(n is not None and math.isclose(n / by, round(n / by)) for n in numbers)


def without(given: object, paths: Sequence[str]) -> object:
    """Return a copy of a file's content without some fields.

    :param paths: for example ``spec.parameters[0].feasibleSpace.step``.
    :raises InvalidInputError: there is no such field.
    """
    copied = copy.deepcopy(given) if paths else given
    for path in paths:
        *parents, last = (int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", path) or [""])
        place: Any = copied
        try:
            for part in parents:
                place = place[part]
            del place[last]
        except (LookupError, TypeError) as error:
            raise InvalidInputError(
                f"The input has no field {shorten(path)}, which --leave-out names.", fix="correct the path."
            ) from error
    return copied


def _joined(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
