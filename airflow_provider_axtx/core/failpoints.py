"""Named crash points, armed from outside by a fault-injection test.

A crash point costs one dictionary look-up when it is not armed. It lives in the product's code because a crash
*between* two recorded steps can be provoked at no other place.
"""

from __future__ import annotations

import os
import signal

#: Environment variable that holds the name of the armed crash point, or ``name:N`` for its N-th passage (from 1), or
#: ``name:N:FILE``: then each passage of any point is appended to the file first, as ``<point> <pid>``. That is how a
#: test learns which points there are, and that a process was killed where it should be.
ARMED_VARIABLE = "AXTX_CRASH_POINT"

_passages: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL if ``AXTX_CRASH_POINT`` names this point.

    :param name: the name of the point, ``<area>.<before|after>_<step>``.
    """
    armed = os.environ.get(ARMED_VARIABLE)
    if armed is None:
        return
    wanted, passage, record = (*armed.split(":", 2), "", "")[:3]
    if record:
        with open(record, "a", encoding="utf-8") as file:  # noqa: PTH123 - loaded by the supervisor, without pathlib
            file.write(f"{name} {os.getpid()}\n")
    if wanted != name:
        return
    _passages[name] = _passages.get(name, 0) + 1
    if _passages[name] == int(passage or 1):
        os.kill(os.getpid(), signal.SIGKILL)
