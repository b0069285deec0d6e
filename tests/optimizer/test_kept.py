"""A process that proposes again and again keeps its client: parity with one client, and any change is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig

from airflow_provider_axtx.core.records import EarlierDefinition, ExperimentSnapshot, Observation
from airflow_provider_axtx.optimizer import engine, kept
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from tests.optimizer.parity_harness import SeparateProcesses, Uninterrupted, difference, read_facts, write_facts
from tests.optimizer.test_parity import SEED, Problem, batches

# Ax and BoTorch warn of every numerical retry.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]


class OneProcess(SeparateProcesses):
    """The product's side in one process; what it knows has gone through JSON, as through the store."""

    def facts(self) -> ExperimentSnapshot:
        write_facts(self.folder / "facts.json", super().facts())
        return read_facts(self.folder / "facts.json")

    def generate(self, n: int) -> None:
        self.take(json.loads(json.dumps(asdict(engine.propose(self.facts(), n)))))


def random_search() -> Problem:
    """Asked for several trials at a time, after results that Ax is not told."""

    def configure(client: Client) -> None:
        client.configure_experiment(
            [RangeParameterConfig("x", (0.0, 1.0), "float"), RangeParameterConfig("layers", (1, 9), "int")],
            name="random",
        )
        client.configure_optimization("-loss")
        client.configure_generation_strategy(method="random_search", initialization_random_seed=7)

    spec = {
        "name": "random",
        "parameters": [
            {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"},
            {"type": "range", "name": "layers", "bounds": [1, 9], "parameter_type": "int"},
        ],
        "objective": "-loss",
        "generation": {"method": "random_search", "initialization_random_seed": 7, "random_seed": SEED},
    }

    def evaluate(p: Mapping[str, Any]) -> dict[str, Any]:
        return {"loss": p["x"]}

    return Problem(
        spec, configure, evaluate, [("generate", 3), ("COMPLETED", 1), ("generate", 4), ("FAILED", 0), ("generate", 2)]
    )


@pytest.fixture
def rebuilds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the experiments that were rebuilt."""
    found: list[str] = []

    def rebuild(snapshot: ExperimentSnapshot, **options: Any) -> Any:
        found.append(snapshot.name)
        return real(snapshot, **options)

    real = kept.rebuild
    monkeypatch.setattr(kept, "rebuild", rebuild)
    kept._kept.clear()
    return found


@pytest.mark.parametrize("make", [batches, random_search])
def test_a_kept_client_proposes_what_an_uninterrupted_one_does(
    make: Callable[[], Problem], tmp_path: Path, rebuilds: list[str]
) -> None:
    problem = make()
    ours = OneProcess(ExperimentSpec.load(problem.spec), problem.evaluate, tmp_path)
    theirs = Uninterrupted(problem.configure, problem.evaluate, SEED)
    for step in problem.schedule:
        ours.step(*step)
        theirs.step(*step)
    pairs = zip(ours.parameterizations(), theirs.parameterizations(), strict=True)
    assert [difference(a, b) for a, b in pairs] == [0.0] * len(ours.trials)
    assert len(rebuilds) == 1


def _other_definition(facts: ExperimentSnapshot) -> ExperimentSnapshot:
    return replace(facts, spec={**facts.spec, "objective": "loss"})


def _changed_there_and_back(facts: ExperimentSnapshot) -> ExperimentSnapshot:
    return replace(facts, history=(EarlierDefinition({**facts.spec, "objective": "loss"}, 1),))


def _overwritten(facts: ExperimentSnapshot) -> ExperimentSnapshot:
    return replace(facts, observations=(Observation(0, "loss", 9.0), *facts.observations[1:]))


def _reopened(facts: ExperimentSnapshot) -> ExperimentSnapshot:
    return replace(facts, trials=(replace(facts.trials[0], status="RUNNING"), *facts.trials[1:]))


def _another_trial(facts: ExperimentSnapshot) -> ExperimentSnapshot:
    parameters = {"momentum": 0.123, "layers": 3}
    other = replace(facts.trials[0], index=len(facts.trials), arm_name="other", parameters=parameters, generation={})
    return replace(facts, trials=(*facts.trials, other))


def _another_experiment(facts: ExperimentSnapshot) -> ExperimentSnapshot:
    return replace(facts, uid="another")


@pytest.mark.parametrize(
    "change",
    [_other_definition, _changed_there_and_back, _overwritten, _reopened, _another_trial, _another_experiment],
)
def test_any_other_change_than_an_end_rebuilds_the_client(
    change: Callable[[ExperimentSnapshot], ExperimentSnapshot], tmp_path: Path, rebuilds: list[str]
) -> None:
    problem = batches()
    ours = OneProcess(ExperimentSpec.load(problem.spec), problem.evaluate, tmp_path)
    for step in [("generate", 2), ("COMPLETED", 0), ("generate", 1)]:
        ours.step(*step)
    assert len(rebuilds) == 1
    changed = change(ours.facts())
    expected = engine.propose(changed, 1)
    assert len(rebuilds) == 2
    kept._kept.clear()
    assert engine.propose(changed, 1) == expected


def test_a_client_whose_trials_have_fixed_values_is_not_kept(tmp_path: Path, rebuilds: list[str]) -> None:
    problem = batches()
    ours = OneProcess(ExperimentSpec.load(problem.spec), problem.evaluate, tmp_path)
    ours.step("generate", 1)
    name = ours.spec.parameters[0].name
    value = ours.parameterizations()[0][name]
    proposal = engine.propose(ours.facts(), 1, fixed_parameters={name: value})
    assert [trial.parameters[name] for trial in proposal.trials] == [value]
    assert not kept._kept
    assert len(rebuilds) == 1
