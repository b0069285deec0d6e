"""Airflow DAGs with a connection of their own to the experiment store."""

from __future__ import annotations

from tests.platform.dags.platform_common import loop, make_dag

for place in ("database", "environment", "workers"):
    make_dag(f"loop_of_{place}", loop, ax_conn_id=f"ax_{place}")
