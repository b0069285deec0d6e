"""Fail when a process still runs that carries NAME=VALUE in its environment, other than this one and its ancestors.

Usage: leftovers.py NAME VALUE
"""

from __future__ import annotations

import sys

import psutil
from realairflow import processes


def main(name: str, value: str) -> str | None:
    """Kill the processes that are left and return their command lines as an error, or None when there are none."""
    mine = {process.pid for process in psutil.Process().parents()}

    def left_behind(process: psutil.Process) -> bool:
        return process.pid not in mine and process.environ().get(name) == value

    found = processes.find(left_behind)
    told = [f"{process.pid} {' '.join(process.cmdline())}" for process in found]
    processes.kill(left_behind)
    return "\n".join(["these processes were left behind:", *told]) if told else None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
