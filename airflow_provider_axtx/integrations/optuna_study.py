"""An experiment as an Optuna study in an SQLite file, for ``optuna`` and ``optuna-dashboard``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.output_line import without_line
from airflow_provider_axtx.core.records import AttemptRecord, ExperimentSnapshot, TrialRecord, final_means
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.spec.expressions import Inequality, Linear
from airflow_provider_axtx.spec.parameters import ChoiceParameter, DerivedParameter, RangeParameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

#: Optuna's states by those of Ax; every other one is WAITING.
_STATES = {
    "COMPLETED": "COMPLETE",
    "EARLY_STOPPED": "PRUNED",
    "FAILED": "FAIL",
    "ABANDONED": "FAIL",
    "RUNNING": "RUNNING",
    "STAGED": "RUNNING",
}


def write_study(snapshot: ExperimentSnapshot, attempts: Iterable[AttemptRecord], path: Path) -> None:
    """Write an experiment as a study of its name.

    The definition may have changed since the first trial, and Optuna has one space for all: that of today, widened to
    hold every trial. A trial that was completed without a metric of today's objective is a failed one there.

    A minimized metric has Optuna's direction ``minimize`` and its own value; any sum is maximized. Steps that are no
    whole numbers are left out, since Optuna cannot hold them. Derived parameters, other metrics, the reason and the app
    are user attributes.

    :param path: an empty file.
    :raises InvalidInputError: when Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InvalidInputError(
            f"The format optuna needs a package that is not installed here: {error}.",
            fix="pip install 'airflow-provider-axtx[optuna]'.",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = ExperimentSpec.from_store(snapshot.spec)
    study = optuna.create_study(
        study_name=snapshot.name,
        storage=f"sqlite:///{path}",
        directions=["minimize" if _is_minimized(part) else "maximize" for part in spec.objectives],
    )
    last = {attempt.trial_index: attempt for attempt in attempts}
    means = final_means(snapshot.observations)
    space = _space(spec, snapshot.trials)
    for trial in snapshot.trials:
        curve = _curve(spec, snapshot, trial.index)
        study.add_trial(_frozen(spec, space, trial, means.get(trial.index, {}), curve, last.get(trial.index)))


def _is_minimized(objective: Linear) -> bool:
    """Return whether an objective is one metric that is minimized; a sum is always maximized."""
    return len(objective.weights) == 1 and next(iter(objective.weights.values())) < 0


def _value(objective: Linear, means: Mapping[str, float]) -> float | None:
    if not set(objective.weights) <= set(means):
        return None
    if len(objective.weights) == 1:
        return means[next(iter(objective.weights))]
    return sum(weight * means[name] for name, weight in objective.weights.items())


def _curve(spec: ExperimentSpec, snapshot: ExperimentSnapshot, index: int) -> dict[int, float]:
    """Return the objective's curve; Optuna has none of several objectives."""
    if spec.is_multi_objective:
        return {}
    steps: dict[int, dict[str, float]] = {}
    for one in snapshot.observations:
        if one.trial_index == index and one.step is not None and one.step.is_integer():
            steps.setdefault(int(one.step), {})[one.metric] = one.mean
    values = {step: _value(spec.objectives[0], means) for step, means in steps.items()}
    return {step: value for step, value in values.items() if value is not None}


def _frozen(
    spec: ExperimentSpec,
    distributions: Mapping[str, BaseDistribution],
    trial: TrialRecord,
    means: Mapping[str, float],
    curve: dict[int, float],
    attempt: AttemptRecord | None,
) -> FrozenTrial:
    import optuna

    state, reason = _STATES.get(trial.status, "WAITING"), trial.reason and without_line(trial.reason)
    values = [value for part in spec.objectives if (value := _value(part, means)) is not None]
    if state == "COMPLETE" and len(values) < len(spec.objectives):
        state, reason = "FAIL", f"it has no value of the objective {spec.objective}"
    space = {name: found for name, found in distributions.items() if name in trial.parameters}
    objective = {name for part in spec.objectives for name in part.weights}
    found: dict[str, Any] = {
        "arm_name": trial.arm_name,
        "trial_status": trial.status,
        "reason": reason,
        "app_handle": attempt and attempt.app_handle,
        **{name: value for name, value in trial.parameters.items() if name not in space},
        **{
            name: mean
            for name, mean in means.items()
            if name not in objective or len(objective) > 1 or state != "COMPLETE"
        },
    }
    frozen = optuna.trial.create_trial(
        state=optuna.trial.TrialState[state],
        values=values if state == "COMPLETE" else None,
        params={name: trial.parameters[name] for name in space},
        distributions=space,
        intermediate_values=curve,
        user_attrs={name: value for name, value in found.items() if value is not None},
        constraints=_constraints(spec, means),
    )
    if attempt is not None and state != "WAITING":
        frozen.datetime_start = _local(attempt.started_at or attempt.requested_at)
        if frozen.state.is_finished():
            frozen.datetime_complete = _local(attempt.ended_at or attempt.finished_at or attempt.requested_at)
    return frozen


def _local(seconds: float) -> dt.datetime:
    """Return a time as Optuna has it: in the local time zone, without its name."""
    return dt.datetime.fromtimestamp(seconds)


def _space(spec: ExperimentSpec, trials: Iterable[TrialRecord]) -> dict[str, BaseDistribution]:
    """Return a distribution for each parameter that holds the values of all trials."""
    tried: dict[str, list[Any]] = {}
    for trial in trials:
        for name, value in trial.parameters.items():
            tried.setdefault(name, []).append(value)
    return {
        parameter.name: _distribution(parameter, tried.get(parameter.name, []))
        for parameter in spec.parameters
        if not isinstance(parameter, DerivedParameter)
    }


def _distribution(parameter: RangeParameter | ChoiceParameter, tried: list[Any]) -> BaseDistribution:
    import optuna.distributions as optuna

    if isinstance(parameter, ChoiceParameter):
        return optuna.CategoricalDistribution(list(dict.fromkeys((*parameter.values, *tried))))
    low, high = min(*parameter.bounds, *tried), max(*parameter.bounds, *tried)
    log = parameter.scaling == "log" and low > 0
    # The steps of today may be others than those of earlier trials.
    step = parameter.step_size
    is_on_grid = step is not None and all(abs((one - low) / step - round((one - low) / step)) < 1e-8 for one in tried)
    if parameter.parameter_type == "int":
        return optuna.IntDistribution(int(low), int(high), log=log, step=int(step) if step and is_on_grid else 1)
    return optuna.FloatDistribution(low, high, log=log, step=step if is_on_grid else None)


def _constraints(spec: ExperimentSpec, means: Mapping[str, float]) -> dict[str, float]:
    """Return how far each outcome constraint is from its bound, by its text; above 0 it is violated."""
    texts = zip(spec.outcome_constraints, spec.constraints, strict=True)
    return {
        text: _excess(constraint, means)
        for text, constraint in texts
        if not constraint.relative and set(constraint.weights) <= set(means)
    }


def _excess(constraint: Inequality, means: Mapping[str, float]) -> float:
    total = sum(weight * means[name] for name, weight in constraint.weights.items())
    return total - constraint.bound if constraint.operator == "<=" else constraint.bound - total
