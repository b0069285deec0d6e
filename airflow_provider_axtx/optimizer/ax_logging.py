"""Sends Ax's log lines to standard logging.

Ax gives its logger a stderr handler of its own and stops propagation. In an Airflow task everything on stderr is shown
as an error, and a handler that keeps the stream of import time writes into a closed file after a fork.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_import() -> Iterator[None]:
    """Silence the import of Ax inside this block; afterwards Ax's logger hands its lines to the root logger."""
    before = logging.root.manager.disable
    # Ax makes its handler and logs through it during the same import, so only a process-wide switch works.
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)
    _use_standard_logging()


def _use_standard_logging() -> None:
    from ax.utils.common.logger import ROOT_LOGGER, ROOT_STREAM_HANDLER

    ROOT_LOGGER.removeHandler(ROOT_STREAM_HANDLER)
    ROOT_LOGGER.propagate = True
    ROOT_LOGGER.setLevel(logging.NOTSET)
