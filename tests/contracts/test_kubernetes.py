"""Kubernetes, its API server simulated: what only it does."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection

from airflow_provider_axtx.hooks.torchx import read_settings
from tests.contracts.rigs import KubernetesRig

pytestmark = pytest.mark.kubernetes


def test_namespace_queue_and_service_account_come_from_the_connection(kubernetes_rig: KubernetesRig) -> None:
    wanted = {"namespace": "team", "queue": "nightly", "service_account": "runner"}
    extra = json.dumps({"scheduler": "kubernetes", "scheduler_args": wanted})
    settings = read_settings(Connection(conn_id="k8s", conn_type="torchx", extra=extra))
    kubernetes_rig.scheduler_args = settings.scheduler_args
    kubernetes_rig.launcher = kubernetes_rig.new_launcher()
    handle = kubernetes_rig.submit(kubernetes_rig.key)
    [((namespace, _), job)] = kubernetes_rig.cluster.jobs.items()
    [task] = job["spec"]["tasks"]
    assert (namespace, job["spec"]["queue"]) == ("team", "nightly")
    assert task["template"]["spec"]["serviceAccountName"] == "runner"
    assert kubernetes_rig.find(kubernetes_rig.key) == handle
    kubernetes_rig.await_running(kubernetes_rig.key, handle)
    kubernetes_rig.cancel(handle)
    assert kubernetes_rig.cluster.jobs == {}
    assert kubernetes_rig.observe(handle).app_state == "UNKNOWN"
