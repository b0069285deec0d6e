"""Every night: ends what DAG runs have left behind, then removes experiments that were not used for a time."""

from __future__ import annotations

import pendulum
from airflow.sdk import Param, dag

from airflow_provider_axtx.operators.ax import AxCleanupOperator, AxReapOperator


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={
        "older_than": Param("90d", type="string", description="For how long an experiment must not have been used")
    },
    tags=["ax", "torchx"],
    doc_md=__doc__,
)
def axtx_maintenance() -> None:
    reap = AxReapOperator(task_id="reap", retries=2)
    # An app that cannot be ended now must not keep old experiments from being removed.
    cleanup = AxCleanupOperator(task_id="cleanup", older_than="{{ params.older_than }}", trigger_rule="all_done")
    reap >> cleanup


axtx_maintenance()
