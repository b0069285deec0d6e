"""A definition that changes: proposals equal those of an uninterrupted client that had the same change made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.parameter import ChoiceParameter, ParameterType, RangeParameter
from ax.core.search_space import SearchSpace

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import EarlierDefinition, ExperimentSnapshot, Observation, TrialRecord
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.optimizer.changes import check_change
from airflow_provider_axtx.spec.changes import changed_spec
from airflow_provider_axtx.spec.experiment import ExperimentSpec

# Ax and BoTorch warn of every numerical retry.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

SPEC: dict[str, Any] = {
    "name": "changing",
    "parameters": [
        {"type": "range", "name": "lr", "bounds": [1e-5, 1e-1], "parameter_type": "float", "scaling": "log"},
        {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"},
        {"type": "choice", "name": "kind", "values": ["a", "b"], "parameter_type": "str", "is_ordered": False},
    ],
    "objective": "-loss",
    "outcome_constraints": ["cost <= 3"],
    "generation": {"initialization_random_seed": 7, "random_seed": 11, "initialization_budget": 3},
}


def evaluate(given: Mapping[str, Any]) -> dict[str, float]:
    p = {"extra": 0.5, "kind": "a", **given}
    loss = (p["x"] - 0.7) ** 2 + (p["lr"] - 0.01) ** 2 + 0.1 * (p["kind"] != "b") + (p["extra"] - 0.2) ** 2
    return {"loss": loss, "cost": 2 + p["x"]}


@dataclass
class Recorded:
    """The product's side: records that went through JSON, and another client for each proposal."""

    spec: dict[str, Any]
    trials: list[TrialRecord] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    state: dict[str, Any] | None = None
    history: list[EarlierDefinition] = field(default_factory=list)

    def snapshot(self) -> ExperimentSnapshot:
        return ExperimentSnapshot(
            "changing", "uid", self.spec, self.state, 0, tuple(self.trials), tuple(self.observations),
            tuple(self.history),
        )  # fmt: skip

    def change(self, changes: dict[str, Any]) -> None:
        after = changed_spec(self.spec, changes)
        check_change(self.snapshot(), after)
        self.history.append(EarlierDefinition(self.spec, len(self.trials)))
        self.spec = after.to_json()

    def next(self) -> dict[str, Any]:
        proposal = optimizer.propose(self.snapshot(), 1)
        (new,) = json.loads(json.dumps(asdict(proposal)))["trials"]
        del new["results"]
        index = len(self.trials)
        self.trials.append(TrialRecord(index=index, status="COMPLETED", **new))
        self.state = json.loads(json.dumps(proposal.generator_state))
        self.observations += [Observation(index, name, mean) for name, mean in evaluate(new["parameters"]).items()]
        return dict(new["parameters"])


def definition(*, has_choice: bool) -> dict[str, Any]:
    parameters = SPEC["parameters"] if has_choice else SPEC["parameters"][:2]
    return ExperimentSpec.load({**SPEC, "parameters": parameters}).to_json()


def uninterrupted(*, has_choice: bool) -> Client:
    client = Client(random_seed=11)
    choice = [ChoiceParameterConfig("kind", ["a", "b"], "str", is_ordered=False)] if has_choice else []
    ranges = [
        RangeParameterConfig("lr", (1e-5, 1e-1), "float", scaling="log"),
        RangeParameterConfig("x", (0.0, 1.0), "float"),
    ]
    client.configure_experiment([*ranges, *choice], name="changing")
    client.configure_optimization("-loss", outcome_constraints=["cost <= 3"])
    client.configure_generation_strategy(initialization_budget=3, initialization_random_seed=7)
    return client


def next_of(client: Client) -> dict[str, Any]:
    ((index, parameters),) = client.get_next_trials(max_trials=1).items()
    client.complete_trial(index, raw_data=evaluate(parameters))
    return dict(parameters)


def range_of(name: str, lower: float, upper: float, **more: Any) -> RangeParameter:
    return RangeParameter(name, ParameterType.FLOAT, lower, upper, **more)


def set_space(client: Client, **changed: Any) -> None:
    """Change parameters through the setter of Ax's experiment."""
    experiment = client._experiment
    known = experiment.search_space
    experiment.search_space = SearchSpace(
        [changed.get(name, parameter) for name, parameter in known.parameters.items()], known.parameter_constraints
    )


def kinds(*values: str) -> ChoiceParameter:
    return ChoiceParameter("kind", ParameterType.STRING, list(values), is_ordered=False, sort_values=False)


Change = tuple[int, dict[str, Any], Callable[[Client], None]]
ADDED = {"type": "range", "bounds": [0, 1], "parameter_type": "float", "backfill_value": 0.5}


def widen(client: Client) -> None:
    set_space(client, x=range_of("x", -1, 2))


def freeze_and_add_a_choice(client: Client) -> None:
    set_space(client, kind=kinds("a", "b", "c"))
    client._experiment.disable_parameters_in_search_space({"lr": 0.01})


def narrow_and_tune_again(client: Client) -> None:
    set_space(client, x=range_of("x", 0.2, 0.9), lr=range_of("lr", 1e-5, 1e-1, log_scale=True))


def add(client: Client) -> None:
    client._experiment.search_space.add_parameters([range_of("extra", 0, 1, backfill_value=0.5)])


def correct(client: Client) -> None:
    client.configure_optimization("loss", outcome_constraints=["cost <= 2.5"])
    # A fitted adapter keeps the objective that it was made with.
    for node in client._generation_strategy._nodes:
        for generator in node.generator_specs:
            generator._fitted_adapter = None


WITH_A_CHOICE = "widened during initialization, frozen and a choice added, narrowed and tuned again"
ADDED_AND_CORRECTED = "a parameter added during initialization, the sign and a constraint corrected"
#: Before which trial, the change as a user writes it, and the same through Ax's own methods.
CHANGES: dict[str, list[Change]] = {
    WITH_A_CHOICE: [
        (1, {"parameters": {"x": {"bounds": [-1, 2]}}}, widen),
        (
            3,
            {"parameters": {"kind": {"values": ["a", "b", "c"]}, "lr": {"frozen_value": 0.01}}},
            freeze_and_add_a_choice,
        ),
        (4, {"parameters": {"x": {"bounds": [0.2, 0.9]}, "lr": {"frozen_value": None}}}, narrow_and_tune_again),
    ],
    ADDED_AND_CORRECTED: [
        (2, {"parameters": {"extra": ADDED}}, add),
        (4, {"objective": "loss", "outcome_constraints": ["cost <= 2.5"]}, correct),
    ],
}


@pytest.mark.parametrize(
    ("name", "has_choice"),
    [
        # The model of a choice takes minutes.
        pytest.param(WITH_A_CHOICE, True, marks=pytest.mark.thorough),
        (ADDED_AND_CORRECTED, False),
    ],
)
def test_proposals_equal_those_of_an_uninterrupted_client(name: str, has_choice: bool) -> None:
    recorded, client = Recorded(definition(has_choice=has_choice)), uninterrupted(has_choice=has_choice)
    for index in range(5):
        for before, changes, change in CHANGES[name]:
            if before == index:
                recorded.change(changes)
                change(client)
        assert recorded.next() == next_of(client), index


def test_what_ax_cannot_go_on_with_is_refused_with_field_value_and_fix() -> None:
    recorded = Recorded(definition(has_choice=True))
    recorded.trials = [TrialRecord(0, "0_0", {"lr": 0.01, "x": 0.5, "kind": "a"}, "COMPLETED")]
    recorded.observations = [Observation(0, "loss", 1.0), Observation(0, "cost", 2.0)]
    with pytest.raises(InvalidInputError, match="needs memory, which trial 0 did not report"):
        recorded.change({"outcome_constraints": ["memory <= 3"]})
    with pytest.raises(InvalidInputError, match="Constraint polytope appears empty"):
        recorded.change({"parameter_constraints": ["x >= 2"]})
