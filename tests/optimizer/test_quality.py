"""``generation={"method": "quality"}`` with its extra (JAX and NumPyro): ``make test-quality``."""

from __future__ import annotations

import pytest
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.core.xcom import Trial
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore

pytestmark = [pytest.mark.quality, pytest.mark.filterwarnings("ignore")]

BUDGET = 3


def loss(parameters: dict[str, float]) -> float:
    return (parameters["x"] - 0.3) ** 2 + (parameters["y"] - 0.6) ** 2


def test_the_fully_bayesian_model_proposes_what_it_proposes_for_ax_alone(tmp_path: object) -> None:
    spec = ExperimentSpec(
        name="quality",
        parameters=[{"type": "range", "name": n, "bounds": [0, 1], "parameter_type": "float"} for n in "xy"],
        objective="-loss",
        generation={
            "method": "quality",
            "initialization_budget": BUDGET,
            "initialization_random_seed": 1,
            "random_seed": 1,
        },
    )
    store = ExperimentStore(f"sqlite:///{tmp_path}/store.db")
    # Checks that the extra is installed, and tries the definition.
    create_experiment(store, spec, if_exists="fail")
    ours: list[Trial] = []
    for number in range(BUDGET + 1):
        ours += generate_trials(store, "quality", 1, task_key=f"dag/task/{number}").trials
        if number < BUDGET:
            observed = Observation(number, "loss", loss(ours[-1].parameters))  # type: ignore[arg-type]
            store.complete("quality", number, status="COMPLETED", observations=[observed])
    assert [trial.generation_node for trial in store.trials("quality")][-1] == "MBM"

    client = Client(random_seed=1)
    client.configure_experiment([RangeParameterConfig(name, (0.0, 1.0), "float") for name in "xy"], name="quality")
    client.configure_optimization("-loss")
    client.configure_generation_strategy(method="quality", initialization_budget=BUDGET, initialization_random_seed=1)
    theirs = []
    for number in range(BUDGET + 1):
        ((index, parameters),) = client.get_next_trials(max_trials=1).items()
        theirs.append(parameters)
        if number < BUDGET:
            client.complete_trial(index, {"loss": loss(parameters)})  # type: ignore[arg-type]
    assert [trial.parameters for trial in ours] == theirs
