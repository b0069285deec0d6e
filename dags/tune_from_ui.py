"""Runs an experiment from the Trigger form: search space, objective, component, scheduler and budget.

The defaults run as they are: TorchX's example component `utils.booth` with four trials. The page *Experiments* and the
tab *Experiments* of the DAG run show the trials.

The form offers fixed lists of components and schedulers, because a component is code that the workers run.
"""

from __future__ import annotations

from pathlib import Path

import pendulum
from airflow.sdk import Param, dag

from airflow_provider_axtx.operators.ax import AxBestTrialOperator
from airflow_provider_axtx.task_groups import ax_trial_loop

MAX_ROUNDS = 10
DIGITS = f"{Path(__file__).parent / 'apps' / 'components.py'}:digits"
COMPONENTS = ["utils.booth", DIGITS]

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

SEARCH_SPACE = """
A list of **range** and **choice** parameters, named and typed as the component's arguments. The default fits
**utils.booth**. For the component **digits**, with the objective **accuracy**:

```json
[
  {"type": "range", "name": "c", "parameter_type": "float",
   "bounds": [0.01, 1000], "scaling": "log"},
  {"type": "range", "name": "gamma", "parameter_type": "float",
   "bounds": [0.0001, 1], "scaling": "log"},
  {"type": "range", "name": "pixels", "parameter_type": "int",
   "bounds": [2, 64]},
  {"type": "choice", "name": "kernel", "parameter_type": "str",
   "values": ["rbf", "sigmoid"], "is_ordered": false}
]
```
"""

WHAT, HOW, BUDGET = "What is tuned", "How a trial is run", "Budget of this run"

PARAMS = {
    "experiment_name": Param(
        "from-ui",
        type="string",
        title="Experiment",
        description="The experiment's name. An existing experiment continues if its definition is the same. "
        "Choose another name for another search space, objective or constraint.",
        section=WHAT,
        minLength=1,
        maxLength=80,
        pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$",
    ),
    "component": Param(
        COMPONENTS[0],
        type="string",
        title="Component",
        description="The TorchX component that describes how to run a trial. The search space names its arguments.",
        section=WHAT,
        enum=COMPONENTS,
        values_display={"utils.booth": "utils.booth (an example of TorchX)", DIGITS: "digits (scikit-learn)"},
    ),
    "parameters": Param(
        [
            {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
            {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        ],
        type="array",
        title="Search space",
        description_md=SEARCH_SPACE,
        section=WHAT,
        minItems=1,
        items=PARAMETER_SCHEMA,
    ),
    "objective": Param(
        "-booth_eval",
        type="string",
        title="Objective",
        description_md="A metric that the app reports: **accuracy** is maximized, **-loss** is minimized. Separate "
        "several objectives by commas: **accuracy, -latency**.",
        section=WHAT,
        minLength=1,
    ),
    "outcome_constraints": Param(
        [],
        type=["null", "array"],
        title="Outcome constraints",
        description_md="Bounds on other metrics, one in each line: **latency <= 50**. Empty for none.",
        section=WHAT,
        items={"type": "string", "minLength": 1},
    ),
    "component_args": Param(
        {},
        type="object",
        title="Constant arguments",
        description_md='Arguments of the component that are not tuned, for example **{"folds": 5}** for **digits**.',
        section=HOW,
    ),
    "scheduler": Param(
        "local_detached",
        type="string",
        title="Scheduler",
        description="The TorchX scheduler that runs the apps.",
        section=HOW,
        enum=["local_detached", "slurm"],
        values_display={"local_detached": "this machine (local_detached)", "slurm": "Slurm"},
    ),
    "rounds": Param(
        2,
        type="integer",
        title="Rounds",
        description=f"Rounds run one after the other. Each round learns from the previous ones. At most {MAX_ROUNDS}.",
        section=BUDGET,
        minimum=1,
        maximum=MAX_ROUNDS,
    ),
    "trials_per_round": Param(
        2,
        type="integer",
        title="Trials in each round",
        description="The trials of a round run in parallel. This run has rounds times trials in each round: with the "
        "defaults 2 x 2 = 4 trials.",
        section=BUDGET,
        minimum=1,
        maximum=20,
    ),
}

EXPERIMENT = (
    '{"name": {{ params.experiment_name | tojson }}, "parameters": {{ params.parameters | tojson }},'
    ' "objective": {{ params.objective | tojson }},'
    ' "outcome_constraints": {{ (params.outcome_constraints or []) | tojson }}}'
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
        # A template may name only these: a component is code.
        allowed_components=COMPONENTS,
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
