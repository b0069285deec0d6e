"""A generation strategy of a user's own, which breaks after its first trial."""

from __future__ import annotations

from typing import Any

from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy


class Broken(ExternalGenerationNode):
    """Proposes one trial, then raises."""

    def __init__(self) -> None:
        super().__init__(name="broken", should_deduplicate=False)
        self.trials = 0

    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        """Count the trials."""
        self.trials = len(experiment.trials)

    def get_next_candidate(self, pending_parameters: list[Any]) -> dict[str, float]:
        """Return the only candidate that there is."""
        if self.trials:
            raise RuntimeError("this generator is broken")
        return {"x": 0.5}


def broken() -> GenerationStrategy:
    """Return the strategy."""
    return GenerationStrategy(name="broken", nodes=[Broken()])
