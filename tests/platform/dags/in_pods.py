"""Airflow DAGs whose tasks are pods: they share no disk, and their apps run in a cluster of Kubernetes."""

from __future__ import annotations

from tests.platform.dags.platform_common import loop, make_dag, optimize

IN_PODS = {"executor": "PodExecutor"}
ON_KUBERNETES = {"torchx_conn_id": "torchx_pods", "default_args": IN_PODS}

make_dag("loop_pods", loop, **ON_KUBERNETES)
make_dag("poking_loop_pods", loop, deferrable=False, **ON_KUBERNETES)
make_dag("optimize_pods", optimize, torchx_conn_id="torchx_pods", deferrable=True, **IN_PODS)
make_dag("local_loop_pods", loop, fused=False, deferrable=False, default_args={**IN_PODS, "retries": 1})
