"""Run from the Trigger form: search space, objective, rounds, component and scheduler are chosen there.

The defaults run as they are. The component and the scheduler come from fixed lists: a form must not be able to name any
command.
"""

from __future__ import annotations

from pathlib import Path

import pendulum
from airflow.sdk import Param, dag

from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

MAX_ROUNDS = 10
COMPONENTS = ["utils.booth", f"{Path(__file__).parent / 'apps' / 'components.py'}:digits"]

PARAMETER_SCHEMA = {
    "type": "object",
    "required": ["type", "name", "parameter_type"],
    "properties": {
        "type": {"enum": ["range", "choice"]},
        "name": {"type": "string", "minLength": 1},
        "parameter_type": {"enum": ["float", "int", "str", "bool"]},
        "bounds": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "values": {"type": "array", "minItems": 1},
        "scaling": {"enum": ["linear", "log"]},
        "is_ordered": {"type": "boolean"},
    },
}

PARAMS = {
    "experiment_name": Param(
        "from-ui",
        type="string",
        title="Experiment",
        description="Resumed when it exists with the same definition.",
        minLength=1,
        maxLength=80,
        pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    ),
    "parameters": Param(
        [
            {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
            {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        ],
        type="array",
        title="Search space",
        description="A list of range and choice parameters, named and typed as the component's arguments.",
        minItems=1,
        items=PARAMETER_SCHEMA,
    ),
    "objective": Param(
        "-booth_eval",
        type="string",
        title="Objective",
        description="A metric that the app reports; with a minus it is minimised.",
        minLength=1,
    ),
    "component": Param(COMPONENTS[0], type="string", title="Component", enum=COMPONENTS),
    "component_args": Param({}, type="object", title="Constant arguments of the component"),
    "scheduler": Param("local_detached", type="string", title="Scheduler", enum=["local_detached", "slurm"]),
    "rounds": Param(2, type="integer", title="Rounds", minimum=1, maximum=MAX_ROUNDS),
    "trials_per_round": Param(2, type="integer", title="Trials in parallel in each round", minimum=1, maximum=20),
}

EXPERIMENT = (
    '{"name": {{ params.experiment_name | tojson }}, "parameters": {{ params.parameters | tojson }},'
    ' "objective": {{ params.objective | tojson }}}'
)


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    params=PARAMS,
    tags=["ax", "torchx"],
    doc_md=__doc__,
)
def tune_from_ui() -> None:
    loop = ax_trial_loop(
        "tune",
        experiment=EXPERIMENT,
        component="{{ params.component }}",
        component_args="{{ params.component_args | tojson }}",
        scheduler="{{ params.scheduler }}",
        rounds="{{ params.rounds }}",
        max_rounds=MAX_ROUNDS,
        trials_per_round="{{ params.trials_per_round }}",
        poke_interval=1,
        timeout=600,
        deferrable=True,
    )
    loop >> AxBestTrialOperator(task_id="best", experiment_name="{{ params.experiment_name }}")


tune_from_ui()
