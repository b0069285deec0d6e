"""What Airflow's commands print."""

from __future__ import annotations

import json
from itertools import dropwhile
from typing import Any


def json_printed(output: str) -> Any:
    """Return the rows that a command printed as JSON.

    Airflow 3.2 writes its own log to the standard output as well, before what the command prints.
    """
    lines = dropwhile(lambda line: not line.startswith("["), output.splitlines())
    return json.loads("\n".join(lines))
