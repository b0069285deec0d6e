"""The definition of an experiment: what is tuned, towards which objective, and how trials are generated.

Field names are those of Ax's ``Client``. Checked here without importing Ax, so that a DAG file fails when it is parsed;
Ax itself checks again when the experiment is created.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import ValidationError

from airflow_provider_axtx.core.experiment_name import EXPERIMENT_NAME_FIX, is_experiment_name
from airflow_provider_axtx.core.inputs import as_object
from airflow_provider_axtx.core.promotion import budget_argument
from airflow_provider_axtx.core.records import Parameters
from airflow_provider_axtx.spec import reported as reports
from airflow_provider_axtx.spec.expressions import (
    BASELINE,
    MAX_METRIC_NAME,
    ExpressionError,
    Inequality,
    Linear,
    is_metric_name,
    parse_linear,
    parse_objective,
    parse_outcome_constraint,
    parse_parameter_constraint,
)
from airflow_provider_axtx.spec.generation import GenerationSpec
from airflow_provider_axtx.spec.model import Frozen, stored_models
from airflow_provider_axtx.spec.model_problems import model_problems
from airflow_provider_axtx.spec.parameterization import read_parameterization
from airflow_provider_axtx.spec.parameters import (
    ChoiceParameter,
    DerivedParameter,
    ParameterSpec,
    RangeParameter,
    hierarchy_problems,
)
from airflow_provider_axtx.spec.problems import Problem, closest, raise_for, with_names
from airflow_provider_axtx.spec.service_api import modernize
from airflow_provider_axtx.spec.stopping import (
    EarlyStoppingSpec,
    GlobalStoppingSpec,
    metric_problems,
)
from airflow_provider_axtx.spec.validation import problems_of


class ExperimentSpec(Frozen):
    """The definition of an experiment.

    ```python
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    spec = ExperimentSpec(
        name="parabola",
        parameters=[{"type": "range", "name": "x", "parameter_type": "float", "bounds": [-10, 10]}],
        objective="-loss",
        generation={"initialization_budget": 5, "random_seed": 1},
    )
    ```

    :param name: its name in the store; letters, digits and ``_ . : + @ = , ~ -`` and inner spaces, at most 100.
    :param description: free text.
    :param parameters: the search space; each an object with ``type`` ``range``, ``choice`` or ``derived``.
    :param parameter_constraints: linear inequalities over parameters, for example ``"a + b <= 1"``.
    :param objective: what to maximize: ``"acc"``, ``"-loss"``, ``"2*a + b"``, or several: ``"acc, -latency"``.
    :param outcome_constraints: linear inequalities over metrics, for example ``"latency <= 50"``.
    :param tracking_metrics: metrics that are recorded but neither optimized nor constrained.
    :param pruning_target_parameterization: Ax's pruning target, a value for each parameter that exists with the others.
    :param baseline: the parameterization of the baseline trial, which relative outcome constraints refer to; it is the
        first trial that is generated, and is never stopped early.
    :param generation: how trials are generated.
    :param early_stopping: when a trial is stopped before its app has ended; needs progressive results.
    :param global_stopping: when the experiment ends because it does not improve any more.
    :raises InvalidInputError: one error that names every wrong field, its value and the fix.
    """

    name: str
    description: str | None = None
    parameters: tuple[ParameterSpec, ...]
    parameter_constraints: tuple[str, ...] = ()
    objective: str
    outcome_constraints: tuple[str, ...] = ()
    tracking_metrics: tuple[str, ...] = ()
    pruning_target_parameterization: dict[str, Any] | None = None
    baseline: dict[str, Any] | None = None
    generation: GenerationSpec = GenerationSpec()
    early_stopping: EarlyStoppingSpec | None = None
    global_stopping: GlobalStoppingSpec | None = None

    def __init__(self, **given: Any) -> None:
        modern, problems = modernize(given)
        try:
            super().__init__(**modern)
        except ValidationError as error:
            problems += problems_of(error, type(self))
        raise_for("The experiment", with_names(problems, modern.get("parameters")))

    @classmethod
    def load(cls, value: object) -> Self:
        """Read a spec from a dict, a JSON string or a spec.

        :raises InvalidInputError: when it is none of these, or invalid.
        """
        if isinstance(value, cls):
            return value
        return cls(**{str(key): field for key, field in as_object("experiment", value).items()})

    @classmethod
    def from_store(cls, stored: Mapping[str, Any]) -> Self:
        """Read a definition that the store holds, whichever version of this package wrote it.

        Keys that this version does not know are left out, and the checks of new definitions are not repeated.

        :raises InvalidInputError: when a field cannot be read.
        """
        with stored_models():
            return cls(**_known_keys(stored))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object from which ``load`` makes an equal spec; equal specs give equal objects."""
        return self.model_dump(mode="json", exclude_none=True)

    def with_name(self, name: str) -> Self:
        """Return the same definition under another name.

        :raises InvalidInputError: when the name is not allowed.
        """
        return type(self)(**{**self.to_json(), "name": name})

    @cached_property
    def objectives(self) -> list[Linear]:
        """One linear combination of metrics, to be maximized, for each objective."""
        return parse_objective(self.objective)

    @cached_property
    def constraints(self) -> list[Inequality]:
        """The outcome constraints, parsed."""
        return [parse_outcome_constraint(text) for text in self.outcome_constraints]

    @property
    def is_multi_objective(self) -> bool:
        """Whether there are several objectives, and so a Pareto frontier instead of one best trial."""
        return len(self.objectives) > 1

    @property
    def ignores_results(self) -> bool:
        """Whether results have no influence on which trials are proposed, nor on whether there are any."""
        generation = self.generation
        return generation.method == "random_search" and generation.factory is None and self.global_stopping is None

    @property
    def needs_baseline(self) -> bool:
        """Whether an outcome constraint is relative to the baseline trial."""
        return any(constraint.relative for constraint in self.constraints)

    @property
    def required_metrics(self) -> tuple[str, ...]:
        """Metrics that every completed trial must have: those of the objective, then the other constrained ones."""
        parts: list[Linear | Inequality] = [*self.objectives, *self.constraints]
        return tuple(dict.fromkeys(name for part in parts for name in part.weights))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """All declared metrics: the required ones, then the tracking metrics."""
        return (*self.required_metrics, *self.tracking_metrics)

    @property
    def is_hierarchical(self) -> bool:
        """Whether some parameters exist only with certain values of others."""
        return any(isinstance(p, ChoiceParameter) and p.dependent_parameters for p in self.parameters)

    @property
    def backfill_values(self) -> Parameters:
        """The values that trials had before a parameter was added, by its name."""
        given = {p.name: p.backfill_value for p in self.parameters if not isinstance(p, DerivedParameter)}
        return {name: value for name, value in given.items() if value is not None}

    def read_parameters(self, given: Mapping[str, object], path: str = "parameters") -> Parameters:
        """Return a parameterization in the types of the search space, derived values computed.

        :param path: where it was given, for the error.
        :raises InvalidInputError: unknown, missing, of another type, out of bounds, or against a parameter constraint.
        """
        values, problems = read_parameterization(self.parameters, self.parameter_constraints, given, path)
        raise_for("The parameterization", problems)
        return values

    def read_fixed_parameters(self, given: Mapping[str, object]) -> Parameters:
        """Return the values that some of the parameters are to have in new trials, in the types of the search space.

        :raises InvalidInputError: they do not fit the search space, or it has dependent parameters.
        """
        known = [parameter for parameter in self.parameters if parameter.name in given] or self.parameters
        values, problems = read_parameterization(known, self.parameter_constraints, given, "fixed_parameters")
        if self.is_hierarchical:
            # Ax 1.3 proposes at most two such trials, and then says that the search space is exhausted.
            fix = "attach trials that have these values with AxAttachTrialsOperator."
            problems = [Problem("fixed_parameters", given, "is not possible beside dependent_parameters", fix)]
        raise_for("What new trials are to have", problems)
        return values

    def check_results(self, reported: Mapping[str, object]) -> dict[str, tuple[float, float | None]]:
        """Return what an app reported as ``{metric: (mean, sem)}``; ``sem`` None means unknown.

        :param reported: ``{metric: mean}`` or ``{metric/mean: mean, metric/sem: sem}``, as in Ax's ``TorchXMetric``.
            Metrics that were not declared are kept; those of them that are not finite numbers are left out.
        :raises InvalidResultError: when a required metric is missing or unusable; names it, its value and the fix.
        """
        return reports.read(reported, self.required_metrics)

    def unusable_results(self, reported: Mapping[str, object]) -> list[str]:
        """Return one line for each entry that ``check_results`` leaves out, to be logged."""
        return reports.unusable(reported, self.required_metrics)

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong across fields."""
        if not is_experiment_name(self.name):
            yield Problem("name", self.name, "is not usable as an experiment name", EXPERIMENT_NAME_FIX)
        yield from self._parameter_problems()
        if self.is_hierarchical:
            yield from hierarchy_problems(self.parameters)
        if self.generation.factory is None and self.generation.method != "random_search":
            yield from model_problems(self.parameters)
        for i, text in enumerate(self.parameter_constraints):
            yield from self._parameter_constraint_problems(f"parameter_constraints[{i}]", text)
        yield from self._metric_problems()
        if self.baseline is not None:
            yield from self._baseline_problems(self.baseline)
        if (target := self.pruning_target_parameterization) is not None:
            yield from self._problems_of_values("pruning_target_parameterization", target)

    def _baseline_problems(self, given: Mapping[str, Any]) -> Iterator[Problem]:
        if self.is_hierarchical:
            fix = "remove it, and relative outcome constraints with it."
            yield Problem("baseline", given, "is not possible with dependent parameters in Ax", fix)
            return
        yield from self._problems_of_values("baseline", given)

    def _problems_of_values(self, field: str, given: Mapping[str, Any]) -> Iterator[Problem]:
        try:
            _, problems = read_parameterization(self.parameters, self.parameter_constraints, given, field)
        except ExpressionError:
            return  # of a parameter constraint; a problem of its own
        yield from problems

    def _parameter_problems(self) -> Iterator[Problem]:
        names = [p.name for p in self.parameters]
        derived = {p.name for p in self.parameters if isinstance(p, DerivedParameter)}
        if not any(map(_is_tuned, self.parameters)):
            yield Problem("parameters", names, "nothing is left to tune", "add a range, or a choice of several values.")
        for i, p in enumerate(self.parameters):
            if p.name in names[:i]:
                yield Problem(f"parameters[{i}].name", p.name, "is used twice", "give each parameter its own name.")
            used: set[str] = set()
            if isinstance(p, ChoiceParameter):
                used = {name for dependents in (p.dependent_parameters or {}).values() for name in dependents}
                field = "dependent_parameters"
            elif isinstance(p, DerivedParameter):
                used, field = set(parse_linear(p.expression_str).weights), "expression_str"
            for name in sorted(used - (set(names) - {p.name})):
                yield Problem(f"parameters[{i}].{field}", name, "names no other parameter", closest(name, names))
            for name in sorted(used & derived) if isinstance(p, DerivedParameter) else ():
                fix = "write it in terms of the parameters that it is derived from."
                yield Problem(f"parameters[{i}].{field}", name, "is itself derived, which Ax cannot compute", fix)

    def _parameter_constraint_problems(self, path: str, text: str) -> Iterator[Problem]:
        try:
            weights = parse_parameter_constraint(text).weights
        except ExpressionError as error:
            yield Problem(path, text, error.text, error.fix)
            return
        parameters = {p.name: p for p in self.parameters}
        for name in weights:
            if name not in parameters:
                yield Problem(path, text, f"{name!r} is not a parameter", closest(name, parameters))
            elif why := _not_constrainable(parameters[name]):
                yield Problem(
                    path, text, f"{name!r} is {why}", "constrain linear ranges, or ordered numbers at even distances."
                )

    def _metric_problems(self) -> Iterator[Problem]:
        try:
            objectives = self.objectives
        except ExpressionError as error:
            yield Problem("objective", self.objective, error.text, error.fix)
            return
        weights = {name: weight for part in objectives for name, weight in part.weights.items()}
        constraints: list[Inequality] = []
        for i, text in enumerate(self.outcome_constraints):
            path = f"outcome_constraints[{i}]"
            try:
                constraint = parse_outcome_constraint(text)
            except ExpressionError as error:
                yield Problem(path, text, error.text, error.fix)
                continue
            constraints.append(constraint)
            if text in self.outcome_constraints[:i]:
                yield Problem(path, text, "is given twice", "remove one of them.")
            yield from _outcome_problems(path, text, constraint, weights, len(objectives) > 1)
        constrained = {name for constraint in constraints for name in constraint.weights}
        for i, name in enumerate(self.tracking_metrics):
            if not name or name in weights or name in constrained or name in self.tracking_metrics[:i]:
                fix = "list only metrics that neither the objective nor a constraint names, each once."
                yield Problem(f"tracking_metrics[{i}]", name, "is empty or declared already", fix)
            elif not is_metric_name(name):
                fix = f"use at most {MAX_METRIC_NAME} printable characters, without spaces at the ends."
                yield Problem(f"tracking_metrics[{i}]", name, "cannot be the name of a metric", fix)
        if self.early_stopping is not None:
            yield from metric_problems(self.early_stopping, weights, "early_stopping")
        if (budget := budget_argument(self)) in {parameter.name for parameter in self.parameters}:
            fix = "rename the parameter, or name another argument of the app."
            yield Problem("early_stopping.promotion.argument", budget, "is a parameter of the experiment", fix)
        if self.global_stopping is not None and (why := _not_improvable(objectives, constraints)):
            fix = "remove global_stopping; max_trials and time limits end every experiment."
            yield Problem("global_stopping", "improvement", why, fix)


def _is_tuned(parameter: ParameterSpec) -> bool:
    if isinstance(parameter, DerivedParameter) or parameter.frozen_value is not None:
        return False
    return isinstance(parameter, RangeParameter) or len(parameter.values) > 1


def _known_keys(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored definition without the keys that this version does not know."""
    known = {name: value for name, value in stored.items() if name in ExperimentSpec.model_fields}
    models: dict[str, type[Frozen]] = {"range": RangeParameter, "choice": ChoiceParameter, "derived": DerivedParameter}
    if isinstance(known.get("parameters"), list):
        known["parameters"] = [
            {key: value for key, value in one.items() if key in models[one["type"]].model_fields}
            if isinstance(one, dict) and one.get("type") in models
            else one
            for one in known["parameters"]
        ]
    parts: dict[str, type[Frozen]] = {"generation": GenerationSpec, "global_stopping": GlobalStoppingSpec}
    for name, model in parts.items():
        if isinstance(known.get(name), dict):
            known[name] = {key: value for key, value in known[name].items() if key in model.model_fields}
    return known


def _not_constrainable(parameter: ParameterSpec) -> str | None:
    """Return why Ax allows no constraint on this parameter, or None."""
    if isinstance(parameter, RangeParameter):
        return "log-scaled" if parameter.scaling == "log" else None
    if isinstance(parameter, DerivedParameter):
        return "derived from others"
    if parameter.parameter_type not in ("int", "float"):
        return "not a number"
    if len(parameter.values) == 1:
        return "constant"
    if parameter.is_ordered is False and len(parameter.values) > 2:
        return "not ordered"
    # Ax constrains the positions of the values, which the values follow only when they are evenly spaced.
    values = sorted(float(value) for value in parameter.values)
    step = (values[-1] - values[0]) / (len(values) - 1)
    even = all(abs(values[0] + i * step - value) <= 1e-9 * (values[-1] - values[0]) for i, value in enumerate(values))
    return None if even else "a choice of unevenly spaced values"


def _not_improvable(objectives: list[Linear], constraints: list[Inequality]) -> str | None:
    """Return why Ax cannot tell whether the experiment improves, or None."""
    if any(len(part.weights) > 1 for part in objectives):
        return "does not work with a scalarized objective"
    if any(len(constraint.weights) > 1 for constraint in constraints):
        return "does not work with an outcome constraint on several metrics"
    names = {name for part in objectives for name in part.weights}
    bounded = names & {name for constraint in constraints for name in constraint.weights}
    if bounded and bounded != names:
        # Ax then finds no frontier, and fails once min_trials have completed.
        return f"needs a threshold for each objective or for none (missing: {', '.join(sorted(names - bounded))})"
    # Ax would compare the value itself with the multiple.
    return "does not work with relative outcome constraints" if any(c.relative for c in constraints) else None


def _outcome_problems(
    path: str, text: str, constraint: Inequality, objective: dict[str, float], several: bool
) -> Iterator[Problem]:
    """Yield what is wrong with an outcome constraint, given the objective's weights."""
    shared = [name for name in constraint.weights if name in objective]
    if any(BASELINE in name for name in constraint.weights):
        # Ax looks for the bare word anywhere in the text and would take the bound for a multiple of the baseline.
        yield Problem(path, text, f"a constrained metric has {BASELINE!r} in its name", "rename the metric.")
    if constraint.relative and len(constraint.weights) > 1:
        yield Problem(path, text, "a constraint on several metrics cannot be relative", "give a number as the bound.")
    if shared and not several:
        fix = "remove the constraint, or constrain another metric; only one of several objectives can have a bound."
        yield Problem(path, text, f"{shared[0]!r} is the objective itself", fix)
    elif shared and len(constraint.weights) == 1:
        name = shared[0]
        is_lower_bound = (constraint.operator == ">=") == (constraint.weights[name] > 0)
        if is_lower_bound != (objective[name] > 0):
            goal, sign = ("maximized", ">=") if objective[name] > 0 else ("minimized", "<=")
            yield Problem(path, text, f"{name!r} is {goal}", f"a threshold on it must be '{name} {sign} <number>'.")
