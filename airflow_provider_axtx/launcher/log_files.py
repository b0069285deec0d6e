"""Reading log files, which may be of any size and may still grow, in bounded pieces.

Only ``\n`` ends a line. What a progress bar overwrote with ``\r`` is left out, as a terminal would show it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from airflow_provider_axtx.launcher.regular_files import open_regular

_CHUNK_BYTES = 64 * 1024
#: A longer line is given in pieces of this size, none of which is cut when it is shown.
MAX_LINE_BYTES = 2000
#: How far from the end of a file its last lines are looked for.
MAX_TAIL_BYTES = 1024 * 1024
#: A reader that is further behind than this skips to the last ``MAX_TAIL_BYTES``.
MAX_BACKLOG_BYTES = 8 * 1024 * 1024
_INTERVAL_SECONDS = 0.2


def last_lines(path: Path, count: int, below: Path | None = None) -> list[str]:
    """Return the last lines of a file without their ends, reading at most ``MAX_TAIL_BYTES`` from its end.

    :param below: folder below which no link is followed, as in ``open_regular``.
    :raises OSError: it cannot be read, or is not a regular file.
    """
    with open_regular(path, below) as file:
        position = file.seek(0, os.SEEK_END)
        pieces: list[bytes] = []
        missing, budget = count + 1, MAX_TAIL_BYTES
        while position > 0 and missing > 0 and budget > 0:
            size = min(_CHUNK_BYTES, position, budget)
            position -= size
            file.seek(position)
            pieces.append(file.read(size))
            missing -= pieces[-1].count(b"\n")
            budget -= size
    data = b"".join(reversed(pieces))
    lines = data.split(b"\n")
    if position > 0 and len(lines) > 1:
        del lines[0]  # its beginning was not read
    if lines and not lines[-1]:
        del lines[-1]
    return [line_text(line[-_CHUNK_BYTES:]) for line in lines[-count:]]


def read_lines(
    path: Path,
    position: int = 0,
    *,
    ended: Callable[[], bool],
    should_wait: bool = False,
    may_skip: bool = False,
    below: Path | None = None,
) -> Iterator[tuple[int, str]]:
    r"""Yield the lines of a file from a position on, each with the position behind it and its ``\n``.

    A line of more than ``MAX_LINE_BYTES`` comes in pieces; only the last one has the ``\n``. A last line without an end
    comes when the app has ended.

    :param path: the file; while it does not exist (the app waits in the queue) it counts as empty.
    :param position: in bytes; one behind the end of the file (which was replaced) counts as its beginning.
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
    with open_regular(path, below) as file:
        size = os.fstat(file.fileno()).st_size
        position = position if position <= size else 0
        if may_skip and size - position > MAX_BACKLOG_BYTES:
            start = size - MAX_TAIL_BYTES
            yield start, f"[{start - position} bytes of output are left out here]\n"
            position = start
        file.seek(position)
        yield from _lines_from(file, position, ended, should_wait)


def _lines_from(
    file: BinaryIO, position: int, ended: Callable[[], bool], should_wait: bool
) -> Iterator[tuple[int, str]]:
    unfinished = b""
    while True:
        is_last = ended()  # Asked before reading: what was written before the end is then read below.
        while chunk := file.read(_CHUNK_BYTES):
            unfinished += chunk
            while piece := _next_piece(unfinished):
                unfinished = unfinished[len(piece) :]
                position += len(piece)
                yield position, line_text(piece)
        if is_last:
            break
        if not should_wait:
            return
        time.sleep(_INTERVAL_SECONDS)
    if unfinished:
        yield position + len(unfinished), line_text(unfinished)


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
