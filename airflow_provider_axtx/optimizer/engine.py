"""Asks Ax for trials and for the best trial, and has Ax validate definitions.

Every function is pure: it takes a snapshot, returns plain data, and keeps nothing between calls.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.errors import InvalidInputError, TrialNotFoundError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Parameters, Proposal, ProposedTrial
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.spec.attachment import Attachment
from airflow_provider_axtx.spec.experiment import ExperimentSpec

with quiet_import():
    from ax.adapter.adapter_utils import observed_pareto_frontier
    from ax.api.client import Client
    from ax.core.experiment import Experiment
    from ax.core.parameter import DerivedParameter
    from ax.core.trial import Trial
    from ax.exceptions.core import AxError, DataRequiredError, OptimizationComplete, UnsupportedError, UserInputError
    from ax.exceptions.generation_strategy import MaxParallelismReachedException
    from ax.service.utils.best_point import get_tensor_converter_adapter
    from ax.utils.common.random import with_rng_seed
    from botorch.exceptions.errors import InfeasibilityError

    from airflow_provider_axtx.optimizer.attach import attach_one
    from airflow_provider_axtx.optimizer.kernel import without_stale_build_lock
    from airflow_provider_axtx.optimizer.rebuild import (
        Rebuilt,
        configured_client,
        full_parameterization,
        generation_record,
        new_strategy,
        next_state,
        rebuild,
    )
    from airflow_provider_axtx.optimizer.stopping import (
        early_stop,
        early_stopping_strategy,
        global_stop,
        global_stopping_strategy,
        improvement_stop,
    )

__all__ = ["best", "client", "early_stop", "export_json", "global_stop", "propose", "validate"]

_Metrics = dict[str, dict[str, float | None]]
_PENDING = (DataRequiredError, MaxParallelismReachedException)
_USER_ERRORS = (UserInputError, UnsupportedError, ValueError, KeyError, InfeasibilityError)


def propose(snapshot: ExperimentSnapshot, n: int) -> Proposal:
    """Ask Ax for the next trials.

    With ``random_seed``, the answer equals that of an uninterrupted Ax client bit for bit. It takes from a tenth of a
    second (Sobol) to minutes (a model over a constrained mixed space).

    :param snapshot: the experiment, read from the store.
    :param n: how many trials, at least 1.
    :return: at most ``n`` trials, the reason when they are fewer, and the state to be stored with them.
    :raises InvalidInputError: when Ax cannot work with the definition; a retry cannot help.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidInputError(
            f"n must be a whole number of at least 1, not {n!r}.", fix="ask for one or more trials."
        )
    rebuilt = rebuild(snapshot)
    first = _baseline_first(rebuilt)
    n -= len(first)
    _require_baseline(rebuilt)
    generated: list[Trial] = []
    finished, pending = _improved_enough(rebuilt), None
    # One at a time: asked for several, Ax ignores the initialization budget, and proposes none at all when a
    # discrete space has fewer candidates left.
    while len(generated) < n and not finished and not (pending := _too_many_running(rebuilt)):
        if finished := _exhausted(rebuilt.experiment):
            break
        try:
            with _readable_errors(snapshot.name), _kernel_lock(rebuilt):
                (index,) = rebuilt.client.get_next_trials(max_trials=1)
        except OptimizationComplete as error:
            finished = f"{type(error).__name__}: {error}"
            break
        except _PENDING as error:
            pending = f"{type(error).__name__}: {error}"
            break
        generated.append(rebuilt.experiment.trials[index])
    state = next_state(snapshot.generator_state, rebuilt.strategy, generated) if generated else snapshot.generator_state
    new = (*first, *(_proposed(rebuilt.experiment, trial) for trial in generated))
    return Proposal(new, state, finished, pending)


def _baseline_first(rebuilt: Rebuilt) -> list[ProposedTrial]:
    """Return the definition's baseline as the first trial, unless it exists already."""
    given = rebuilt.spec.baseline
    if given is None or rebuilt.experiment.status_quo is not None:
        return []
    return [attach_one(rebuilt, Attachment(rebuilt.spec.read_parameters(given, "baseline"), baseline=True))]


def _kernel_lock(rebuilt: Rebuilt) -> contextlib.AbstractContextManager[None]:
    return without_stale_build_lock() if rebuilt.spec.is_multi_objective else contextlib.nullcontext()


def client(snapshot: ExperimentSnapshot) -> Client:
    """Return a live client that holds the whole snapshot, for notebooks and analyses.

    Calls on it do not change the store.

    :raises InvalidInputError: when the snapshot is not usable.
    """
    return rebuild(snapshot).client


def best(snapshot: ExperimentSnapshot, *, use_model_predictions: bool = False) -> list[dict[str, Any]]:
    """Return the best trial, or the Pareto frontier when there are several objectives.

    Only completed trials that satisfy the outcome constraints are considered, as Ax judges them.

    :param use_model_predictions: judge by the model instead of the observations; takes as long as a generation. Ax
        falls back on the observations while there is no model or when it fits badly.
    :return: ``[{trial_index, arm_name, parameters, metrics: {name: {mean, sem}}}]`` in order of trial index; ``sem``
        is None when it is unknown.
    :raises TrialNotFoundError: when no trial qualifies (yet).
    """
    if not any(trial.status == "COMPLETED" for trial in snapshot.trials):
        raise TrialNotFoundError(
            f"Experiment {snapshot.name!r} has no completed trial; it has {len(snapshot.trials)} trials.",
            fix="wait for a trial to complete, or look at the reasons of those that failed.",
        )
    rebuilt = rebuild(snapshot)
    with _readable_errors(snapshot.name), with_rng_seed(rebuilt.spec.generation.random_seed):
        found: dict[int, _Metrics | None]
        if use_model_predictions:
            with contextlib.suppress(OptimizationComplete, *_PENDING):
                # Without a fitted model Ax judges by the observations.
                rebuilt.strategy.fit(rebuilt.experiment)
            found = _best_predicted(rebuilt)
        else:
            found = dict.fromkeys(_best_observed(rebuilt), None)
    if not found:
        raise TrialNotFoundError(
            f"No completed trial of experiment {snapshot.name!r} satisfies all outcome constraints.",
            fix="run more trials, or relax outcome_constraints in a new experiment.",
        )
    trials = {trial.index: trial for trial in snapshot.trials}
    return [
        {
            "trial_index": index,
            "arm_name": trials[index].arm_name,
            "parameters": dict(trials[index].parameters),
            "metrics": found[index] or _observed_metrics(snapshot, index),
        }
        for index in sorted(found)
    ]


def validate(spec: ExperimentSpec) -> None:
    """Have Ax itself check a definition, for what ``ExperimentSpec`` cannot check without importing Ax.

    :raises InvalidInputError: with Ax's own message.
    """
    try:
        _, experiment = configured_client(spec, spec.name)
        new_strategy(spec)
        if spec.early_stopping is not None:
            early_stopping_strategy(spec.early_stopping, experiment)
        if spec.global_stopping is not None:
            global_stopping_strategy(spec.global_stopping)
    except (AxError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InvalidInputError(
            f"Ax refuses experiment {spec.name!r} with {_summary(spec)}: {type(error).__name__}: {error}",
            fix="change the field that Ax names.",
        ) from error
    known = set(experiment.optimization_config.metric_names)
    if known != set(spec.required_metrics):
        raise InvalidInputError(
            f"Ax reads the metrics {sorted(known)} from objective {spec.objective!r} and outcome_constraints "
            f"{list(spec.outcome_constraints)!r}, not {sorted(spec.required_metrics)}.",
            fix="put spaces around + - *, and use plain metric names (letters, digits, underscores).",
        )


def export_json(snapshot: ExperimentSnapshot, path: str | os.PathLike[str]) -> None:
    """Write the experiment in Ax's own JSON format, readable by ``Client.load_from_json_file``.

    :param path: file to create or replace; it is always complete.
    :raises OSError: when it cannot be written.
    """
    target = Path(path)
    live = rebuild(snapshot).client
    # Ax truncates the file before it encodes the experiment.
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        live.save_to_json_file(temporary)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink()
        raise


@contextlib.contextmanager
def _readable_errors(experiment: str) -> Iterator[None]:
    """Translate Ax's errors about unusable input; "finished" and "wait for results" pass through."""
    try:
        yield
    except (OptimizationComplete, *_PENDING):
        raise
    except _USER_ERRORS as error:
        raise InvalidInputError(
            f"Ax cannot work with experiment {experiment!r}: {type(error).__name__}: {error}",
            fix="check bounds, parameter_constraints and outcome_constraints against each other.",
        ) from error


def _require_baseline(rebuilt: Rebuilt) -> None:
    """Raise when outcome constraints refer to a baseline that is missing, or that will never have a value."""
    if not rebuilt.spec.needs_baseline:
        return
    status_quo = rebuilt.experiment.status_quo
    own = [t for t in rebuilt.experiment.trials.values() if status_quo is not None and t.arm.name == status_quo.name]
    if own and not all(t.status.is_failed or t.status.is_abandoned for t in own):
        return
    constraints = f"outcome_constraints {list(rebuilt.spec.outcome_constraints)!r} refer to the baseline"
    if not own:
        raise InvalidInputError(
            f"{constraints}, and experiment {rebuilt.experiment.name!r} has no baseline trial.",
            fix="give its baseline in the definition, attach a baseline trial first, or give an absolute bound.",
        )
    raise InvalidInputError(
        f"{constraints}, and the baseline trial {own[-1].index} is {own[-1].status.name}.",
        fix="clear the task that submitted it so that it runs again, or give an absolute bound in a new experiment.",
    )


def _improved_enough(rebuilt: Rebuilt) -> str | None:
    reason = improvement_stop(rebuilt)
    return reason and f"OptimizationShouldStop: {reason}"


def _too_many_running(rebuilt: Rebuilt) -> str | None:
    limit = rebuilt.spec.generation.max_parallelism
    if limit is None:
        return None
    running = sum(not is_terminal_trial_status(t.status.name) for t in rebuilt.experiment.trials.values())
    return f"{running} trials are in flight and max_parallelism is {limit}" if running >= limit else None


def _exhausted(experiment: Experiment) -> str | None:
    """Return why no candidate is left, or None: Ax finds out by ten thousand random draws, which takes minutes."""
    space = experiment.search_space
    if space.is_hierarchical:
        return None
    points = math.prod(p.cardinality() for p in space.parameters.values() if not isinstance(p, DerivedParameter))
    if points > len(experiment.trials):
        return None
    # A failed trial's parameterization may be tried again; attached trials may be outside the search space.
    arms = [trial.arm for trial in experiment.trials.values() if not trial.status.is_failed]
    taken = {arm.signature for arm in arms if space.check_membership(arm.parameters)}
    return (
        f"SearchSpaceExhausted: all {points} points of the search space have been tried"
        if len(taken) >= points
        else None
    )


def _proposed(experiment: Experiment, trial: Trial) -> ProposedTrial:
    node, key, _ = generation_record(trial)
    # Ax sometimes proposes numpy scalars; the parameter knows its Python type.
    space = experiment.search_space.parameters
    parameters: Parameters = {name: space[name].cast(value) for name, value in trial.arm.parameters.items()}
    generation = {
        "generator_key": key,
        "type": trial.generator_run.generator_run_type,
        "full_parameterization": full_parameterization(experiment, trial),
    }
    return ProposedTrial(trial.arm.name, parameters, node, {k: v for k, v in generation.items() if v is not None})


def _best_observed(rebuilt: Rebuilt) -> list[int]:
    experiment = rebuilt.experiment
    if not rebuilt.spec.is_multi_objective:
        try:
            _, _, index, _ = rebuilt.client.get_best_parameterization(use_model_predictions=False)
        except AssertionError:  # Ax has no better error for "there is none".
            return []
        return [index]
    # Client.get_pareto_frontier fits a model even for observed values, to guess a reference point, and then drops
    # points beyond it. The frontier of what was observed needs neither.
    completed = [t.index for t in experiment.trials.values() if t.status.is_completed]
    adapter = get_tensor_converter_adapter(experiment=experiment, data=experiment.lookup_data(completed))
    # Bounds on objectives are applied here: Ax finds no frontier at all unless every objective has one. A point that
    # violates a bound dominates none that keeps it, so the order does not matter.
    unbounded = experiment.optimization_config.clone_with_args(objective_thresholds=[])
    frontier = observed_pareto_frontier(adapter=adapter, optimization_config=unbounded)
    return [int(o.features.trial_index) for o in frontier if _within_bounds(rebuilt, o.data.means_dict)]


def _within_bounds(rebuilt: Rebuilt, means: dict[str, float]) -> bool:
    """Return whether a point keeps the bounds that outcome constraints put on objectives."""
    objectives = {name for part in rebuilt.spec.objectives for name in part.weights}
    for constraint in rebuilt.spec.constraints:
        if set(constraint.weights) <= objectives:
            bound = constraint.bound
            if constraint.relative:
                bound *= _baseline_mean(rebuilt.experiment, *constraint.weights)
            value = sum(weight * means[name] for name, weight in constraint.weights.items())
            if value > bound if constraint.operator == "<=" else value < bound:
                return False
    return True


def _baseline_mean(experiment: Experiment, metric: str) -> float:
    status_quo = experiment.status_quo
    own = [t.index for t in experiment.trials.values() if status_quo is not None and t.arm.name == status_quo.name]
    data = experiment.lookup_data(own).df
    means = data[data["metric_name"] == metric]["mean"].tolist() if own else []
    if not means:
        raise InvalidInputError(
            f"An outcome constraint bounds {metric!r} by the baseline, which has no value in {experiment.name!r}.",
            fix="let the baseline trial complete first.",
        )
    return float(means[-1])


def _best_predicted(rebuilt: Rebuilt) -> dict[int, _Metrics | None]:
    """Return the predicted metrics by trial index."""
    if rebuilt.spec.is_multi_objective:
        found = rebuilt.client.get_pareto_frontier(use_model_predictions=True)
    else:
        try:
            found = [rebuilt.client.get_best_parameterization(use_model_predictions=True)]
        except AssertionError:  # Ax has no better error for "there is none".
            found = []
    return {
        index: {
            # Beside a predicted mean Ax returns the variance, although it calls it SEM.
            name: {"mean": float(mean), "sem": None if math.isnan(variance) else math.sqrt(variance)}
            for name, (mean, variance) in metrics.items()
        }
        for _, metrics, index, _ in found
    }


def _observed_metrics(snapshot: ExperimentSnapshot, index: int) -> _Metrics:
    """Return the final value of each metric of a trial, or its last step's."""
    own = [o for o in snapshot.observations if o.trial_index == index]
    own.sort(key=lambda o: math.inf if o.step is None else o.step)
    return {o.metric: {"mean": o.mean, "sem": o.sem} for o in own}


def _summary(spec: ExperimentSpec) -> str:
    fields = {
        "parameters": [p.name for p in spec.parameters],
        "parameter_constraints": list(spec.parameter_constraints),
        "objective": spec.objective,
        "outcome_constraints": list(spec.outcome_constraints),
    }
    return ", ".join(f"{name} {value!r}" for name, value in fields.items() if value)
