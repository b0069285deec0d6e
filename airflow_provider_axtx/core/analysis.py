"""Ax's analysis cards as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import as_int, is_given

#: Kind of a card that holds the numbers of a chart of our own, without HTML.
EXPLANATION = "explanation"
#: The word for an explanation at the end only.
_AT_END = "end"


@dataclass(frozen=True)
class AnalysisCard:
    """One card of an analysis.

    :param name: name of Ax's analysis, for example ``Summary``.
    :param title: the heading that a reader sees.
    :param subtitle: some sentences about what the card shows.
    :param section: titles of the groups that contain the card, from the outermost to the innermost.
    :param kind: ``plotly``, ``markdown``, ``table``, ``graphviz``, ``not_applicable``, ``error`` or ``explanation``.
    :param html: the card's body, an HTML fragment; a card of kind ``plotly`` needs plotly.js in the page.
    :param data: the numbers that the card shows: ``{"columns": [...], "data": [[...], ...]}``.
    :param created_at: seconds since the epoch (UTC); None before it is recorded.
    """

    name: str
    title: str
    subtitle: str
    section: tuple[str, ...]
    kind: str
    html: str
    data: dict[str, Any]
    created_at: float | None = None

    @property
    def level(self) -> int:
        """The number of groups that contain the card."""
        return len(self.section)


@dataclass(frozen=True)
class AnalysisPlan:
    """When a DAG asks for the explanation of an experiment.

    :param at_end: when the experiment has ended.
    :param every: whenever so many further trials have completed; None is not before the end.
    """

    at_end: bool = False
    every: int | None = None

    @classmethod
    def load(cls, value: object) -> Self:
        """Read ``"end"``, a number of trials, or None.

        :raises InvalidInputError: when it is something else.
        """
        if not is_given(value):
            return cls()
        if value == _AT_END:
            return cls(at_end=True)
        try:
            return cls(at_end=True, every=as_int("analyze", value, minimum=1))
        except InvalidInputError as error:
            raise InvalidInputError(
                f"analyze cannot be {value!r}.", fix='pass "end", or after how many completed trials each time.'
            ) from error

    def __bool__(self) -> bool:
        return self.at_end

    def is_due(self, completed: int, explained: int, *, is_over: bool) -> bool:
        """Return whether it is time.

        :param completed: number of completed trials.
        :param explained: how many there were at the last explanation, 0 before the first.
        :param is_over: whether the experiment has no further trial.
        """
        if completed == explained:
            return False
        return is_over or (self.every is not None and completed // self.every > explained // self.every)
