"""Whatever Ax can be asked: trials that come through the store equal those of one uninterrupted Ax client, exactly.

``test_parity`` shows that a process of its own for each proposal changes nothing; here each proposal is made from what
the store gives back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig

from airflow_provider_axtx.core.records import Observation
from airflow_provider_axtx.lifecycle.attach import attach_trials
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.attachment import read_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.optimizer.parity_harness import difference
from tests.optimizer.strategies import halving, sobol_then_model

# Ax and BoTorch warn of every numerical retry.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("one_thread")]

SEED = 11
GENERATION = {"initialization_random_seed": 7, "random_seed": SEED}


@dataclass(frozen=True)
class Case:
    """A problem as our spec and as calls of Ax's public API, and what happens in it.

    A step is ``("generate", n)``, ``("attach", i)``, ``("baseline", i)`` of ``attached``, ``("step 3", index)`` for a
    progressive result, or ``(status, index)``.
    """

    spec: dict[str, Any]
    configure: Callable[[Client], None]
    evaluate: Callable[[Mapping[str, Any]], dict[str, Any]]
    schedule: list[tuple[str, int]]
    attached: list[dict[str, Any]] = field(default_factory=list)


def one_by_one(first: int, count: int, ends: Mapping[int, str] | None = None) -> list[tuple[str, int]]:
    """Generate and end trial after trial; COMPLETED unless ``ends`` says otherwise."""
    return [
        step
        for i in range(first, first + count)
        for step in (("generate", 1), ((ends or {}).get(i, "COMPLETED"), i))
    ]  # fmt: skip


def at_step(values: dict[str, Any], step: int) -> dict[str, Any]:
    """Return what a trial reports on its way to its final values."""
    return {name: value + 0.1 / step for name, value in values.items()}


class Ours:
    """The product's side: everything goes through the store."""

    def __init__(self, case: Case, path: Path) -> None:
        self.case, self.store, self.requests = case, ExperimentStore(f"sqlite:///{path}"), 0
        self.spec = ExperimentSpec.load(case.spec)
        factories = [self.spec.generation.factory] if self.spec.generation.factory else []
        create_experiment(self.store, self.spec, if_exists="fail", allowed_factories=factories)

    def step(self, what: str, number: int) -> None:
        self.requests += 1
        name = self.spec.name
        if what == "generate":
            generate_trials(self.store, name, number, task_key=f"t{self.requests}")
        elif what in ("attach", "baseline"):
            trial = {"parameters": self.case.attached[number], "baseline": what == "baseline"}
            attach_trials(self.store, name, read_trials(self.spec, [trial]), task_key=f"t{self.requests}")
        elif what.startswith("step "):
            step = int(what.removeprefix("step "))
            values = at_step(self.case.evaluate(self.store.trial(name, number).parameters), step)
            self.store.record_progress(
                name, number, [Observation(number, metric, mean, None, step) for metric, mean in values.items()]
            )
        else:
            values = self.case.evaluate(self.store.trial(name, number).parameters) if what == "COMPLETED" else {}
            pairs = {m: v if isinstance(v, tuple) else (v, None) for m, v in values.items()}
            final = [Observation(number, metric, mean, sem) for metric, (mean, sem) in pairs.items()]
            self.store.complete(name, number, status=what, observations=final)

    def parameterizations(self) -> list[dict[str, Any]]:
        return [dict(trial.parameters) for trial in self.store.trials(self.spec.name)]


class Theirs:
    """Ax's side: its public API only, one client for the whole experiment."""

    def __init__(self, case: Case) -> None:
        self.case, self.client = case, Client(random_seed=SEED)
        case.configure(self.client)
        self.parameters: dict[int, Any] = {}

    def step(self, what: str, number: int) -> None:
        client = self.client
        if what == "generate":
            for _ in range(number):
                self.parameters |= client.get_next_trials(max_trials=1)
        elif what == "attach":
            self.parameters[client.attach_trial(dict(self.case.attached[number]))] = self.case.attached[number]
        elif what == "baseline":
            self.parameters[client.attach_baseline(dict(self.case.attached[number]))] = self.case.attached[number]
        elif what.startswith("step "):
            step = int(what.removeprefix("step "))
            client.attach_data(number, at_step(self.case.evaluate(self.parameters[number]), step), progression=step)
        elif what == "COMPLETED":
            client.complete_trial(number, raw_data=self.case.evaluate(self.parameters[number]))
        elif what == "EARLY_STOPPED":
            client.mark_trial_early_stopped(number)
        else:
            assert what == "FAILED"
            client.mark_trial_failed(number)

    def parameterizations(self) -> list[dict[str, Any]]:
        return [dict(self.parameters[index]) for index in sorted(self.parameters)]


def hierarchical() -> Case:
    def configure(client: Client) -> None:
        client.configure_experiment(
            [
                ChoiceParameterConfig("model", ["linear", "tree"], "str", is_ordered=False,
                                      dependent_parameters={"linear": ["lr"], "tree": ["depth", "leaf"]}),
                RangeParameterConfig("lr", (1e-4, 1.0), "float", scaling="log"),
                RangeParameterConfig("depth", (1, 64), "int", scaling="log"),
                RangeParameterConfig("leaf", (0.0, 1.0), "float"),
            ],
            name="hierarchical",
        )  # fmt: skip
        client.configure_optimization("score")
        client.configure_generation_strategy(initialization_budget=5, initialization_random_seed=7)

    spec = {
        "name": "hierarchical",
        "parameters": [
            {"type": "choice", "name": "model", "values": ["linear", "tree"], "parameter_type": "str",
             "is_ordered": False, "dependent_parameters": {"linear": ["lr"], "tree": ["depth", "leaf"]}},
            {"type": "range", "name": "lr", "bounds": [1e-4, 1], "parameter_type": "float", "scaling": "log"},
            {"type": "range", "name": "depth", "bounds": [1, 64], "parameter_type": "int", "scaling": "log"},
            {"type": "range", "name": "leaf", "bounds": [0, 1], "parameter_type": "float"},
        ],
        "objective": "score",
        "generation": {**GENERATION, "initialization_budget": 5},
    }  # fmt: skip

    def evaluate(p: Mapping[str, Any]) -> dict[str, Any]:
        return {"score": -abs(p["lr"] - 0.1) if p["model"] == "linear" else p["leaf"] - abs(p["depth"] - 9) / 64}

    attached = [{"model": "tree", "depth": 3, "leaf": 0.3 - 0.2}]
    return Case(spec, configure, evaluate, [("attach", 0), ("COMPLETED", 0), *one_by_one(1, 8)], attached)


def scalarized_with_tracking() -> Case:
    """Ordered, step-sized and derived parameters, SEM, a tracking metric, a scalarized objective."""

    def configure(client: Client) -> None:
        client.configure_experiment(
            [
                ChoiceParameterConfig("batch", [8, 16, 64, 256], "int", is_ordered=True),
                # With step_size=0.1 Ax's values carry rounding errors, 0.30000000000000004 is one.
                ChoiceParameterConfig("drop", [i / 10 for i in range(10)], "float", is_ordered=True),
                RangeParameterConfig("width", (1, 50), "int"),
                DerivedParameterConfig("cells", "2 * width + 1", "int"),
            ],
            name="scalarized",
        )
        client.configure_optimization("2*accuracy - 0.5*energy", outcome_constraints=["memory <= 40"])
        client.configure_tracking_metrics(["seconds"])
        client.configure_generation_strategy(initialization_random_seed=7)

    spec = {
        "name": "scalarized",
        "parameters": [
            {"type": "choice", "name": "batch", "values": [8, 16, 64, 256], "parameter_type": "int",
             "is_ordered": True},
            {"type": "range", "name": "drop", "bounds": [0, 0.9], "parameter_type": "float", "step_size": 0.1},
            {"type": "range", "name": "width", "bounds": [1, 50], "parameter_type": "int"},
            {"type": "derived", "name": "cells", "expression_str": "2 * width + 1", "parameter_type": "int"},
        ],
        "objective": "2*accuracy - 0.5*energy",
        "outcome_constraints": ["memory <= 40"],
        "tracking_metrics": ["seconds"],
        "generation": GENERATION,
    }  # fmt: skip

    def evaluate(p: Mapping[str, Any]) -> dict[str, Any]:
        accuracy = 1 - (p["drop"] - 0.3) ** 2 - (p["width"] - 20) ** 2 / 2500
        return {
            "accuracy": (accuracy, 0.01),
            "energy": (p["batch"] / 256, 0.02),
            "memory": (float(p["cells"]), 0.5),
            "seconds": p["width"] / 3,
        }

    return Case(spec, configure, evaluate, one_by_one(0, 9, {3: "FAILED", 7: "FAILED"}))


def constrained_frontier() -> Case:
    """Two objectives, one with a bound, a constraint relative to the baseline, attached trials, one still running."""

    def configure(client: Client) -> None:
        client.configure_experiment(
            [RangeParameterConfig("a", (0.0, 1.0), "float"), RangeParameterConfig("b", (-1.0, 2.0), "float")],
            name="frontier",
        )
        client.configure_optimization(
            "quality, -cost", outcome_constraints=["quality >= 0.2", "latency <= 1.05*baseline"]
        )
        client.configure_generation_strategy(initialization_budget=6, initialization_random_seed=7)

    spec = {
        "name": "frontier",
        "parameters": [
            {"type": "range", "name": "a", "bounds": [0, 1], "parameter_type": "float"},
            {"type": "range", "name": "b", "bounds": [-1, 2], "parameter_type": "float"},
        ],
        "objective": "quality, -cost",
        "outcome_constraints": ["quality >= 0.2", "latency <= 1.05*baseline"],
        "generation": {**GENERATION, "initialization_budget": 6},
    }

    def evaluate(p: Mapping[str, Any]) -> dict[str, Any]:
        quality, cost = p["a"] * 3 + p["b"] ** 2, p["a"] ** 2 + abs(p["b"]) / 3
        return {"quality": (quality, 0.1), "cost": (cost, 0.1), "latency": (2 + p["a"] - 0.3 * p["b"], 0.05)}

    attached = [{"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 1.0}, {"a": 0.1, "b": 0.3 - 0.2}]
    schedule = [("baseline", 0), ("attach", 1), ("COMPLETED", 0), ("attach", 2), ("COMPLETED", 1)]
    return Case(spec, configure, evaluate, [*schedule, *one_by_one(3, 7, {5: "FAILED"})], attached)


def curves() -> Case:
    """Progressive results of trials that complete, that run on, and that are stopped early."""

    def configure(client: Client) -> None:
        client.configure_experiment(
            [RangeParameterConfig("x", (0.0, 1.0), "float"), RangeParameterConfig("y", (0.0, 1.0), "float")],
            name="curves",
        )
        client.configure_optimization("-loss")
        client.configure_generation_strategy(initialization_random_seed=7)

    spec = {
        "name": "curves",
        "parameters": [
            {"type": "range", "name": name, "bounds": [0, 1], "parameter_type": "float"} for name in ("x", "y")
        ],
        "objective": "-loss",
        "generation": GENERATION,
        "early_stopping": {"type": "percentile"},
    }

    def evaluate(p: Mapping[str, Any]) -> dict[str, Any]:
        return {"loss": (p["x"] - 0.4) ** 2 + p["y"] / 3, "other": p["y"]}

    schedule: list[tuple[str, int]] = []
    for i in range(9):
        schedule += [("generate", 1), ("step 1", i), ("step 10", i), ("step 2", i)]
        if i != 4:
            schedule.append(("EARLY_STOPPED" if i % 3 == 2 else "COMPLETED", i))
    return Case(spec, configure, evaluate, schedule)


def own_strategy(make: Callable[[], Any]) -> Callable[[], Case]:
    def case() -> Case:
        def configure(client: Client) -> None:
            client.configure_experiment(
                [RangeParameterConfig("x", (0.0, 1.0), "float"), RangeParameterConfig("y", (0.0, 1.0), "float")],
                name="own",
            )
            client.configure_optimization("-loss")
            client.set_generation_strategy(make())

        spec = {
            "name": "own",
            "parameters": [
                {"type": "range", "name": name, "bounds": [0, 1], "parameter_type": "float"} for name in ("x", "y")
            ],
            "objective": "-loss",
            "generation": {"factory": f"tests.optimizer.strategies:{make.__name__}", "random_seed": SEED},
        }
        return Case(spec, configure, lambda p: {"loss": (p["x"] - 0.4) ** 2 + p["y"] / 3}, one_by_one(0, 9))

    case.__name__ = make.__name__
    return case


@pytest.mark.parametrize(
    "make",
    [
        hierarchical,
        scalarized_with_tracking,
        constrained_frontier,
        curves,
        own_strategy(sobol_then_model),
        own_strategy(halving),
    ],
    ids=lambda make: make.__name__,
)
def test_the_store_changes_nothing(make: Callable[[], Case], tmp_path: Path) -> None:
    case = make()
    ours, theirs = Ours(case, tmp_path / "store.db"), Theirs(case)
    for step in case.schedule:
        ours.step(*step)
        theirs.step(*step)
    pairs = list(zip(ours.parameterizations(), theirs.parameterizations(), strict=True))
    assert [difference(a, b) for a, b in pairs] == [0.0] * len(pairs)
    assert len(pairs) >= 9
    facts = ours.store.snapshot(ours.spec.name)
    nodes = {trial.generation_node for trial in facts.trials} - {None}
    assert nodes & {"MBM", "exploit", "halving"}
    if case.spec["name"] == "frontier":
        frontier = theirs.client.get_pareto_frontier(use_model_predictions=False)
        assert {entry["trial_index"] for entry in optimizer.best(facts)} >= {index for _, _, index, _ in frontier}
    else:
        _, _, index, _ = theirs.client.get_best_parameterization(use_model_predictions=False)
        assert [entry["trial_index"] for entry in optimizer.best(facts)] == [index]
