"""What is done again when another process wrote to the same experiment first."""

from __future__ import annotations

import tenacity

from airflow_provider_axtx.core.errors import StoreConflictError

#: Decorates a function that reads records and writes what follows from them: it runs again from its first line when the
#: store refuses the write because another process was first.
retry_conflicts = tenacity.retry(
    retry=tenacity.retry_if_exception_type(StoreConflictError),
    stop=tenacity.stop_after_attempt(20),
    wait=tenacity.wait_random(0, 0.5),
    reraise=True,
)
