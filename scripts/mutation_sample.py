"""Keep some mutants of a session of cosmic-ray, chosen at random: ``mutation_sample.py SESSION COUNT SEED``.

``scripts/mutation.py`` runs it with the Python of cosmic-ray's environment.
"""

from __future__ import annotations

import random
import sys

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult


def main(session: str, count: int, seed: int) -> None:
    """Mark the others as skipped."""
    with use_db(session, WorkDB.Mode.open) as database:
        # Their identifiers differ each time; the same seed has to choose the same mutants.
        pending = sorted(database.pending_work_items, key=lambda item: str(item.mutations))
        kept = {item.job_id for item in random.Random(seed).sample(pending, min(count, len(pending)))}
        for item in pending:
            if item.job_id not in kept:
                database.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED, output="not chosen"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
