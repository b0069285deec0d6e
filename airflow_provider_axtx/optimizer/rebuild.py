"""Rebuilds an Ax client from an experiment's snapshot.

Ax's own persistence is not used: it rounds floats, takes seconds where this takes hundredths of a second, and lets two
writers lose an observation. A rebuild restores less than Ax saves: the trials, the data with exact floats, the current
generation node, and only the last generator run of each (node, generator), which holds the generator's state.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, Parameters, TrialRecord
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.optimizer.combined import ax_definition
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.generation import check_factory
from airflow_provider_axtx.spec.parameterization import read_parameterization
from airflow_provider_axtx.spec.stopping import SuccessiveHalving

with quiet_import():
    from ax.api.client import Client
    from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
    from ax.api.utils.structs import GenerationStrategyDispatchStruct
    from ax.core.arm import Arm
    from ax.core.data import Data, DataRow
    from ax.core.experiment import Experiment
    from ax.core.generator_run import GeneratorRun, GeneratorRunType
    from ax.core.parameter import ChoiceParameter as AxChoice
    from ax.core.parameter import Parameter
    from ax.core.trial import Trial
    from ax.core.trial_status import TrialStatus
    from ax.exceptions.storage import JSONEncodeError
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from ax.storage.json_store.decoder import generation_strategy_from_json
    from ax.storage.json_store.encoder import object_to_json
    from ax.utils.common.constants import Keys

    from airflow_provider_axtx.optimizer.corrections import correct_ax
    from airflow_provider_axtx.optimizer.spaces import change_space, definitions, new_experiment

correct_ax()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RebuiltFacts:
    """A live client without a generation strategy, and the experiment inside it that the client keeps private."""

    spec: ExperimentSpec
    client: Client
    experiment: Experiment


@dataclass(frozen=True)
class Rebuilt(RebuiltFacts):
    """A live client that can generate trials."""

    strategy: GenerationStrategy


def rebuild(
    snapshot: ExperimentSnapshot, *, allowed_factories: Sequence[str] | None = None, as_observed: bool = False
) -> Rebuilt:
    """Return a client that holds everything in the snapshot, as if the client had made the experiment itself.

    Trials that have not ended are RUNNING in it, also those that the store calls CANDIDATE or STAGED: Ax's client marks
    a trial RUNNING when it hands the trial out.

    :param allowed_factories: patterns of what a stored ``generation.factory`` may name, which is imported; None allows
        all, for users who have opened the store themselves.
    :param as_observed: keep each standard error, although Ax can fit no model to a metric with some of them only.
    :raises InvalidInputError: when the snapshot is not usable, or its factory is not allowed.
    """
    spec = ExperimentSpec.from_store(snapshot.spec)
    if not as_observed:
        snapshot = replace(snapshot, observations=tuple(with_uniform_errors(spec, snapshot.observations)))
    rebuilt = rebuild_without_strategy(snapshot, spec)
    check_factory(spec.generation.factory, allowed_factories)
    strategy = _strategy(spec, rebuilt.experiment, snapshot.generator_state)
    rebuilt.client.set_generation_strategy(strategy)
    return Rebuilt(spec, rebuilt.client, rebuilt.experiment, strategy)


def rebuild_without_strategy(snapshot: ExperimentSnapshot, spec: ExperimentSpec | None = None) -> RebuiltFacts:
    """Return the same without a generation strategy, which takes code of a user (``generation.factory``).

    :param spec: the snapshot's definition, if it was read already.
    :raises InvalidInputError: when the snapshot is not usable.
    """
    spec = spec or ExperimentSpec.from_store(snapshot.spec)
    experiment = _with_all_trials(snapshot, spec)
    rebuilt = RebuiltFacts(spec, _client(spec, experiment), experiment)
    _observe(rebuilt, snapshot.observations)
    for record in snapshot.trials:
        experiment.trials[record.index].mark_running(no_runner_required=True)
        _end(experiment.trials[record.index], record)
    return rebuilt


def catch_up(rebuilt: RebuiltFacts, trials: Iterable[TrialRecord], observations: Sequence[Observation]) -> None:
    """Tell a client which of its trials have ended since, and what was observed.

    :param observations: all those of each trial of which any is new.
    """
    _observe(rebuilt, observations)
    for record in trials:
        _end(rebuilt.experiment.trials[record.index], record)


def _observe(rebuilt: RebuiltFacts, observations: Iterable[Observation]) -> None:
    seen = _seen(rebuilt.spec, observations)
    _add_observations(rebuilt.client, rebuilt.experiment, _with_combined(rebuilt.spec, seen))


def _seen(spec: ExperimentSpec, observations: Iterable[Observation]) -> list[Observation]:
    # Curves of an experiment that stops nothing early are for people; the model sees what it would see without them.
    return [one for one in observations if one.step is None or spec.early_stopping is not None]


def configured_client(spec: ExperimentSpec, name: str) -> tuple[Client, Experiment]:
    """Return a client with search space, objective and metrics of ``spec``, without trials or generation strategy."""
    experiment = new_experiment(spec, name)
    return _client(spec, experiment), experiment


def _with_all_trials(snapshot: ExperimentSnapshot, spec: ExperimentSpec) -> Experiment:
    """Return the experiment with its trials; between them its search space changes as it was changed."""
    known = definitions(snapshot, spec)
    experiment = new_experiment(known[0][1], snapshot.name)
    for (first, definition), (until, _) in zip(known, [*known[1:], (len(snapshot.trials), None)], strict=True):
        if first > 0:
            change_space(experiment, definition)
        cast = _Cast(experiment.search_space.parameters)
        for record in snapshot.trials[first:until]:
            _add_trial(experiment, record, cast)
    return experiment


def _client(spec: ExperimentSpec, experiment: Experiment) -> Client:
    """Return a client of an experiment, with objective and metrics of ``spec``."""
    client = Client(random_seed=spec.generation.random_seed)
    client.set_experiment(experiment)
    definition = ax_definition(spec)
    client.configure_optimization(
        objective=definition.objective,
        outcome_constraints=list(definition.outcome_constraints) or None,
        pruning_target_parameterization=_pruning_target(spec),
    )
    parts = [name for metric in definition.combined for name in metric.weights if name not in experiment.metrics]
    client.configure_tracking_metrics([*dict.fromkeys(parts), *spec.tracking_metrics])
    return client


def _pruning_target(spec: ExperimentSpec) -> Parameters | None:
    """Return the pruning target in the types of the search space: to Ax, the whole number 0 is no value of a float."""
    given = spec.pruning_target_parameterization
    return None if given is None else read_parameterization(spec.parameters, (), given, "")[0]


def new_strategy(spec: ExperimentSpec) -> GenerationStrategy:
    """Return the generation strategy of ``spec`` before its first trial.

    :raises InvalidInputError: when its factory cannot be used.
    """
    # Whether the factory is allowed was checked before: it is imported here.
    generation = spec.generation
    if generation.factory is not None:
        return _strategy_from(generation.factory)
    return choose_generation_strategy(
        struct=GenerationStrategyDispatchStruct(
            method=generation.method,
            initialization_budget=generation.initialization_budget,
            initialization_random_seed=generation.initialization_random_seed,
            initialize_with_center=generation.initialize_with_center,
            use_existing_trials_for_initialization=generation.use_existing_trials_for_initialization,
            min_observed_initialization_trials=_min_observed(spec),
            allow_exceeding_initialization_budget=generation.allow_exceeding_initialization_budget,
            torch_device=generation.torch_device,
            simplify_parameter_changes=generation.simplify_parameter_changes,
        )
    )


def _min_observed(spec: ExperimentSpec) -> int | None:
    """Return how many completed trials Ax's model waits for; None is Ax's default, half of the initialization.

    Ax counts COMPLETED trials only. Successive halving may complete a single trial of the initialization: Ax then had
    no trial to propose, and the experiment ended after five trials.
    """
    given = spec.generation.min_observed_initialization_trials
    return 1 if given is None and isinstance(spec.early_stopping, SuccessiveHalving) else given


def _strategy_from(factory: str) -> GenerationStrategy:
    module, _, function = factory.partition(":")
    try:
        strategy = getattr(importlib.import_module(module), function)()
    except Exception as error:
        raise InvalidInputError(
            f"generation.factory {factory!r} cannot be used: {type(error).__name__}: {error}.",
            fix="name a function without arguments in a module that every worker can import.",
        ) from error
    if not isinstance(strategy, GenerationStrategy):
        raise InvalidInputError(
            f"generation.factory {factory!r} returned {type(strategy).__name__}.",
            fix="return an ax.generation_strategy.generation_strategy.GenerationStrategy.",
        )
    return strategy


def generation_record(trial: Trial) -> tuple[str | None, str | None, dict[str, Any]]:
    """Return generation node, generator key and generator state of a generated trial."""
    encoded = object_to_json(trial.generator_run)
    state = encoded["generator_state_after_gen"] or {}
    return encoded["generation_node_name"], encoded["generator_key"], dict(state)


def full_parameterization(experiment: Experiment, trial: Trial) -> dict[str, Any] | None:
    """Return the values of all parameters of a trial in a hierarchical space, also of those that it does not use.

    Ax proposes in the full space, and its models see the unused values.
    """
    if not experiment.search_space.is_hierarchical:
        return None
    metadata = (trial.generator_run.candidate_metadata_by_arm_signature or {}).get(trial.arm.signature) or {}
    full = metadata.get(Keys.FULL_PARAMETERIZATION)
    space = experiment.search_space.parameters
    return full and {name: space[name].cast(value) for name, value in full.items()}


def next_state(before: dict[str, Any] | None, strategy: GenerationStrategy, trials: Iterable[Trial]) -> dict[str, Any]:
    """Return what the next rebuild needs of the generation strategy.

    :param before: the state from which ``strategy`` was rebuilt.
    :param trials: the trials that were generated since, in order.
    """
    runs = {(run["node"], run["key"]): run for run in (before or {}).get("runs", ())}
    for trial in trials:
        node, key, state = generation_record(trial)
        # Popped first, so that the order is that of the last use: Ax asks for the very last run.
        runs.pop((node, key), None)
        runs[node, key] = {"node": node, "key": key, "state": state}
    return {"node": strategy.current_node_name, "runs": list(runs.values())}


def _strategy(spec: ExperimentSpec, experiment: Experiment, state: dict[str, Any] | None) -> GenerationStrategy:
    fresh = new_strategy(spec)
    if state is None:
        return fresh
    if state["node"] not in fresh.nodes_by_name:
        _log.warning(
            "Experiment %s stopped at generation node %s, which this version of Ax does not have; its strategy starts "
            "from the trials that exist.",
            experiment.name,
            state["node"],
        )
        return fresh
    # Going through JSON is the public way to set the current node and the generator runs.
    try:
        encoded = object_to_json(fresh)
    except JSONEncodeError:
        # A user's own node: it sees the whole experiment at each call, from which Ax finds the current node.
        return fresh
    encoded["curr_node_name"] = state["node"]
    encoded["generator_runs"] = [
        object_to_json(
            GeneratorRun(
                arms=[],
                generator_key=run["key"],
                generation_node_name=run["node"],
                generator_state_after_gen=run["state"],
            )
        )
        for run in state["runs"]
    ]
    return generation_strategy_from_json(encoded, experiment=experiment)


class _Cast:
    """Gives values the types of their parameters: Ax compares arms by their values' text, and JSON turns 1.0 into 1."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = parameters
        self._types = {name: parameter.python_type for name, parameter in parameters.items()}
        self._floats = {
            name: [float(value) for value in parameter.values]
            for name, parameter in parameters.items()
            if isinstance(parameter, AxChoice) and parameter.python_type is float
        }

    def unknown(self, values: Mapping[str, Any]) -> list[str]:
        return [name for name in values if name not in self._types]

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        types = self._types
        typed = {
            name: value if type(value) is types[name] else self._parameters[name].cast(value)
            for name, value in values.items()
        }
        # The values of stepped parameters carried rounding errors in earlier versions.
        for name in self._floats.keys() & typed.keys():
            typed[name] = _without_rounding_error(typed[name], self._floats[name])
        return typed


def _without_rounding_error(value: float, known: list[float]) -> float:
    nearest = min(known, key=lambda one: abs(one - value))
    return nearest if abs(nearest - value) <= 1e-9 * max(1.0, abs(nearest)) else value


def _add_trial(experiment: Experiment, record: TrialRecord, cast: _Cast) -> None:
    unknown = cast.unknown(record.parameters)
    if unknown or record.index != len(experiment.trials):
        raise InvalidInputError(
            f"Trial {record.index} of experiment {experiment.name!r} does not fit the experiment: it "
            + (
                f"has unknown parameters {sorted(unknown)}."
                if unknown
                else f"stands at position {len(experiment.trials)}."
            ),
            fix="the stored trials must be in order, without gaps, and of this search space.",
        )
    arm = Arm(cast(record.parameters), name=record.arm_name)
    full = record.generation.get("full_parameterization")
    metadata = None
    if full is not None:
        metadata = {arm.signature: {Keys.FULL_PARAMETERIZATION: cast(full)}}
    # With its index: to find the next one, Ax would go through all trials for each of them.
    Trial(
        experiment,
        index=record.index,
        generator_run=GeneratorRun(
            arms=[arm],
            candidate_metadata_by_arm_signature=metadata,
            type=GeneratorRunType.MANUAL.name if record.origin != "generated" else record.generation.get("type"),
            generator_key=record.generation.get("generator_key"),
            generation_node_name=record.generation_node,
        ),
    )
    if record.origin == "baseline" and experiment.status_quo is None:
        experiment.status_quo = arm


def _end(trial: Trial, record: TrialRecord) -> None:
    if is_terminal_trial_status(record.status):
        # Unsafe: otherwise Ax looks up the data, which costs time, and refuses an early-stopped trial without data.
        trial.mark_as(TrialStatus[record.status], unsafe=True, reason=record.reason)


def _with_combined(spec: ExperimentSpec, observations: Sequence[Observation]) -> list[Observation]:
    computed = [value for metric in ax_definition(spec).combined for value in metric.observed(observations)]
    return [*observations, *computed]


def _add_observations(client: Client, experiment: Experiment, observations: Iterable[Observation]) -> None:
    # With one NaN objective, Ax's search for the best trial always raises.
    usable = [o for o in observations if math.isfinite(o.mean)]
    undeclared = dict.fromkeys(o.metric for o in usable if o.metric not in experiment.metrics)
    # A client that received such a metric tracks it from then on, and its models see it.
    client.configure_tracking_metrics(list(undeclared))
    if not usable:
        return
    arms = {index: trial.arm.name for index, trial in experiment.trials.items()}
    # In bulk: Ax's own load is slow because it makes a frame for each trial.
    rows = [
        DataRow(
            trial_index=o.trial_index,
            arm_name=arms[o.trial_index],
            metric_name=o.metric,
            metric_signature=experiment.metrics[o.metric].signature,
            mean=o.mean,
            se=math.nan if o.sem is None else o.sem,
            step=math.nan if o.step is None else o.step,
        )
        for o in observations_in_order(usable)
    ]
    experiment.attach_data(Data(data_rows=rows))


def with_uniform_errors(spec: ExperimentSpec, observations: Sequence[Observation]) -> list[Observation]:
    """Return observations as Ax's models can take them: with a standard error for each one of a metric, or for none.

    A model infers the noise of a metric without standard errors. A metric with some made the first proposal of the
    model fail, for example when trials of a table had none and those of the app had one.
    """
    unknown = {one.metric for one in _seen(spec, observations) if one.sem is None}
    return [replace(one, sem=None) if one.sem is not None and one.metric in unknown else one for one in observations]


def observations_in_order(observations: Iterable[Observation]) -> list[Observation]:
    """Return observations by trial, then by step with the final value last, in the order of a client's calls."""
    return sorted(observations, key=lambda o: (o.trial_index, math.inf if o.step is None else o.step))
