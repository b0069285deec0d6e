"""``KubernetesPodOperator`` as the trial, against a simulated API server that runs the pods' commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.fakes.kubernetes_pods import FakePods

pytestmark = pytest.mark.integrations

#: What runs in a pod, without this package; the trial 1 fails. It reports to the tracker; ``told`` to an XCom.
TRAIN = """
import json, pathlib, sys
x, index, tracker_base = sys.argv[1:]
print("training with", x)
if index == "1":
    sys.exit(3)
pathlib.Path(tracker_base).mkdir(parents=True)
pathlib.Path(tracker_base, index).write_text(json.dumps({"loss": float(x)}))
"""
DAG = f"""
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag
from airflow_provider_axtx.task_groups import ax_trial_loop

X = {{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}}


def train(trial):
    KubernetesPodOperator(
        task_id="train",
        image="train",
        cmds=[{sys.executable!r}, "-c", {TRAIN!r}],
        arguments=[f"{{trial['x']}}", f"{{trial['trial_index']}}", f"{{trial['tracker_base']}}"],
        log_events_on_failure=False,
    )


def told(trial):
    write = f"echo {{trial['x']}} > /airflow/xcom/return.json"
    return KubernetesPodOperator(task_id="told", image="train", cmds=["sh", "-c"], arguments=[write], do_xcom_push=True)


@dag(schedule=None)
def tune_pods():
    ax_trial_loop("tune", {{"name": "pods", "parameters": [X], "objective": "-loss"}}, body=train, trials_per_round=2)
    ax_trial_loop("told", {{"name": "told", "parameters": [X], "objective": "-loss"}}, body=told)


tune_pods()
"""


def test_a_pod_does_the_work_of_each_trial(tmp_path: Path, airflow_home: Path) -> None:
    (airflow_home / "dags").mkdir()
    (airflow_home / "dags" / "tune_pods.py").write_text(DAG)
    with FakePods(tmp_path / "volumes") as pods:
        (tmp_path / "kubeconfig").write_text(json.dumps(pods.kubeconfig()))
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(tmp_path / "kubeconfig")}}
        environment = {**os.environ, "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection)}
        for command in (["db", "migrate"], ["dags", "test", "tune_pods"]):
            done = subprocess.run(
                [sys.executable, "-m", "airflow", *command],
                env=environment,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout[-8000:]
    store = ExperimentStore(f"sqlite:///{airflow_home}/axtx/experiments.db")
    first, second = store.trials("pods")
    assert len(pods.ended) == 3, done.stdout[-8000:]
    assert (first.status, first.reason) == ("COMPLETED", None), done.stdout[-8000:]
    assert [o.mean for o in store.observations("pods", 0)] == [first.parameters["x"]]
    assert second.status == "FAILED"
    assert "tune.round_0.body.train_1 failed: " in str(second.reason)
    (third,) = store.trials("told")
    assert (third.status, third.reason) == ("COMPLETED", None), done.stdout[-8000:]
    assert [o.mean for o in store.observations("told", 0)] == [third.parameters["x"]]
    assert store.open_attempts() == []
