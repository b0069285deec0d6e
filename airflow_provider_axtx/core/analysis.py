"""Ax's analysis cards as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AnalysisCard:
    """One card of an analysis.

    :param name: name of Ax's analysis, for example ``Summary``.
    :param title: what it is called.
    :param subtitle: what it says, in some sentences.
    :param section: titles of the groups that it stands in, from the outermost.
    :param kind: ``plotly``, ``markdown``, ``table``, ``graphviz``, ``not_applicable`` or ``error``.
    :param html: what is shown, a fragment; ``plotly`` needs plotly.js in the page.
    :param data: the numbers behind it: ``{"columns": [...], "data": [[...], ...]}``.
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
        """How deep it stands below the outermost group, from 0."""
        return len(self.section)
