"""Ax's analysis cards of an experiment, as HTML and data."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_provider_axtx.core.analysis import AnalysisCard
from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer.ax_logging import quiet_import

with quiet_import():
    import markdown
    from ax.analysis.graphviz.graphviz_analysis import GraphvizAnalysisCard
    from ax.analysis.markdown.markdown_analysis import MarkdownAnalysisCard
    from ax.analysis.plotly.plotly_analysis import PlotlyAnalysisCard
    from ax.core.analysis_card import AnalysisCard as AxCard
    from ax.core.analysis_card import (
        AnalysisCardBase,
        AnalysisCardGroup,
        ErrorAnalysisCard,
        NotApplicableStateAnalysisCard,
    )
    from ax.utils.common.random import with_rng_seed

    from airflow_provider_axtx.optimizer.kernel import without_stale_build_lock
    from airflow_provider_axtx.optimizer.rebuild import rebuild


def analyse(snapshot: ExperimentSnapshot, *, allowed_factories: Sequence[str] | None = None) -> list[AnalysisCard]:
    """Return the analyses that Ax chooses for the state of an experiment, in Ax's order.

    Fits a model when there is enough data, and takes as long as several generations. An analysis that fails becomes a
    card of the kind ``error``.

    :param allowed_factories: see ``rebuild``.
    :raises InvalidInputError: when the snapshot is not usable, or its factory is not allowed.
    """
    rebuilt = rebuild(snapshot, allowed_factories=allowed_factories)
    with without_stale_build_lock(), with_rng_seed(rebuilt.spec.generation.random_seed):
        cards = rebuilt.client.compute_analyses(display=False)
    return [card for top in cards for card in _flattened(top, ())]


def _flattened(card: AnalysisCardBase, section: tuple[str, ...]) -> Iterator[AnalysisCard]:
    if isinstance(card, AnalysisCardGroup):
        for child in card.children:
            yield from _flattened(child, (*section, card.title))
        return
    kind, body = _kind_and_html(card)
    data: dict[str, Any] = json.loads(card.df.to_json(orient="split", index=False, double_precision=15))
    yield AnalysisCard(card.name, card.title, card.subtitle, section, kind, body, data)


def _kind_and_html(card: AxCard) -> tuple[str, str]:
    """Return the card's kind and its body as an HTML fragment. Text that users wrote is escaped."""
    if isinstance(card, PlotlyAnalysisCard):
        return "plotly", card.get_figure().to_html(full_html=False, include_plotlyjs=False)
    if isinstance(card, MarkdownAnalysisCard):
        return "markdown", markdown.markdown(card.get_markdown().replace("<", "&lt;"))
    if isinstance(card, GraphvizAnalysisCard):
        return "graphviz", f"<pre>{html.escape(card.blob)}</pre>"
    if isinstance(card, ErrorAnalysisCard):
        return "error", f"<pre>{html.escape(card.blob)}</pre>"
    if isinstance(card, NotApplicableStateAnalysisCard):
        return "not_applicable", f"<p>{html.escape(card.blob)}</p>"
    return "table", card.df.to_html(index=False)
