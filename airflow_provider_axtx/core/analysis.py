"""Ax's analysis cards as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AnalysisCard:
    """One card of an analysis.

    :param name: name of Ax's analysis, for example ``Summary``.
    :param title: the heading that a reader sees.
    :param subtitle: some sentences about what the card shows.
    :param section: titles of the groups that contain the card, from the outermost to the innermost.
    :param kind: ``plotly``, ``markdown``, ``table``, ``graphviz``, ``not_applicable`` or ``error``.
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
