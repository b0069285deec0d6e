"""Reading log files, which may be of any size and may still grow, in bounded pieces.

Only ``\n`` ends a line. What a progress bar overwrote with ``\r`` is left out, as a terminal would show it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_axtx.launcher.regular_files import open_regular

_CHUNK_BYTES = 64 * 1024
#: A longer line is returned in pieces of this size, so that none of them is cut when it is shown.
MAX_LINE_BYTES = 2000
#: How far from the end of a file its last lines are looked for.
MAX_TAIL_BYTES = 1024 * 1024
#: A reader that is further behind than this skips to the last ``MAX_TAIL_BYTES``.
MAX_BACKLOG_BYTES = 8 * 1024 * 1024
_INTERVAL_SECONDS = 0.2


def last_lines(path: Path, count: int, below: Path | None = None) -> list[str]:
    """Return the last lines of a log without their ends, reading at most ``MAX_TAIL_BYTES`` from its end.

    :param path: its first file, see ``read_lines``.
    :param below: folder below which no link is followed, as in ``open_regular``.
    :raises OSError: it cannot be read, or is not a regular file.
    """
    chunks: list[bytes] = []
    missing, budget, end, is_cut = count + 1, MAX_TAIL_BYTES, None, False
    for piece in reversed(_pieces_of(path)):
        with open_regular(piece.path, below) as file:
            position = file.seek(0, os.SEEK_END)
            if end is not None and piece.start + position != end:
                break  # what was between them was removed
            while position > 0 and missing > 0 and budget > 0:
                size = min(_CHUNK_BYTES, position, budget)
                position -= size
                file.seek(position)
                chunks.append(file.read(size))
                missing -= chunks[-1].count(b"\n")
                budget -= size
        end, is_cut = piece.start, position > 0
        if is_cut:
            break
    lines = b"".join(reversed(chunks)).split(b"\n")
    if is_cut and len(lines) > 1:
        del lines[0]  # its beginning was not read
    if lines and not lines[-1]:
        del lines[-1]
    return [line_text(line[-_CHUNK_BYTES:]) for line in lines[-count:]]


@dataclass(frozen=True)
class _Piece:
    """One file of a log.

    :param start: number of bytes of output before it.
    """

    start: int
    path: Path

    @property
    def end(self) -> int:
        return self.start + self.path.lstat().st_size


def _pieces_of(path: Path) -> list[_Piece]:
    """Return the files of a log, in order: ``path`` and those with the number of bytes before them in their names."""
    pattern = re.compile(rf"{re.escape(path.name)}\.(\d{{16}})")
    with os.scandir(path.parent) as entries:
        found = [(int(name[1]), entry.path) for entry in entries if (name := pattern.fullmatch(entry.name))]
    return [_Piece(0, path), *(_Piece(start, Path(file)) for start, file in sorted(found))]


def read_lines(
    path: Path,
    position: int = 0,
    *,
    ended: Callable[[], bool],
    should_wait: bool = False,
    may_skip: bool = False,
    below: Path | None = None,
) -> Iterator[tuple[int, str]]:
    r"""Yield the lines of a log from a position on, each with the position behind it and its ``\n``.

    A line of more than ``MAX_LINE_BYTES`` is yielded in pieces, of which only the last one has the ``\n``. A last line
    without an end is yielded when the app has ended. Where a piece of the log was removed, a line says so.

    :param path: its first file, which is the only one of a short log (see ``local_detached/output.py``); while it does
        not exist (the app waits in the queue) it counts as empty.
    :param position: in bytes; one behind the end of the log (which was replaced) counts as its beginning.
    :param ended: says whether the app has ended, so that nothing more can be written.
    :param should_wait: wait for further lines until the app has ended.
    :param may_skip: skip what is more than ``MAX_BACKLOG_BYTES`` behind, with a line that says so.
    :param below: folder below which no link is followed, as in ``open_regular``.
    :raises OSError: it cannot be read, or is not a regular file.
    """
    while not path.exists():
        if not should_wait or (ended() and not path.exists()):
            return
        time.sleep(_INTERVAL_SECONDS)
    end = _pieces_of(path)[-1].end
    position = position if position <= end else 0
    if may_skip and end - position > MAX_BACKLOG_BYTES:
        start = end - MAX_TAIL_BYTES
        yield start, _left_out(start - position)
        position = start
    # One that does not wait ends where the log ends now: an app may write faster than its log is read.
    for place, line in _lines_from(path, position, ended, should_wait, below):
        yield place, line
        if place >= end and not should_wait:
            return


def _left_out(count: int) -> str:
    return f"[{count} bytes of output are left out here]\n"


def read_chunks(path: Path, most: int, below: Path | None = None) -> Iterator[bytes]:
    """Yield what is in a log now, of more than ``most`` bytes the end; lines on both sides of a gap are kept apart.

    :param path: its first file, see ``read_lines``.
    :param below: folder below which no link is followed, as in ``open_regular``.
    :raises OSError: it cannot be read, or is not a regular file.
    """
    pieces = [(piece, piece.end) for piece in _pieces_of(path)]
    position, first = max(0, pieces[-1][1] - most), True
    for piece, end in pieces:
        if end < position or (end == position and not first):
            continue
        try:
            file = open_regular(piece.path, below)
        except FileNotFoundError:
            if first:
                raise
            continue  # removed since it was listed
        if piece.start > position and not first:
            yield b"\n"
        first = False
        with file:
            file.seek(max(0, position - piece.start))
            position = max(position, piece.start)
            while position < end and (chunk := file.read(min(_CHUNK_BYTES, end - position))):
                position += len(chunk)
                yield chunk


def _lines_from(
    path: Path, position: int, ended: Callable[[], bool], should_wait: bool, below: Path | None
) -> Iterator[tuple[int, str]]:
    unfinished = b""
    while True:
        is_last = ended()  # Asked before reading: what was written before the end is then read below.
        piece, following = _piece_at(path, position + len(unfinished))
        try:
            file = open_regular(piece.path, below)
        except FileNotFoundError:
            if piece.path == path:
                raise
            continue  # removed since it was listed
        with file:
            file.seek(position + len(unfinished) - piece.start)
            while chunk := file.read(_CHUNK_BYTES):
                unfinished += chunk
                while line := _next_piece(unfinished):
                    unfinished = unfinished[len(line) :]
                    position += len(line)
                    yield position, line_text(line)
        if following is not None:  # Listed before reading: this piece was complete by then.
            if following.start > position + len(unfinished):
                if unfinished:
                    position += len(unfinished)
                    yield position, line_text(unfinished)
                yield following.start, _left_out(following.start - position)
                position, unfinished = following.start, b""
            continue
        if is_last:
            break
        if not should_wait:
            return
        time.sleep(_INTERVAL_SECONDS)
    if unfinished:
        yield position + len(unfinished), line_text(unfinished)


def _piece_at(path: Path, position: int) -> tuple[_Piece, _Piece | None]:
    """Return the piece in which a position is, or was, and the piece that follows now."""
    pieces = _pieces_of(path)
    number = max(i for i, piece in enumerate(pieces) if piece.start <= position)
    return pieces[number], pieces[number + 1] if number + 1 < len(pieces) else None


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream with their ends, long ones in pieces, and what is left at its end."""
    unfinished = b""
    for chunk in chunks:
        unfinished += chunk
        while piece := _next_piece(unfinished):
            unfinished = unfinished[len(piece) :]
            yield piece
    if unfinished:
        yield unfinished


def _next_piece(data: bytes) -> bytes:
    """Return the first line of what was read, or the first piece of one that is too long; empty while it may go on."""
    end = data.find(b"\n", 0, MAX_LINE_BYTES) + 1
    if end == 0 and len(data) <= MAX_LINE_BYTES:
        return b""
    if end == 0:
        end = data.rfind(b"\r", 0, MAX_LINE_BYTES) + 1 or MAX_LINE_BYTES
        while end > MAX_LINE_BYTES - 4 and data[end] & 0xC0 == 0x80:
            end -= 1  # within a character
    return data[:end]


def line_text(line: bytes) -> str:
    """Return a line as a terminal would show it, with its ``\\n`` if it has one."""
    body = line.rstrip(b"\r\n")
    text = body[body.rfind(b"\r") + 1 :].replace(b"\0", b"").decode("utf-8", errors="replace")
    return f"{text}\n" if line.endswith(b"\n") else text
