"""The lease on an experiment: a row that says who is fitting its model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_random_exponential

from airflow_provider_axtx.core.errors import AxtxError
from airflow_provider_axtx.store import _experiment_rows
from airflow_provider_axtx.store._database import Database
from airflow_provider_axtx.store.tables import KEY_LENGTH

log = logging.getLogger(__name__)


@dataclass
class Lease:
    """A lease on an experiment.

    :param taken: whether it was taken within the time that the caller has waited.
    :param released: whether it was given back already, in the transaction that recorded what was done under it.
    """

    taken: bool
    released: bool = False


@contextmanager
def hold(db: Database, name: str, owner: str, seconds: float) -> Iterator[Lease]:
    """Hold the experiment's lease; see ``ExperimentStore.lease``."""
    owner, looks = owner[-KEY_LENGTH:], 0

    def take() -> bool:
        nonlocal looks
        looks += 1
        # Mostly it is free. Waiting with a write transaction every second would hold up SQLite's other writers.
        if looks > 1 and db.read(lambda connection: _experiment_rows.is_leased_by_another(connection, name, owner)):
            return False
        return db.write("lease", lambda connection: _experiment_rows.take_lease(connection, name, owner, seconds))

    waiting = Retrying(
        retry=retry_if_result(lambda taken: not taken),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(multiplier=0.1, max=2.0),
        retry_error_callback=lambda _: False,
    )
    lease = Lease(waiting(take))
    try:
        yield lease
    finally:
        if lease.taken and not lease.released:
            _release(db, name, owner)


def _release(db: Database, name: str, owner: str) -> None:
    try:
        db.write("release", lambda connection: _experiment_rows.release_lease(connection, name, owner))
    except AxtxError as error:
        # What was done under the lease is recorded already; an unreleased lease expires by itself.
        log.warning("The lease on experiment %s was not released and will expire: %s", name, error)
