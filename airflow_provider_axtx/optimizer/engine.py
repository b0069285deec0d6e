"""Asks Ax for trials and for the best trial, and has Ax validate definitions.

Every function is pure: it takes a snapshot and returns plain data. What ``propose`` keeps only saves time.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.linalg import LinAlgError

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Parameters, Proposal, ProposedTrial, TrialRecord
from airflow_provider_axtx.core.replaced_file import replaced_file
from airflow_provider_axtx.core.status import is_terminal_trial_status
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.optimizer.combined import ax_definition
from airflow_provider_axtx.spec.attachment import Attachment
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.halving import promoting
from airflow_provider_axtx.spec.parameterization import read_parameterization
from airflow_provider_axtx.spec.parameters import RangeParameter

with quiet_import():
    from ax.api.client import Client
    from ax.core.experiment import Experiment
    from ax.core.parameter import DerivedParameter
    from ax.core.trial import Trial
    from ax.exceptions.core import AxError, OptimizationComplete

    from airflow_provider_axtx.optimizer.attach import attach_one
    from airflow_provider_axtx.optimizer.ax_errors import PENDING, readable_errors
    from airflow_provider_axtx.optimizer.best import best
    from airflow_provider_axtx.optimizer.kept import client_for, keep
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
        check_early_stopping,
        early_stop,
        global_stop,
        global_stopping_strategy,
        improvement_stop,
    )

_log = logging.getLogger(__name__)

#: Proposals outside the definition that are drawn again in one call.
MAX_REJECTED = 20
#: Trials that are generated for a trial run of a new definition: the center of the space, and of Ax's Sobol sequence.
_TRIED = 3

__all__ = ["best", "client", "early_stop", "export_json", "global_stop", "propose", "validate"]


def propose(
    snapshot: ExperimentSnapshot,
    n: int,
    *,
    allowed_factories: Sequence[str] | None = None,
    fixed_parameters: Mapping[str, Any] | None = None,
) -> Proposal:
    """Ask Ax for the next trials.

    With ``random_seed``, the answer equals that of an uninterrupted Ax client bit for bit. It takes from a tenth of a
    second (Sobol) to minutes (a model over a constrained mixed space).

    :param snapshot: the experiment, read from the store.
    :param n: how many trials, at least 1.
    :param allowed_factories: see ``rebuild``.
    :param fixed_parameters: values that some parameters have in all of these trials.
    :return: at most ``n`` trials, the reason when they are fewer, and the state to be stored with them.
    :raises InvalidInputError: when Ax cannot work with the definition; a retry cannot help.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidInputError(
            f"n must be a whole number of at least 1, not {n!r}.", fix="ask for one or more trials."
        )
    if ExperimentSpec.from_store(snapshot.spec).ignores_results:
        # Ax would make tables of all of them for each trial, and not look at them.
        snapshot = replace(snapshot, observations=())
    rebuilt = client_for(snapshot, allowed_factories)
    _require_device(rebuilt.spec)
    first = _baseline_first(rebuilt)
    _require_baseline(rebuilt)
    fixed = rebuilt.spec.read_fixed_parameters(fixed_parameters) if fixed_parameters else {}
    proposal, rebuilt = _proposal(snapshot, rebuilt, first, n - len(first), fixed)
    if len(proposal.trials) == n and not fixed:
        # Otherwise Ax has refused to go on, and what it has done before is unknown; or its trials have other values.
        keep(rebuilt, _with_trials(snapshot, proposal.trials, proposal.generator_state))
    return proposal


def _at_once(spec: ExperimentSpec, fixed: Parameters, n: int) -> int:
    """Return how many trials Ax is asked for in one call: as many as it answers as if asked for one after another.

    Asked for several, it ignores the initialization budget, and proposes none at all when a discrete space has fewer
    candidates left.
    """
    tuned = [p for p in spec.parameters if isinstance(p, RangeParameter) and p.frozen_value is None]
    endless = not fixed and any(p.parameter_type == "float" and p.step_size is None for p in tuned)
    return n if endless and spec.ignores_results and spec.generation.max_parallelism is None else 1


def _require_device(spec: ExperimentSpec) -> None:
    """Raise when the model could not be fitted on this machine, before the initialization trials are paid for."""
    device = spec.generation.torch_device
    if device is None:
        return
    import torch

    try:
        torch.empty(0, device=device)
    # Torch raises another type for each reason, among them AssertionError.
    except Exception as error:
        raise InvalidInputError(
            f"generation.torch_device {device!r} of experiment {spec.name!r} cannot be used on this machine: "
            f"{type(error).__name__}: {error}",
            fix="run the task that generates trials where this device is, or remove torch_device.",
        ) from error


def _proposal(
    snapshot: ExperimentSnapshot, rebuilt: Rebuilt, first: list[ProposedTrial], n: int, fixed: Parameters
) -> tuple[Proposal, Rebuilt]:
    """Return the proposal, and the client that holds its trials."""
    new, state, rejected = list(first), snapshot.generator_state, 0
    finished, pending = _improved_enough(rebuilt), None
    while (left := len(first) + n - len(new)) > 0 and not finished and not (pending := _too_many_running(rebuilt)):
        if finished := _exhausted(rebuilt.experiment):
            break
        try:
            with readable_errors(snapshot.name), _kernel_lock(rebuilt):
                at_once = _at_once(rebuilt.spec, fixed, left)
                indexes = list(rebuilt.client.get_next_trials(max_trials=at_once, fixed_parameters=fixed or None))
        except OptimizationComplete as error:
            finished = f"{type(error).__name__}: {error}"
            break
        except PENDING as error:
            pending = f"{type(error).__name__}: {error}"
            break
        for trial in (rebuilt.experiment.trials[index] for index in indexes):
            state = next_state(state, rebuilt.strategy, [trial])
            proposed = _with_fixed(_proposed(rebuilt.experiment, trial), fixed)
            if wrong := _outside(rebuilt.spec, proposed):
                rejected += 1
                _refuse_too_many(snapshot.name, proposed, wrong, rejected)
                # Without the trial, but with what its generator has drawn.
                rebuilt = rebuild(_with_trials(snapshot, new, state))
                break
            new.append(proposed)
    return Proposal(tuple(new), state, finished, pending), rebuilt


def _with_fixed(proposed: ProposedTrial, fixed: Parameters) -> ProposedTrial:
    """Return a proposal with the fixed values: Ax does not heed them for the center of the search space."""
    return replace(proposed, parameters={name: fixed.get(name, value) for name, value in proposed.parameters.items()})


def _outside(spec: ExperimentSpec, proposed: ProposedTrial) -> str | None:
    """Return why a proposal is outside the definition, or None: Ax lets some rounded values through."""
    _, problems = read_parameterization(spec.parameters, spec.parameter_constraints, proposed.parameters, "parameters")
    return " ".join(map(str, problems)) or None


def _refuse_too_many(experiment: str, proposed: ProposedTrial, wrong: str, rejected: int) -> None:
    _log.warning("Ax proposed %s, which was rejected: %s", proposed.parameters, wrong)
    if rejected >= MAX_REJECTED:
        raise InvalidInputError(
            f"Ax proposed {rejected} trials outside the definition of experiment {experiment!r}, the last one "
            f"{proposed.parameters}: {wrong}",
            fix="change parameter_constraints so that more of the search space satisfies them, or use other bounds.",
        )


def _with_trials(
    snapshot: ExperimentSnapshot, proposed: Sequence[ProposedTrial], state: dict[str, Any] | None
) -> ExperimentSnapshot:
    """Return the snapshot as it will be when the proposals are recorded."""
    records = [
        TrialRecord(i, p.arm_name, p.parameters, "RUNNING", p.generation_node, p.generation, p.origin)
        for i, p in enumerate(proposed, start=len(snapshot.trials))
    ]
    return replace(snapshot, trials=(*snapshot.trials, *records), generator_state=state)


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
    return rebuild(snapshot, as_observed=True).client


def validate(spec: ExperimentSpec) -> None:
    """Have Ax itself check a definition, for what ``ExperimentSpec`` cannot check without importing Ax.

    :raises InvalidInputError: with Ax's own message.
    """
    try:
        _, experiment = configured_client(spec, spec.name)
        new_strategy(spec)
        if spec.early_stopping is not None:
            check_early_stopping(spec.early_stopping, experiment)
        if spec.global_stopping is not None:
            global_stopping_strategy(spec.global_stopping)
    except (AxError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InvalidInputError(
            f"Ax refuses experiment {spec.name!r} with {_summary(spec)}: {type(error).__name__}: {error}",
            fix="change the field that Ax names.",
        ) from error
    known = _known_metrics(spec, experiment)
    if known != set(spec.required_metrics):
        raise InvalidInputError(
            f"Ax reads the metrics {sorted(known)} from objective {spec.objective!r} and outcome_constraints "
            f"{list(spec.outcome_constraints)!r}, not {sorted(spec.required_metrics)}.",
            fix="put spaces around + - *, and use plain metric names (letters, digits, underscores).",
        )
    _try(spec)


def _known_metrics(spec: ExperimentSpec, experiment: Experiment) -> set[str]:
    """Return the metrics that Ax reads from objective and outcome constraints, combined ones as what they stand for."""
    combined = {metric.name: metric.weights for metric in ax_definition(spec).combined}
    return {part for name in experiment.optimization_config.metric_names for part in combined.get(name, {name: 1.0})}


def _try(spec: ExperimentSpec) -> None:
    """Have the optimizer do what the definition asks for, before the first trial is paid for.

    :raises InvalidInputError: when it cannot.
    """
    if spec.generation.method == "quality" and spec.generation.factory is None:
        missing = [name for name in ("jax", "numpyro") if importlib.util.find_spec(name) is None]
        if missing:
            raise InvalidInputError(
                f"generation.method 'quality' of experiment {spec.name!r} needs {' and '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not installed.",
                fix="install airflow-provider-axtx[quality] on the workers, or use method 'fast'.",
            )
    snapshot = ExperimentSnapshot(spec.name, "", spec.to_json(), None, 0)
    rebuilt = rebuild(snapshot)
    try:
        _proposal(snapshot, rebuilt, _baseline_first(rebuilt), _TRIED, {})
    except LinAlgError:
        raise  # numerical code failed; another try of the task may succeed
    except (AxError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InvalidInputError(
            f"Ax cannot generate a trial of experiment {spec.name!r} with {_summary(spec)}: "
            f"{type(error).__name__}: {error}",
            fix="change bounds, step sizes or parameter_constraints.",
        ) from error


def export_json(snapshot: ExperimentSnapshot, path: str | os.PathLike[str]) -> None:
    """Write the experiment in Ax's own JSON format, readable by ``Client.load_from_json_file``.

    :param path: file to create or replace; it is always complete.
    :raises OSError: when it cannot be written.
    """
    live = rebuild(snapshot, as_observed=True).client
    # Ax truncates the file before it encodes the experiment.
    with replaced_file(path) as temporary:
        live.save_to_json_file(str(temporary))


def _require_baseline(rebuilt: Rebuilt) -> None:
    """Raise when outcome constraints refer to a baseline that is missing, or that will never have a value."""
    if not rebuilt.spec.needs_baseline:
        return
    status_quo = rebuilt.experiment.status_quo
    own = [t for t in rebuilt.experiment.trials.values() if status_quo is not None and t.arm.name == status_quo.name]
    # A baseline that has paused goes on with the whole budget. One that was stopped early, as by earlier versions,
    # never has a value: a model proposes nothing without it.
    is_lost = promoting(rebuilt.spec) is None and rebuilt.spec.generation.method != "random_search"
    ended = (t.status.is_failed or t.status.is_abandoned or (t.status.is_early_stopped and is_lost) for t in own)
    if own and not all(ended):
        return
    constraints = f"outcome_constraints {list(rebuilt.spec.outcome_constraints)!r} refer to the baseline"
    if not own:
        raise InvalidInputError(
            f"{constraints}, and experiment {rebuilt.experiment.name!r} has no baseline trial.",
            fix="give its baseline in the definition, attach a baseline trial first, or give an absolute bound.",
        )
    raise InvalidInputError(
        f"{constraints}, and the baseline trial {own[-1].index} is {own[-1].status.name}.",
        fix="clear the task that submitted it so that a FAILED or ABANDONED one runs again, or give an absolute bound.",
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
    tuned = [p for p in space.parameters.values() if not isinstance(p, DerivedParameter) and not p.is_disabled]
    points = math.prod(p.cardinality() for p in tuned)
    if points > len(experiment.trials):
        return None
    # A failed trial's parameterization may be tried again; attached trials may be outside the search space.
    arms = [trial.arm for trial in experiment.trials.values() if not trial.status.is_failed]
    frozen = {p.name: p.default_value for p in space.parameters.values() if p.is_disabled}
    inside = [arm for arm in arms if space.check_membership(arm.parameters)]
    taken = {arm.signature for arm in inside if frozen.items() <= arm.parameters.items()}
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


def _summary(spec: ExperimentSpec) -> str:
    fields = {
        "parameters": [p.name for p in spec.parameters],
        "parameter_constraints": list(spec.parameter_constraints),
        "objective": spec.objective,
        "outcome_constraints": list(spec.outcome_constraints),
    }
    return ", ".join(f"{name} {value!r}" for name, value in fields.items() if value)
