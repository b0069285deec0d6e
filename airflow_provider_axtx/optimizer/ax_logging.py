"""Ax's log lines go where all others go.

Ax gives its logger a stderr handler of its own and stops propagation. In an Airflow task everything on stderr is shown
as an error, and a handler that keeps the stream of import time writes into a closed file after a fork.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_import() -> Iterator[None]:
    """Import Ax inside this block: nothing is logged meanwhile, and its logger ends up behind the root logger's."""
    before = logging.root.manager.disable
    # The handler is made and used during the same import: only a process-wide switch comes in time.
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
