"""Finds numbers in an app's output by patterns, in bounded memory and time, whatever the app prints."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import regex

from airflow_provider_axtx.core.metric_sources import MetricSource, value_group
from airflow_provider_axtx.launcher.series import Series

#: A line of more characters than this is searched piece by piece.
MAX_PIECE = 64 * 1024
#: Characters that two pieces of a line share: a match of at most this length is never cut.
OVERLAP = 4096
#: Seconds that one pattern may take for all output of an app. A pattern such as ``(a+)+b`` could take years.
PATTERN_SECONDS = 10.0


class _Piece(NamedTuple):
    """A line, or a part of a long one.

    :param base: position in the line of its first character; above 0, that character belongs to the piece before.
    :param is_last: whether the line ends with it.
    """

    text: str
    base: int
    is_last: bool


class PatternMetric:
    """Searches one pattern line by line; ``series`` has what was found.

    :param source: a source of kind ``regex``.
    """

    def __init__(self, source: MetricSource) -> None:
        self.series = Series(source.take)
        #: Why the search was given up, or what was found in place of a number.
        self.problem: str | None = None
        self.is_too_slow = False
        self._pattern = regex.compile(source.place)
        self._value = value_group(self._pattern) or 0
        self._step = self._pattern.groupindex.get("step")
        self._left = PATTERN_SECONDS
        self._next = 0  # position in the line from which the search goes on

    def search(self, piece: _Piece) -> None:
        """Add what a piece holds. A match that may go on in the next piece is left to that one."""
        if self.is_too_slow:
            return
        began = time.perf_counter()
        try:
            self._search(piece)
        except TimeoutError:
            self.is_too_slow = True
        self._left -= time.perf_counter() - began
        if self.is_too_slow or self._left <= 0:
            self.is_too_slow = True
            self.problem = f"its pattern took longer than {PATTERN_SECONDS:g} s to search the output"

    def _search(self, piece: _Piece) -> None:
        text, base, is_last = piece
        end = len(text) if is_last else len(text) - OVERLAP
        position = max(self._next - base, 0)
        while found := self._pattern.search(text, position, timeout=max(self._left, 0.001)):
            if not is_last and (found.start() >= end or self._may_go_on(found, len(text))):
                break
            self._add(found)
            position = max(found.end(), found.start() + 1)
            if position > len(text):
                break
        self._next = 0 if is_last else base + max(position, end)

    def _may_go_on(self, found: Any, length: int) -> bool:
        return found.end(self._value) == length or (self._step is not None and found.end(self._step) == length)

    def _add(self, found: Any) -> None:
        text = found[self._value]
        value = _number(text)
        if value is None:
            self.problem = f"its pattern has found {text!r:.100}, which is not a number"
            return
        self.series.add(value, None if self._step is None else _number(found[self._step]))


def search_output(metrics: Mapping[str, PatternMetric], chunks: Iterable[bytes], *, may_be_cut: bool = False) -> int:
    """Search the output of one replica.

    :param may_be_cut: see ``metric_reader.read_metrics``.
    :return: the number of lines.
    """
    lines = 0
    for piece in _pieces(chunks, may_be_cut):
        lines += piece.is_last
        for metric in metrics.values():
            metric.search(piece)
    return lines


def _pieces(chunks: Iterable[bytes], may_be_cut: bool) -> Iterator[_Piece]:
    r"""Yield the lines of output; ``\r`` ends one too, and NUL characters (of UTF-16) are left out."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest, base = "", 0
    for chunk in chunks:
        rest += decoder.decode(chunk).replace("\0", "").replace("\r", "\n")
        *lines, rest = rest.split("\n")
        for line in lines:
            yield _Piece(line, base, True)
            base = 0
        if len(rest) > MAX_PIECE:
            yield _Piece(rest, base, False)
            # One character more, so that no pattern takes the beginning of a piece for that of the line.
            cut = len(rest) - OVERLAP - 1
            rest, base = rest[cut:], base + cut
    rest += decoder.decode(b"", final=True)
    # Of `loss=12.5` the program may have written `loss=1` so far, which is a number, too.
    if rest and not may_be_cut:
        yield _Piece(rest, base, True)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
