"""Reading an app's log files line by line, while it runs or afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_INTERVAL = 0.2


def read_lines(path: Path, ended: Callable[[], bool], *, should_tail: bool) -> Iterator[str]:
    r"""Yield the lines of a log file, each with its ``\n``; the last one may lack it.

    :param path: the file; while it does not exist (the app waits in the queue) it counts as empty.
    :param ended: says whether the app has ended, so that nothing more can be written.
    :param should_tail: wait for further lines until the app has ended.
    """
    while not path.exists():
        if not should_tail or (ended() and not path.exists()):
            return
        time.sleep(_INTERVAL)
    with path.open("rb") as file:
        for line in _follow(file, ended) if should_tail else file:
            # Whole lines only: a character may be half written when the end of the file is reached.
            yield line.decode("utf-8", errors="replace")


def _follow(file: BinaryIO, ended: Callable[[], bool]) -> Iterator[bytes]:
    unfinished = b""
    while True:
        last = ended()  # Asked before reading: what was written before the end is then read below.
        for line in file:
            unfinished += line
            if line.endswith(b"\n"):
                yield unfinished
                unfinished = b""
        if last:
            break
        time.sleep(_INTERVAL)
    if unfinished:
        yield unfinished
