"""Generation strategies of somebody's own, as a ``generation.factory`` makes them."""

from __future__ import annotations

from typing import Any

from ax.adapter.registry import Generators
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.trial_status import TrialStatus
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generation_strategy.transition_criterion import MinTrials


def sobol_then_model() -> GenerationStrategy:
    """Four Sobol points, then a model, in nodes with names of their own."""
    first = GenerationNode(
        name="explore",
        generator_specs=[GeneratorSpec(Generators.SOBOL, generator_kwargs={"seed": 5})],
        transition_criteria=[
            MinTrials(
                threshold=4,
                transition_to="exploit",
                only_in_statuses=[TrialStatus.COMPLETED, TrialStatus.EARLY_STOPPED],
            )
        ],
    )
    then = GenerationNode(name="exploit", generator_specs=[GeneratorSpec(Generators.BOTORCH_MODULAR)])
    return GenerationStrategy(name="own", nodes=[first, then])


class Halving(ExternalGenerationNode):
    """Proposes 1, 1/2, 1/4 ... from how many trials there are; Ax cannot write it as JSON."""

    def __init__(self) -> None:
        super().__init__(name="halving", should_deduplicate=False)
        self.count = 0

    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        self.count = len(experiment.trials)

    def get_next_candidate(self, pending_parameters: list[Any]) -> dict[str, Any]:
        return {"x": 0.5**self.count, "y": 0.25}


def halving() -> GenerationStrategy:
    return GenerationStrategy(name="halving", nodes=[Halving()])


def no_strategy() -> str:
    return "sobol"
