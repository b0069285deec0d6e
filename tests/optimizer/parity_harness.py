"""Runs one schedule twice: with one uninterrupted Ax client, and with a process of its own for each proposal.

The second side knows only what went through a JSON file. A schedule is a list of steps: ``("generate", n)`` or
``(status, trial_index)``.
"""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.records import (
    EarlierDefinition,
    ExperimentSnapshot,
    Observation,
    Parameters,
    TrialRecord,
)
from airflow_provider_axtx.spec.experiment import ExperimentSpec

Step = tuple[str, int]
#: Metric values of a parameterization: a mean, or mean and SEM.
Evaluate = Callable[[Mapping[str, Any]], dict[str, float | tuple[float, float]]]


def write_facts(path: Path, facts: ExperimentSnapshot) -> None:
    path.write_text(json.dumps(asdict(facts)))


def read_facts(path: Path) -> ExperimentSnapshot:
    raw = json.loads(path.read_text())
    raw["trials"] = tuple(TrialRecord(**t) for t in raw["trials"])
    raw["observations"] = tuple(Observation(**o) for o in raw["observations"])
    raw["history"] = tuple(EarlierDefinition(**d) for d in raw["history"])
    return ExperimentSnapshot(**raw)


def propose_in_file(facts_path: str, n: int, answer_path: str) -> None:
    """Runs in the child process."""
    import torch

    from airflow_provider_axtx.optimizer import engine as optimizer

    torch.set_num_threads(1)
    proposal = optimizer.propose(read_facts(Path(facts_path)), n)
    Path(answer_path).write_text(json.dumps(asdict(proposal)))


def run_child(facts_path: Path, n: int, answer_path: Path) -> None:
    # A server process imports Ax once, and each child is a fork of it, which does not import Ax again.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["airflow_provider_axtx.optimizer.engine"])
    child = context.Process(target=propose_in_file, args=(str(facts_path), n, str(answer_path)))
    child.start()
    child.join()
    assert child.exitcode == 0


@dataclass
class SeparateProcesses:
    """The product's side: facts in a JSON file, a new process for each proposal."""

    spec: ExperimentSpec
    evaluate: Evaluate
    folder: Path
    trials: list[TrialRecord] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    state: dict[str, Any] | None = None
    stopped: list[str | None] = field(default_factory=list)

    def facts(self) -> ExperimentSnapshot:
        return ExperimentSnapshot(
            name=self.spec.name,
            uid="uid",
            spec=self.spec.to_json(),
            generator_state=self.state,
            version=0,
            trials=tuple(self.trials),
            observations=tuple(self.observations),
        )

    def step(self, what: str, number: int) -> None:
        if what == "generate":
            self.generate(number)
        else:
            self.finish(number, what)

    def generate(self, n: int) -> None:
        facts, answer = self.folder / "facts.json", self.folder / "answer.json"
        write_facts(facts, self.facts())
        run_child(facts, n, answer)
        self.take(json.loads(answer.read_text()))

    def take(self, proposal: dict[str, Any]) -> None:
        """Record a proposal as the store does."""
        for new in proposal["trials"]:
            del new["results"]
            self.trials.append(TrialRecord(index=len(self.trials), status="RUNNING", **new))
        self.state = proposal["generator_state"]
        self.stopped.append(proposal["finished"] or proposal["pending"])

    def finish(self, index: int, status: str) -> None:
        trial = self.trials[index]
        self.trials[index] = TrialRecord(**{**asdict(trial), "status": status})
        if status == "COMPLETED":
            for metric, value in self.evaluate(trial.parameters).items():
                mean, sem = value if isinstance(value, tuple) else (value, None)
                self.observations.append(Observation(index, metric, mean, sem))

    def parameterizations(self) -> list[Parameters]:
        return [trial.parameters for trial in self.trials]


class Uninterrupted:
    """Ax's side: its public API only, one client for the whole experiment."""

    def __init__(self, configure: Callable[[Any], None], evaluate: Evaluate, random_seed: int) -> None:
        from ax.api.client import Client

        self.client = Client(random_seed=random_seed)
        configure(self.client)
        self.evaluate = evaluate
        self.parameters: dict[int, Any] = {}

    def step(self, what: str, number: int) -> None:
        if what == "generate":
            for _ in range(number):
                self.parameters |= self.client.get_next_trials(max_trials=1)
        elif what == "COMPLETED":
            self.client.complete_trial(number, raw_data=self.evaluate(self.parameters[number]))
        elif what == "FAILED":
            self.client.mark_trial_failed(number)
        else:
            assert what == "ABANDONED"
            self.client.mark_trial_abandoned(number)

    def parameterizations(self) -> list[Parameters]:
        return [dict(self.parameters[index]) for index in sorted(self.parameters)]


def difference(left: Parameters, right: Parameters) -> float:
    """Return the largest difference of two parameterizations; infinite when they are not comparable."""
    if set(left) != set(right):
        return math.inf
    return max(
        abs(left[k] - right[k]) if isinstance(left[k], float) else (0.0 if left[k] == right[k] else math.inf)  # type: ignore[operator]
        for k in left
    )
