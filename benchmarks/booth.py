"""The experiment of Ax's TorchXRunner tutorial: TorchX's own component ``utils.booth``."""

from __future__ import annotations

from typing import Any

EXPERIMENT: dict[str, Any] = {
    "name": "booth",
    "parameters": [
        {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [-10.0, 10.0]},
        {"type": "range", "name": "x2", "parameter_type": "float", "bounds": [-10.0, 10.0]},
    ],
    "objective": "-booth_eval",
    "generation": {"initialization_budget": 5, "initialization_random_seed": 1, "random_seed": 1},
}
