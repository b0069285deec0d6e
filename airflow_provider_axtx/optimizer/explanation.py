"""What the model says about an experiment, as numbers for charts: importance, slices, contours, cross-validation, best.

The numbers are those of Ax's own analyses of the same data. A chart that Ax cannot compute is left out with its reason.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard
from airflow_provider_axtx.core.completed import completed_trials
from airflow_provider_axtx.core.errors import TrialNotFoundError
from airflow_provider_axtx.core.records import ExperimentSnapshot
from airflow_provider_axtx.optimizer.ax_logging import quiet_import
from airflow_provider_axtx.optimizer.best import best

with quiet_import():
    from ax.adapter.torch import TorchAdapter
    from ax.analysis.plotly.cross_validation import CrossValidationPlot
    from ax.analysis.plotly.sensitivity import SensitivityAnalysisPlot
    from ax.analysis.plotly.surface.utils import (
        get_features_for_slice_or_contour,
        get_fixed_values_for_slice_or_contour,
        get_parameter_values,
    )
    from ax.core.parameter import ChoiceParameter, DerivedParameter, FixedParameter, Parameter, RangeParameter
    from ax.exceptions.core import OptimizationComplete
    from ax.utils.common.random import with_rng_seed

    from airflow_provider_axtx.optimizer.ax_errors import PENDING
    from airflow_provider_axtx.optimizer.kernel import without_stale_build_lock
    from airflow_provider_axtx.optimizer.rebuild import Rebuilt, rebuild

_log = logging.getLogger(__name__)

#: Points of a slice, and of each side of a contour: each holds Ax's own points (100 and 10) or a third of them.
SLICE_POINTS, CONTOUR_POINTS = 100, 28
#: Contours are computed of so many of the most important numeric parameters, in pairs.
CONTOUR_PARAMETERS = 4
#: Charts are computed of so many metrics: those of the objective first.
METRICS = 4
#: With more observations, cross-validation leaves out a tenth of them at a time instead of each one.
LEAVE_ONE_OUT = 50
_FOLDS = 10


@dataclass(frozen=True)
class _Model:
    """A fitted model, and the metrics that charts are drawn of."""

    rebuilt: Rebuilt
    adapter: TorchAdapter
    metrics: tuple[str, ...]

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters that are tuned."""
        fixed = (DerivedParameter, FixedParameter)
        space = self.rebuilt.experiment.search_space.parameters
        return [p for p in space.values() if not isinstance(p, fixed) and not p.is_disabled]

    def predicted(self, metric: str, points: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
        """Return mean and standard error of a metric at points through the best trial."""
        experiment = self.rebuilt.experiment
        fixed, _ = self.fixed_values()
        space = experiment.search_space
        features = [get_features_for_slice_or_contour(dict(point), space, fixed) for point in points]
        means, covariances = self.adapter.predict(features)
        name = experiment.metrics[metric].signature
        return list(map(float, means[name])), [float(variance) ** 0.5 for variance in covariances[name][name]]

    def fixed_values(self) -> tuple[dict[str, Any], str]:
        """Return the values of the other parameters of a slice or contour, and what they are."""
        values, what = get_fixed_values_for_slice_or_contour(self.rebuilt.experiment, self.rebuilt.strategy)
        return dict(values), str(what)


def explain(snapshot: ExperimentSnapshot, *, allowed_factories: Sequence[str] | None = None) -> list[AnalysisCard]:
    """Return the charts of an experiment as data; the first card says what they rest on.

    Fits a model when there is enough data, and takes as long as several generations.

    :param allowed_factories: see ``rebuild``.
    :raises InvalidInputError: when the snapshot is not usable, or its factory is not allowed.
    """
    rebuilt = rebuild(snapshot, allowed_factories=allowed_factories)
    completed = len(completed_trials(snapshot.trials, snapshot.observations))
    problems: list[str] = []
    cards: list[AnalysisCard] = []
    with without_stale_build_lock(), with_rng_seed(rebuilt.spec.generation.random_seed):
        model = _fitted(rebuilt)
        if model is None:
            text = f"Ax has no model yet: {completed} trials have completed, and it fits one after the initialization."
            problems.append(text)
        else:
            cards = _charts(snapshot, model, problems)
    data = {"completed": completed, "problems": problems}
    return [_card("summary", "What the charts rest on", data), *cards]


def _fitted(rebuilt: Rebuilt) -> _Model | None:
    try:
        adapter = rebuilt.strategy.fit(rebuilt.experiment)
    except (OptimizationComplete, *PENDING):
        return None
    if not isinstance(adapter, TorchAdapter):
        return None
    known = rebuilt.experiment.metrics
    metrics = [name for name in rebuilt.spec.required_metrics if known[name].signature in adapter.outcomes]
    return _Model(rebuilt, adapter, tuple(metrics[:METRICS]))


def _card(name: str, title: str, data: dict[str, Any]) -> AnalysisCard:
    return AnalysisCard(name, title, "", (), EXPLANATION, "", data)


def _charts(snapshot: ExperimentSnapshot, model: _Model, problems: list[str]) -> list[AnalysisCard]:
    def computed(what: str, cards: Callable[[], Iterator[AnalysisCard]]) -> list[AnalysisCard]:
        try:
            return list(cards())
        except Exception as error:  # noqa: BLE001 - of any numerical library; the other charts are computed all the same
            _log.warning("No %s: %s: %s", what, type(error).__name__, error)
            problems.append(f"No {what}: {type(error).__name__}: {error}")
            return []

    importance = computed("importance", lambda: _importance(model))
    ranked = _by_importance(model, importance)
    return [
        *importance,
        *computed("slices", lambda: _slices(model, ranked)),
        *computed("contours", lambda: _contours(model, ranked)),
        *computed("cross-validation", lambda: _cross_validation(model)),
        *computed("predicted best trial", lambda: _best(snapshot)),
    ]


def _importance(model: _Model) -> Iterator[AnalysisCard]:
    """Yield Ax's total Sobol indices for each metric: shares of 1, negative where a higher value lowers the metric."""
    for metric in model.metrics:
        found = SensitivityAnalysisPlot(metric_name=metric, top_k=None).compute(
            experiment=model.rebuilt.experiment, adapter=model.adapter
        )
        shares = dict(zip(found.df["parameter_name"], map(float, found.df["sensitivity"]), strict=True))
        names = sorted(shares, key=lambda name: -abs(shares[name]))
        data = {"metric": metric, "parameters": names, "shares": [shares[name] for name in names]}
        yield _card("importance", f"Importance of the parameters for {metric}", data)


def _by_importance(model: _Model, importance: Sequence[AnalysisCard]) -> list[Parameter]:
    """Return the tuned parameters, the most important one for the first metric first."""
    names = importance[0].data["parameters"] if importance else []
    at = {name: position for position, name in enumerate(names)}
    return sorted(model.parameters, key=lambda parameter: at.get(parameter.name, len(at)))


def _values(parameter: Parameter, density: int) -> list[Any]:
    """Return the values at which predictions are made: Ax's own, whole numbers for an int."""
    if isinstance(parameter, ChoiceParameter):
        return list(parameter.values)
    values = get_parameter_values(parameter, density)
    return values if parameter.python_type is float else list(dict.fromkeys(map(parameter.cast, map(round, values))))


def _slices(model: _Model, ranked: Sequence[Parameter]) -> Iterator[AnalysisCard]:
    fixed, described = model.fixed_values()
    for metric in model.metrics:
        for parameter in ranked:
            values = _values(parameter, SLICE_POINTS)
            mean, sem = model.predicted(metric, [{parameter.name: value} for value in values])
            data = {"metric": metric, "parameter": parameter.name, "values": values, "mean": mean, "sem": sem}
            title = f"{metric} over {parameter.name}"
            yield _card("slice", title, {**data, "fixed": fixed, "fixed_at": described})


def _contours(model: _Model, ranked: Sequence[Parameter]) -> Iterator[AnalysisCard]:
    fixed, described = model.fixed_values()
    numeric = [p for p in ranked if isinstance(p, RangeParameter) or (p.is_numeric and _is_ordered(p))]
    for metric in model.metrics:
        for one, other in combinations(numeric[:CONTOUR_PARAMETERS], 2):
            xs, ys = _values(one, CONTOUR_POINTS), _values(other, CONTOUR_POINTS)
            mean, sem = model.predicted(metric, [{one.name: x, other.name: y} for y in ys for x in xs])
            data = {"metric": metric, "x": one.name, "y": other.name, "xs": xs, "ys": ys}
            grids = {"mean": _rows(mean, len(xs)), "sem": _rows(sem, len(xs))}
            title = f"{metric} over {one.name} and {other.name}"
            yield _card("contour", title, {**data, **grids, "fixed": fixed, "fixed_at": described})


def _is_ordered(parameter: Parameter) -> bool:
    return isinstance(parameter, ChoiceParameter) and parameter.is_ordered


def _rows(values: list[float], length: int) -> list[list[float]]:
    return [values[start : start + length] for start in range(0, len(values), length)]


def _cross_validation(model: _Model) -> Iterator[AnalysisCard]:
    """Yield, for each metric, what the model predicts of each trial that it was not given, and how far 95 % reach."""
    count = len({trial.arm.name for trial in model.rebuilt.experiment.trials.values() if trial.status.is_completed})
    folds = -1 if count <= LEAVE_ONE_OUT else _FOLDS
    plot = CrossValidationPlot(metric_names=list(model.metrics), folds=folds, untransform=True)
    *charts, summary = plot.compute(experiment=model.rebuilt.experiment, adapter=model.adapter).children
    trials = {trial.arm.name: trial.index for trial in model.rebuilt.experiment.trials.values()}
    for metric, chart, fit in zip(model.metrics, charts, summary.df["R²"], strict=True):
        observed, predicted, reach = (_floats(chart.df[name]) for name in ("observed", "predicted", "predicted_95_ci"))
        columns = {"observed": observed, "predicted": predicted, "predicted_reach": reach}
        indexes = [trials.get(name) for name in chart.df["arm_name"]]
        data = {"metric": metric, "trials": indexes, **columns, "r2": float(fit), "folds": folds}
        yield _card("cross_validation", f"Cross-validation of {metric}", data)


def _floats(column: Iterable[float]) -> list[float | None]:
    """Return numbers as JSON has them."""
    return [float(value) if math.isfinite(value) else None for value in column]


def _best(snapshot: ExperimentSnapshot) -> Iterator[AnalysisCard]:
    """Yield the best trials by the observations, and by the model's predictions."""
    try:
        found = {"observed": best(snapshot), "predicted": best(snapshot, use_model_predictions=True)}
    except TrialNotFoundError:
        return
    yield _card("best", "Best trial: observed and predicted", found)
