"""Search spaces in Ax: made from a definition, and changed as the definition of an experiment was changed."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.expressions import for_ax
from airflow_provider_axtx.spec.parameters import ChoiceParameter, DerivedParameter, ParameterSpec, RangeParameter

with quiet_import():
    from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig
    from ax.api.utils.instantiation.from_struct import experiment_from_struct
    from ax.api.utils.structs import ExperimentStruct
    from ax.core.experiment import Experiment
    from ax.core.parameter import ChoiceParameter as AxChoice
    from ax.core.parameter import FixedParameter as AxFixed
    from ax.core.parameter import Parameter
    from ax.core.parameter import RangeParameter as AxRange
    from ax.core.search_space import SearchSpace
    from ax.exceptions.core import AxParameterWarning


def definitions(snapshot: ExperimentSnapshot, spec: ExperimentSpec) -> list[tuple[int, ExperimentSpec]]:
    """Return the definitions of an experiment in their order, each with the index of the first trial that has it.

    :param spec: the definition that the experiment has now.
    """
    specs = [ExperimentSpec.from_store(one.spec) for one in snapshot.history]
    found = list(zip([0, *(one.trials for one in snapshot.history)], [*specs, spec], strict=True))
    # One that no trial was generated with says nothing about the experiment.
    used = [one for one, after in pairwise(found) if one[0] < after[0]]
    return [*used, found[-1]]


def new_experiment(spec: ExperimentSpec, name: str) -> Experiment:
    """Return an experiment with the search space of a definition, without trials and objective."""
    struct = ExperimentStruct(
        parameters=[_parameter(p) for p in spec.parameters],
        parameter_constraints=[for_ax(text, parameters=True) for text in spec.parameter_constraints],
        name=name,
        description=spec.description,
        experiment_type=None,
        owner=None,
    )
    with warnings.catch_warnings():
        # Ax would warn at each rebuild about every default that it chooses for is_ordered.
        warnings.simplefilter("ignore", AxParameterWarning)
        experiment = experiment_from_struct(struct)
        if backfill := spec.backfill_values:
            space = experiment.search_space
            parameters = [_with_backfill(p, backfill.get(p.name)) for p in space.parameters.values()]
            experiment.search_space = SearchSpace(parameters, space.parameter_constraints)
    if frozen := _frozen(spec):
        experiment.disable_parameters_in_search_space(frozen)
    return experiment


def change_space(experiment: Experiment, after: ExperimentSpec) -> None:
    """Change the search space of an experiment that has trials.

    :raises ax.exceptions.core.AxError: when Ax refuses it.
    """
    space = new_experiment(after, experiment.name).search_space
    known = experiment.search_space.parameters
    added = [parameter for name, parameter in space.parameters.items() if name not in known]
    experiment.search_space = SearchSpace([p for name, p in space.parameters.items() if name in known])
    if experiment.status_quo is None:
        experiment.search_space.add_parameters(added)  # Ax would warn of the missing baseline at each rebuild.
    elif added:
        backfill = after.backfill_values
        values = {p.name: backfill[p.name] for p in added if p.name in backfill}
        experiment.add_parameters_to_search_space(added, status_quo_values=values)
    experiment.search_space.set_parameter_constraints(space.parameter_constraints)


def _frozen(spec: ExperimentSpec) -> dict[str, Any]:
    given = {p.name: p.frozen_value for p in spec.parameters if not isinstance(p, DerivedParameter)}
    return {name: value for name, value in given.items() if value is not None}


def _with_backfill(parameter: Parameter, value: Any) -> Parameter:
    """Return a parameter with the value of the trials that do not have it; Ax has no other way to give it one."""
    if value is None:
        return parameter
    named: dict[str, Any] = {"name": parameter.name, "parameter_type": parameter.parameter_type}
    if isinstance(parameter, AxRange):
        bounds = {"lower": parameter.lower, "upper": parameter.upper, "log_scale": parameter.log_scale}
        return AxRange(**named, **bounds, backfill_value=value)
    if isinstance(parameter, AxFixed):
        return AxFixed(**named, value=parameter.value, backfill_value=value)
    assert isinstance(parameter, AxChoice)
    order = {"is_ordered": parameter.is_ordered, "sort_values": parameter.sort_values}
    dependents = parameter.dependents if parameter.is_hierarchical else None
    return AxChoice(**named, values=parameter.values, **order, dependents=dependents, backfill_value=value)


def _parameter(spec: ParameterSpec) -> RangeParameterConfig | ChoiceParameterConfig | DerivedParameterConfig:
    if isinstance(spec, RangeParameter):
        if spec.step_size is not None:
            # Ax makes the same of a step size, but its values carry rounding errors, and one may lie out of bounds.
            return ChoiceParameterConfig(spec.name, list(spec.grid), spec.parameter_type, is_ordered=True)
        kind = int if spec.parameter_type == "int" else float
        lower, upper = (kind(bound) for bound in spec.bounds)
        return RangeParameterConfig(spec.name, (lower, upper), spec.parameter_type, None, spec.scaling)
    if isinstance(spec, DerivedParameter):
        return DerivedParameterConfig(spec.name, for_ax(spec.expression_str, parameters=True), spec.parameter_type)
    assert isinstance(spec, ChoiceParameter)
    return ChoiceParameterConfig(
        spec.name, list(spec.values), spec.parameter_type, spec.is_ordered, spec.dependent_parameters
    )
