"""Experiments of other tools as definitions: Optuna, Ray Tune, Katib, Weights & Biases.

Only data is read: none of these tools has to be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_axtx.spec.convert import katib, optuna, ray, wandb
from airflow_provider_axtx.spec.convert.source import Foreign, without
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.problems import raise_for

#: What can be converted: the function that reads it, by the word on the command line.
READERS: dict[str, Callable[[Any, Foreign], None]] = {
    "optuna": optuna.read,
    "ray": ray.read,
    "katib": katib.read,
    "wandb": wandb.read,
}
_TITLES = {
    "optuna": "The Optuna search space",
    "ray": "The Ray Tune param_space",
    "katib": "The Katib experiment",
    "wandb": "The W&B sweep",
}


@dataclass(frozen=True)
class Converted:
    """A converted experiment.

    :param definition: the argument ``experiment`` of the operators.
    :param arguments: what the source says that other arguments of ``AxOptimizeOperator`` say here.
    :param notes: what the source says that has to be said in another way here, a sentence each.
    """

    definition: dict[str, Any]
    arguments: dict[str, Any]
    notes: list[str]


def convert(
    kind: str, given: object, *, name: str, objective: str | None = None, leave_out: Sequence[str] = ()
) -> Converted:
    """Return an experiment of another tool as a definition.

    :param kind: one of ``READERS``.
    :param given: the content of its file.
    :param name: the experiment's name if the source has none.
    :param objective: in place of the source's, which Optuna and Ray Tune do not have.
    :param leave_out: paths of fields that are not read, for example ``spec.objective.goal``.
    :raises InvalidInputError: names each field that cannot be expressed, its value and the fix.
    """
    source = Foreign()
    READERS[kind](without(given, leave_out), source)
    objective = objective or source.definition.get("objective")
    if not objective:
        fix = "pass --objective, such as 'accuracy', or '-loss' to minimize."
        source.refuse("objective", None, "is not in the file", fix)
    raise_for(_TITLES[kind], source.problems)
    definition = {"name": name, **source.definition, "parameters": source.parameters, "objective": objective}
    ExperimentSpec.load(definition)
    return Converted(definition, source.arguments, source.notes)
