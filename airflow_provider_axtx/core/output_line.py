"""The last line that a failed app wrote, at the end of a message: an exit code alone explains nothing.

It comes from the app's output, which not every user may read: a message without it can be told to all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

#: Characters of a line that are kept.
MAX_LINE = 300
#: What stands between a message and the line.
_MARK = "; its last line: "
#: Colours and other commands to a terminal.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_TRACEBACK = "Traceback (most recent call last)"


def with_line(message: str, lines: Sequence[str]) -> str:
    """Return a message with the last line of an app's output that says something.

    :param message: why the app failed; a line that it contains already is not repeated.
    :param lines: the end of the output. Of a traceback the line with the exception counts: a program whose output is
        buffered writes the rest of it afterwards.
    """
    line = _last_line(lines)
    if not line or line in message:
        return message
    return f"{message or 'the app failed'}{_MARK}{line}"


def without_line(message: str) -> str:
    """Return a message without what ``with_line`` has added."""
    return message.partition(_MARK)[0]


def _last_line(lines: Sequence[str]) -> str:
    begins = [number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    raised = (line for line in lines[begins[-1] + 1 :] if line.strip() and not line[0].isspace()) if begins else ()
    found = (text for line in (*raised, *reversed(lines)) if (text := _plain(line)))
    return next(found, "")


def _plain(line: str) -> str:
    """Return the line's last part that says something, in one line of printable characters; empty if there is none."""
    for part in reversed(_ESCAPES.sub("", line).splitlines()):  # a progress bar writes many, with \r between them
        text = "".join(" " if unicodedata.category(one).startswith("C") else one for one in part)
        text = " ".join(text.split())
        if any(one.isalnum() for one in text):
            return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…"
    return ""
