"""An Airflow DAG all of whose tasks share a pool of one slot."""

from __future__ import annotations

from airflow.sdk import dag

from tests.platform.dags.platform_common import loop, settings


@dag(**settings())
def pooled_loop() -> None:
    loop(default_args={"pool": "one_slot"})


pooled_loop()
