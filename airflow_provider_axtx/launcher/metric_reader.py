"""Reads the metrics of a program that reports nothing by itself, from the output of its app or from its files.

It runs on the worker's side: the image of an app needs nothing of this package. What cannot be found is "no metric"
with its reason, never a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_axtx.core.command_line import filled
from airflow_provider_axtx.core.deadline import in_time
from airflow_provider_axtx.core.errors import (
    AxtxError,
    OutputLostError,
    SchedulerUnavailableError,
    TrackerUnavailableError,
)
from airflow_provider_axtx.core.metric_sources import Measured, MetricSource, load_metrics
from airflow_provider_axtx.core.records import AttemptRecord
from airflow_provider_axtx.launcher.log_sources import LogSource
from airflow_provider_axtx.launcher.metric_files import NoMetricError, read_file
from airflow_provider_axtx.launcher.output_scan import PatternMetric, search_output
from airflow_provider_axtx.launcher.scheduler_registry import describe_error
from airflow_provider_axtx.launcher.series import Series
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.launcher.tracker import list_steps

#: Reading that takes longer has failed: a dead file server would hold the caller without end.
DEADLINE_SECONDS = 60.0
#: Of a longer log file only the end is read.
MAX_LOG_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class MeasuredApp:
    """What has to be known of an app to read its metrics.

    :param lookup_options: what its scheduler needs to find it, as recorded with its attempt.
    """

    experiment: str
    trial_index: int
    tracker_base: str
    scheduler: str
    lookup_options: Mapping[str, Any] | None
    app_handle: str | None
    submission_key: str = ""

    @classmethod
    def of(cls, attempt: AttemptRecord) -> Self:
        """Return the app of an attempt."""
        return cls(
            attempt.experiment,
            attempt.trial_index,
            attempt.tracker_base,
            attempt.scheduler,
            attempt.lookup_options,
            attempt.app_handle,
            attempt.submission_key,
        )

    def __str__(self) -> str:
        return f"trial {self.trial_index} of {self.experiment!r}"


def count_steps(tracker_base: str, trial_index: int, curve_source: Mapping[str, Any] | None) -> int:
    """Return how many progressive results there are now: each file of the tracker, and each metric at each step.

    :param tracker_base: where the app reports.
    :param trial_index: the trial.
    :param curve_source: where else its steps are read (``lifecycle.reading.curve_source``); None is nowhere.
    :raises TrackerUnavailableError: or SchedulerUnavailableError, when they cannot be read just now.
    """
    count = len(list_steps(tracker_base, trial_index))
    if curve_source is not None:
        place = {name: curve_source.get(name) for name in ("lookup_options", "app_handle")}
        app = MeasuredApp(
            curve_source["experiment"],
            trial_index,
            tracker_base,
            curve_source["scheduler"],
            **place,
            # A trigger that an earlier version has serialized does not have it, and no source that needs it.
            submission_key=curve_source.get("submission_key", ""),
        )
        measured = read_metrics(app, load_metrics(curve_source["metrics"]), may_be_cut=True)
        # Not only the steps: a program may write val_loss after loss, and the rule may look at val_loss.
        count += sum(len(values) for values in measured.steps.values())
    return count


def read_metrics(app: MeasuredApp, metrics: Mapping[str, MetricSource], *, may_be_cut: bool) -> Measured:
    """Read metrics of an app, while its app runs or after its end.

    :param metrics: a source for each metric.
    :param may_be_cut: whether a last line without a line break may be half written and is left out: while the app runs,
        and when it did not end by itself. A program that has succeeded may end its last line without one.
    :raises SchedulerUnavailableError: the output cannot be read just now.
    :raises AppElsewhereError: the output is on another host.
    :raises TrackerUnavailableError: the files cannot be read just now.
    """
    measured = Measured()
    patterns = {name: source for name, source in metrics.items() if source.kind == "regex"}
    if patterns:
        _read_output(app, patterns, measured, may_be_cut)
    for name, source in metrics.items():
        if source.kind == "mlflow":
            _read_mlflow(app, name, source, measured)
        elif source.kind != "regex":
            _read_file(app, name, source, measured, may_be_cut)
    measured.steps = dict(sorted(measured.steps.items()))
    return measured


def _read_file(app: MeasuredApp, name: str, source: MetricSource, measured: Measured, may_be_cut: bool) -> None:
    path = filled(source.place, {"trial_idx": str(app.trial_index), "experiment_name": app.experiment})
    what = f"{path} in the tracker base {app.tracker_base}"

    def read() -> Series:
        return read_file(source, app.tracker_base, path, may_be_cut=may_be_cut)

    _read_series(name, measured, read, what, "it and may read it")


def _read_mlflow(app: MeasuredApp, name: str, source: MetricSource, measured: Measured) -> None:
    from airflow_provider_axtx.launcher.mlflow_runs import read_metric

    what = f"The MLflow run of {app}"
    _read_series(name, measured, lambda: read_metric(source, app.submission_key), what, "the MLflow server")


def _read_series(name: str, measured: Measured, read: Callable[[], Series], what: str, reached: str) -> None:
    try:
        series = in_time(read, DEADLINE_SECONDS)
    except NoMetricError as error:
        measured.missing[name] = str(error)
        return
    except AxtxError:
        raise
    except Exception as error:
        raise TrackerUnavailableError(
            f"{what} cannot be read: {describe_error(error)}.",
            fix=f"it is tried again; if it stays so, check that this machine reaches {reached}.",
        ) from error
    _take(measured, name, series.final(), series.curve)


def _read_output(app: MeasuredApp, sources: Mapping[str, MetricSource], measured: Measured, may_be_cut: bool) -> None:
    try:
        found, lines = in_time(lambda: _searched(app, sources, may_be_cut), DEADLINE_SECONDS)
    except NoMetricError as error:
        measured.missing |= dict.fromkeys(sources, str(error))
        return
    except AxtxError:
        raise
    except Exception as error:
        raise SchedulerUnavailableError(
            f"The output of {app} cannot be read: {describe_error(error)}.",
            fix="it is tried again; if it stays so, check that this machine reaches the scheduler and its log files.",
        ) from error
    for name, metric in found.items():
        if metric.is_too_slow or metric.series.final() is None:
            measured.missing[name] = metric.problem or _no_match(sources[name], metric, lines)
        else:
            _take(measured, name, metric.series.final(), metric.series.curve)


def _no_match(source: MetricSource, metric: PatternMetric, lines: int) -> str:
    if metric.series.count:
        return f"the output has no value at step {source.take}"
    return f"no line of the output ({lines} lines) matches {source.place!r}"


def _searched(
    app: MeasuredApp, sources: Mapping[str, MetricSource], may_be_cut: bool
) -> tuple[dict[str, PatternMetric], int]:
    """Search the output replica by replica; the first one that has a value of a metric counts for it."""
    searches = {name: PatternMetric(source) for name, source in sources.items()}
    lines, problems = 0, []
    for log in _logs(app):
        open_ones = {name: search for name, search in searches.items() if not search.series.count}
        if not open_ones:
            break
        try:
            lines += search_output(open_ones, log.chunks(MAX_LOG_BYTES), may_be_cut=may_be_cut)
        except FileNotFoundError as error:
            problems.append(f"{log.label}: {describe_error(error)}")
    if problems and not lines:
        raise NoMetricError(f"The output of the app is lost: {'; '.join(problems)}")
    return searches, lines


def _logs(app: MeasuredApp) -> list[LogSource]:
    if app.app_handle is None:
        raise NoMetricError("no app was submitted")
    try:
        return TorchXLauncher.for_attempt(app.scheduler, app.lookup_options).output(app.app_handle)
    except OutputLostError as error:
        raise NoMetricError(error.message) from error


def _take(measured: Measured, name: str, value: float | None, curve: Mapping[float, float]) -> None:
    if value is not None:
        measured.values[name] = value
    for step, at_step in curve.items():
        measured.steps.setdefault(step, {})[name] = at_step
