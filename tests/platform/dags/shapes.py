"""Airflow DAGs: each way to wait, for each queue. Queues tell a test which worker runs a task."""

from __future__ import annotations

from tests.platform.dags.platform_common import loop, make_dag, optimize

for queue in ("default", "one", "two", "hostb"):
    make_dag(f"loop_{queue}", loop, queue)
    make_dag(f"poking_loop_{queue}", loop, queue, deferrable=False)
    make_dag(f"optimize_{queue}", optimize, queue)
    make_dag(f"steps_{queue}", loop, queue, fused=False)
    make_dag(f"poking_optimize_{queue}", optimize, queue, deferrable=False)
