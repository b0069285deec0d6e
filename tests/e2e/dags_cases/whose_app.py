"""Several loops in one DAG, names that render anew, a scheduler that changes: which apps belong to which task."""

from __future__ import annotations

import uuid

from airflow.sdk import TaskGroup, dag, task_group
from cases_common import COMPONENT, DAG_SETTINGS, NAME, RETRY_SOON, app_args, experiment

from airflow_provider_axtx.operators.ax import (
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator, TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.task_groups import ax_trial_loop


def loop(group_id: str) -> TaskGroup:
    """A loop of one trial, with a part of its own of the DAG run's experiments and folder."""
    return ax_trial_loop(
        group_id,
        experiment(group_id),
        COMPONENT,
        rounds=1,
        component_args=app_args(group_id),
        poke_interval=2,
        deferrable=True,
    )


@dag(**DAG_SETTINGS)
def two_loops() -> None:
    loop("fast")
    loop("slow")


@dag(**DAG_SETTINGS)
def loop_and_optimize() -> None:
    loop("fast")
    AxOptimizeOperator(
        task_id="optimize",
        experiment=experiment("slow"),
        component=COMPONENT,
        component_args=app_args("slow"),
        max_trials=2,
        parallelism=2,
        poll_interval=5,
        deferrable=True,
    )


@dag(**DAG_SETTINGS)
def chained_loops() -> None:
    loop("fast") >> loop("slow")


@dag(**DAG_SETTINGS)
def nested_loops() -> None:
    for name in ("fast", "slow"):
        with TaskGroup(f"outer_{name}"):
            loop(name)


@dag(**DAG_SETTINGS)
def mapped_chains() -> None:
    """Each instance of a mapped group has a reap of its own."""

    @task_group
    def chain(number: int) -> None:
        part = "{{ ti.map_index }}"
        create = AxCreateExperimentOperator(task_id="create", experiment=experiment(part))
        trial = AxGenerateTrialOperator(task_id="generate", experiment_name=create.output)
        run = TorchXSubmitTrialOperator(
            task_id="submit", trial=trial.output, component=COMPONENT, component_args=app_args(part)
        )
        wait = TorchXTrialSensor(task_id="wait", run=run.output, poke_interval=2, deferrable=True)
        done = AxCompleteTrialOperator(task_id="complete", run=wait.output)
        done >> TorchXReapTrialsOperator(task_id="reap").as_teardown(setups=create)

    chain.expand(number=[0, 1])


def optimize(name: str, deferrable: bool = True) -> None:
    """Run two trials at once in one task, as the experiment of the given name."""
    AxOptimizeOperator(
        task_id="optimize",
        experiment=experiment(name=name),
        component=COMPONENT,
        component_args=app_args(),
        max_trials=2,
        parallelism=2,
        poll_interval=2,
        deferrable=deferrable,
        **RETRY_SOON,
    )


@dag(**DAG_SETTINGS)
def name_of_each_parse() -> None:
    optimize(f"{NAME}-{uuid.uuid4().hex[:8]}")


@dag(**DAG_SETTINGS)
def name_of_each_moment() -> None:
    optimize(NAME + "-{{ macros.datetime.now().isoformat() }}")


@dag(**DAG_SETTINGS)
def name_of_each_try() -> None:
    optimize(NAME + "-{{ ti.try_number }}", deferrable=False)


def optimize_on(scheduler: str, **settings: object) -> None:
    """Run three trials, two at once, on a scheduler that may change meanwhile."""
    AxOptimizeOperator(
        task_id="optimize",
        experiment=experiment(),
        component=COMPONENT,
        component_args=app_args(),
        max_trials=3,
        parallelism=2,
        scheduler=scheduler,
        poll_interval=11,  # longer than a deferral, so that it always defers and renders its arguments anew
        deferrable=True,
        **RETRY_SOON,
        **settings,
    )


CHOSEN = "{{ var.value.get('scheduler', 'local_detached') }}"


@dag(**DAG_SETTINGS)
def scheduler_with_arguments() -> None:
    optimize_on(CHOSEN, scheduler_args={"max_parallel": 40})


@dag(**DAG_SETTINGS)
def scheduler_of_connection() -> None:
    optimize_on(CHOSEN)


@dag(**DAG_SETTINGS)
def fixed_loop() -> None:
    """Every DAG run has the same experiment."""
    ax_trial_loop(
        "tune",
        experiment(name="fixed-loop"),
        COMPONENT,
        rounds=1,
        trials_per_round=2,
        component_args=app_args(),
        poke_interval=2,
    )


@dag(**DAG_SETTINGS)
def fixed_optimize() -> None:
    """Every DAG run has the same experiment."""
    AxOptimizeOperator(
        task_id="optimize",
        experiment=experiment(name="fixed-optimize"),
        component=COMPONENT,
        component_args=app_args(),
        max_trials="{{ params.max_trials }}",
        parallelism=2,
        poll_interval=1,
    )


two_loops()
loop_and_optimize()
chained_loops()
nested_loops()
mapped_chains()
name_of_each_parse()
name_of_each_moment()
name_of_each_try()
scheduler_with_arguments()
scheduler_of_connection()
fixed_loop()
fixed_optimize()
