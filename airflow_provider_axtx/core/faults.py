"""Named crash points, armed from outside by a fault-injection test.

A crash point costs one dictionary look-up when it is not armed. It lives in the product's code because a crash
*between* two recorded steps can be provoked at no other place.
"""

from __future__ import annotations

import os
import signal

#: Environment variable that holds the name of the armed crash point, or ``name:N`` for its N-th passage (from 1).
ARMED_VARIABLE = "AXTX_CRASH_POINT"

_passages: dict[str, int] = {}


def crash_point(name: str) -> None:
    """Kill this process with SIGKILL if ``AXTX_CRASH_POINT`` names this point.

    :param name: the name of the point, ``<area>.<before|after>_<step>``.
    """
    armed = os.environ.get(ARMED_VARIABLE)
    if armed is None:
        return
    wanted, _, passage = armed.partition(":")
    if wanted != name:
        return
    _passages[name] = _passages.get(name, 0) + 1
    if _passages[name] == int(passage or 1):
        os.kill(os.getpid(), signal.SIGKILL)
