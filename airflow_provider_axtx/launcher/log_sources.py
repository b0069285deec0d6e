"""Where the output of one replica is read from."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from airflow_provider_axtx.launcher import log_files


class LogSource(abc.ABC):
    """The output of one replica.

    :param label: ``role/replica``, or the name of its file.
    """

    def __init__(self, label: str) -> None:
        self.label = label

    @abc.abstractmethod
    def tail(self, count: int) -> Iterable[str]:
        """Return the last lines that exist now. Of more than ``count`` lines the caller keeps the last ones."""

    @abc.abstractmethod
    def after(self, position: int, has_ended: Callable[[], bool]) -> Iterator[tuple[int, str]]:
        """Yield the lines behind a position, each with its own position, up to the last line that exists now.

        :param position: 0, or one that came with a line.
        :param has_ended: says whether the app has ended, so that an unfinished line will not be continued.
        """

    @abc.abstractmethod
    def chunks(self, most: int) -> Iterator[bytes]:
        """Yield all output that there is now, as the app has written it, and end.

        :param most: bytes of a file, counted from its end.
        :raises FileNotFoundError: the app has left no output.
        """


class FileLog(LogSource):
    """Output in a file; positions are bytes.

    :param below: folder below which no link is followed: the app may have put one there.
    """

    def __init__(self, label: str, path: Path, below: Path | None = None) -> None:
        super().__init__(label)
        self._path = path
        self._below = below

    def tail(self, count: int) -> Iterable[str]:
        if not self._path.exists():
            return []  # it waits in the queue
        return log_files.last_lines(self._path, count, self._below)

    def after(self, position: int, has_ended: Callable[[], bool]) -> Iterator[tuple[int, str]]:
        return log_files.read_lines(self._path, position, ended=has_ended, may_skip=True, below=self._below)

    def chunks(self, most: int) -> Iterator[bytes]:
        return log_files.read_chunks(self._path, most, self._below)


class TimedLog(LogSource):
    """Output that a server sends with a time in front of each line; positions are times, in nanoseconds.

    :param fetch: opens the output: the last ``count`` lines (None: all) since a time in nanoseconds; it may return
        earlier lines too.
    """

    def __init__(self, label: str, fetch: Callable[[int, int | None], Iterable[bytes]]) -> None:
        super().__init__(label)
        self._fetch = fetch

    def tail(self, count: int) -> Iterable[str]:
        return (line for _, line in _timed(self._fetch(0, count)))

    def after(self, position: int, has_ended: Callable[[], bool]) -> Iterator[tuple[int, str]]:
        return ((time, line) for time, line in _timed(self._fetch(position, None)) if time > position)

    def chunks(self, most: int) -> Iterator[bytes]:
        return (piece for _, piece in _timed_pieces(self._fetch(0, None)))


def _timed(chunks: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    return ((time, log_files.line_text(piece)) for time, piece in _timed_pieces(chunks))


def _timed_pieces(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    time, is_start = 0, True
    for piece in log_files.split_lines(chunks):
        if is_start:
            stamp, _, rest = piece.partition(b" ")
            time = _nanoseconds(stamp.decode(errors="replace"), time)
        else:
            rest = piece  # of a long line
        is_start = piece.endswith(b"\n")
        yield time, rest


def _nanoseconds(stamp: str, before: int) -> int:
    """Return a time such as ``2026-01-02T03:04:05.123456789Z``; of a line without one, that of the line before."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", stamp)
    if found is None:
        return before
    seconds = int(datetime.fromisoformat(f"{found[1]}{found[3]}").timestamp())
    return seconds * 10**9 + int((found[2] or "").ljust(9, "0"))


class LinesLog(LogSource):
    """Output that a scheduler's client returns from its beginning; positions count lines.

    :param read: returns the lines.
    """

    def __init__(self, label: str, read: Callable[[], Iterable[str]]) -> None:
        super().__init__(label)
        self._read = read

    def tail(self, count: int) -> Iterable[str]:
        return self._read()

    def after(self, position: int, has_ended: Callable[[], bool]) -> Iterator[tuple[int, str]]:
        return ((number, line) for number, line in enumerate(self._read(), start=1) if number > position)

    def chunks(self, most: int) -> Iterator[bytes]:
        """Yield the output as it was written: some clients keep the line breaks, and some cut them off."""
        has_breaks = is_unfinished = False
        for line in self._read():
            has_breaks = has_breaks or "\n" in line
            if is_unfinished and not has_breaks:
                yield b"\n"
            is_unfinished = not line.endswith("\n")
            yield line.encode()
