"""A generation strategy of a user's own, which breaks after its third trial.

The creation of an experiment tries three.
"""

from __future__ import annotations

from typing import Any

from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy


class Broken(ExternalGenerationNode):
    """Proposes three trials, then raises."""

    def __init__(self) -> None:
        super().__init__(name="broken", should_deduplicate=False)
        self.trials = 0

    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        """Count the trials."""
        self.trials = len(experiment.trials)

    def get_next_candidate(self, pending_parameters: list[Any]) -> dict[str, float]:
        """Return one of the three candidates that there are."""
        if self.trials >= 3:
            raise RuntimeError("this generator is broken")
        return {"x": self.trials / 4}


def broken() -> GenerationStrategy:
    """Return the strategy."""
    return GenerationStrategy(name="broken", nodes=[Broken()])
