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
from airflow_provider_axtx.spec.parameters import ChoiceParameter, DerivedParameter, ParameterSpec

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
    for trial in snapshot.trials:
        curve = _curve(spec, snapshot, trial.index)
        study.add_trial(_frozen(spec, trial, means.get(trial.index, {}), curve, last.get(trial.index)))


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
    trial: TrialRecord,
    means: Mapping[str, float],
    curve: dict[int, float],
    attempt: AttemptRecord | None,
) -> FrozenTrial:
    import optuna

    state = optuna.trial.TrialState[_STATES.get(trial.status, "WAITING")]
    values = [value for part in spec.objectives if (value := _value(part, means)) is not None]
    space = {
        parameter.name: _distribution(parameter)
        for parameter in spec.parameters
        if parameter.name in trial.parameters and not isinstance(parameter, DerivedParameter)
    }
    objective = {name for part in spec.objectives for name in part.weights}
    found: dict[str, Any] = {
        "arm_name": trial.arm_name,
        "trial_status": trial.status,
        "reason": trial.reason and without_line(trial.reason),
        "app_handle": attempt and attempt.app_handle,
        **{name: value for name, value in trial.parameters.items() if name not in space},
        **{name: mean for name, mean in means.items() if name not in objective or len(objective) > 1},
    }
    frozen = optuna.trial.create_trial(
        state=state,
        values=values if state.name == "COMPLETE" else None,
        params={name: trial.parameters[name] for name in space},
        distributions=space,
        intermediate_values=curve,
        user_attrs={name: value for name, value in found.items() if value is not None},
        constraints=_constraints(spec, means),
    )
    if attempt is not None and state.name != "WAITING":
        frozen.datetime_start = _local(attempt.started_at or attempt.requested_at)
        if state.is_finished():
            frozen.datetime_complete = _local(attempt.ended_at or attempt.finished_at or attempt.requested_at)
    return frozen


def _local(seconds: float) -> dt.datetime:
    """Return a time as Optuna has it: in the local time zone, without its name."""
    return dt.datetime.fromtimestamp(seconds)


def _distribution(parameter: ParameterSpec) -> BaseDistribution:
    import optuna.distributions as optuna

    if isinstance(parameter, ChoiceParameter):
        return optuna.CategoricalDistribution(parameter.values)
    assert not isinstance(parameter, DerivedParameter)
    (low, high), log = parameter.bounds, parameter.scaling == "log"
    if parameter.parameter_type == "int":
        return optuna.IntDistribution(int(low), int(high), log=log, step=int(parameter.step_size or 1))
    return optuna.FloatDistribution(low, high, log=log, step=parameter.step_size)


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
