"""Creates what the pages expect: an AIRFLOW_HOME with Airflow's database, and the experiment ``my-experiment``."""

from __future__ import annotations

from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec

EXPERIMENT = "my-experiment"
SPEC = {
    "name": EXPERIMENT,
    "parameters": [
        {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
    ],
    "objective": "-booth_eval",
}


def booth(x1: float, x2: float) -> float:
    """Return the value that ``utils.booth`` reports."""
    return (x1 + 2 * x2 - 7) ** 2 + (2 * x1 + x2 - 5) ** 2


def main() -> None:
    """Create the experiment with six completed trials."""
    from airflow.utils.db import initdb

    initdb()
    store = AxHook().store
    create_experiment(store, ExperimentSpec.load(SPEC), if_exists="fail")
    for number in range(6):
        (trial,) = generate_trials(store, EXPERIMENT, 1, task_key=f"docs/{number}").trials
        value = booth(**{name: float(value) for name, value in trial.parameters.items()})
        store.complete(
            EXPERIMENT,
            trial.trial_index,
            status="COMPLETED",
            observations=[Observation(trial.trial_index, "booth_eval", value)],
        )


if __name__ == "__main__":
    main()
