"""A person reviews the proposed trials before they run: *Approve* runs them, *Reject* abandons them."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag

from airflow_provider_axtx.operators.ax import (
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator, TorchXRunTrialOperator

EXPERIMENT = {
    "name": "approved-{{ run_id }}",
    "parameters": [
        {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
    ],
    "objective": "-booth_eval",
    "generation": {"initialization_budget": 4, "initialization_random_seed": 1, "random_seed": 1},
}


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    tags=["ax", "torchx"],
    doc_md=__doc__,
)
def approve_before_spending() -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=EXPERIMENT, component="utils.booth")
    name = "{{ ti.xcom_pull(task_ids='create') }}"
    generate = AxGenerateTrialsOperator(task_id="generate", experiment_name=name, n=3)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Run these trials?",
        body="{% for trial in ti.xcom_pull(task_ids='generate') %}"
        "- trial {{ trial.trial_index }}: `{{ trial.parameters | tojson }}`\n"
        "{% endfor %}",
    )
    run = TorchXRunTrialOperator.partial(
        task_id="run", component="utils.booth", poke_interval=1, timeout=600, deferrable=True
    ).expand(trial=generate.output)
    complete = AxCompleteTrialOperator.partial(task_id="complete").expand(run=run.output)
    # A rejected DAG run has no best trial. The operator's default rule would run it after skipped tasks.
    best = AxBestTrialOperator(task_id="best", experiment_name=name, trigger_rule="all_success")
    # Rejected trials were never submitted. The teardown abandons them, so that Ax does not wait for their results.
    reap = TorchXReapTrialsOperator(task_id="reap", reason="rejected, or left open by its DAG run")
    create >> generate >> approve >> run
    complete >> best
    complete >> reap.as_teardown(setups=create)


approve_before_spending()
