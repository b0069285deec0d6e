"""What the DAG files of the cases share: a search space, a component whose apps wait until a test lets them go."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

COMPONENT = f"{Path(__file__).parents[1] / 'dags_faults' / 'apps' / 'components.py'}:app"
PARAMETERS = [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}]
#: The folder of a DAG run's apps; DAG runs that Airflow makes by itself share one.
FOLDER = os.environ.get("AXTX_CASES_FOLDER", "")
PARAMS = {"folder": FOLDER, "behaviours": "good", "max_trials": 2}
DAG_SETTINGS: dict[str, Any] = {"schedule": None, "params": PARAMS}
RETRY_SOON = {"retries": 3, "retry_delay": timedelta(seconds=1)}
NAME = "{{ dag.dag_id }}-{{ run_id }}"


def experiment(part: str = "", *, name: str | None = None, **generation: Any) -> dict[str, Any]:
    """Return an experiment of this DAG run, of one part of it, or of the given name, with random search by default."""
    own = f"{NAME}-{part}" if part else NAME
    return {
        "name": name or own,
        "parameters": PARAMETERS,
        "objective": "-loss",
        "generation": generation or {"method": "random_search"},
    }


def young(name: str) -> dict[str, Any]:
    """Return an experiment whose model wants two results before it proposes a third trial."""
    return experiment(name=name, initialization_budget=2, initialization_random_seed=1, random_seed=1)


def app_args(part: str = "") -> dict[str, Any]:
    """Return the component's arguments: the folder of the DAG run's apps, or of those of one part."""
    folder = "{{ params.folder }}"
    return {"folder": f"{folder}/{part}" if part else folder, "behaviours": "{{ params.behaviours }}"}
