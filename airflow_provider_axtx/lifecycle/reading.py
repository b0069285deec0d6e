"""What an app has reported: to its tracker, and what the experiment's ``metrics`` find in its output and its files.

The tracker counts first: of a metric that the app has reported there, nothing else is read into its final value.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_axtx.core.errors import InvalidResultError, ResultsPendingError
from airflow_provider_axtx.core.inputs import as_object
from airflow_provider_axtx.core.metric_sources import Measured, MetricSource, load_metrics
from airflow_provider_axtx.core.records import AttemptRecord, Observation
from airflow_provider_axtx.core.tracker_url import is_object_store
from airflow_provider_axtx.spec import reported as reports
from airflow_provider_axtx.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from airflow_provider_axtx.store.experiments import ExperimentStore

log = logging.getLogger(__name__)

#: Seconds after the end of an app for which its results are still waited for: NFS shows another host's file up to some
#: seconds later, and an object store lists it later still.
RESULT_PATIENCE_SECONDS = 15.0
#: How many of the latest tracker files of a live app are read again when the records do not tell whether they were.
MOST_READ_AGAIN = 20
#: Seconds for which an object store may refuse to show the results of an app before its trial is FAILED for it.
OUTAGE_SECONDS = 600.0


@dataclass(frozen=True)
class Reading:
    """Results as they were found, unchecked.

    :param values: names and values.
    :param missing: for each metric that was looked for and not found, why.
    :param steps: progressive results by step that were found together with the values.
    :param error: why the values cannot be read; there are none then.
    """

    values: Mapping[str, Any]
    missing: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[float, Mapping[str, Any]] | None = None
    error: InvalidResultError | None = None

    def check(self, required: Collection[str]) -> None:
        """Raise why there is no usable result at all, or why a required metric was not found.

        :raises InvalidResultError: with the reason.
        """
        if self.error is not None:
            raise self.error
        found = reports.names_in(self.values)
        reasons = [f"metric {name!r}: {self.missing[name]}" for name in required if name in self.missing]
        if reasons:
            raise InvalidResultError(
                f"{'; '.join(reasons)}. The app reported: {', '.join(found) or 'nothing'}.",
                fix="correct metrics, or let the program write what they look for before it exits.",
            )


@dataclass(frozen=True)
class ResultRules:
    """What an experiment says of the results of its trials.

    :param spec: its definition.
    :param metrics: where metrics are read besides the tracker, as it was recorded with the app.
    """

    spec: ExperimentSpec
    metrics: Mapping[str, MetricSource] = field(default_factory=dict)

    @classmethod
    def of(cls, store: ExperimentStore, experiment: str) -> Self:
        """Read them."""
        return cls.from_json(store.spec(experiment), store.app(experiment))

    @classmethod
    def from_json(cls, spec: dict[str, Any], app: dict[str, Any] | None) -> Self:
        """Return them, given what is recorded of the experiment."""
        return cls(ExperimentSpec.from_store(spec), load_metrics((app or {}).get("metrics")))


def outage_seconds(attempt: AttemptRecord) -> float:
    """Return for how long the results of an attempt must have been unreadable before its trial is FAILED for it.

    An object store is busy or out of reach for minutes at times. What a file system refuses, the app itself has most
    likely made unreadable, and it stays so.
    """
    return OUTAGE_SECONDS if is_object_store(attempt.tracker_base) else 0.0


def given_results(given: object, outcome: dict[str, Any]) -> Reading:
    """Return results that a task was given: as they are, or by a callable that gets the outcome."""
    if callable(given):
        return Reading(as_object("results", given(outcome)))
    # They may be templated, and a template gives text.
    return Reading(reports.with_numbers(as_object("results", given)))


def read_results(attempt: AttemptRecord, rules: ResultRules, until: float) -> Reading:
    """Read the results of an app that has succeeded.

    :param until: when "nothing is there" becomes final, in seconds since the epoch.
    :raises ResultsPendingError: nothing, or not every required metric, is there yet.
    :raises TrackerUnavailableError: tracker or files cannot be read just now.
    :raises SchedulerUnavailableError: the output cannot be read just now.
    """
    from airflow_provider_axtx.launcher import tracker

    metrics, required = rules.metrics, rules.spec.required_metrics
    try:
        written = tracker.read_results(attempt.tracker_base, attempt.trial_index)
    except InvalidResultError as error:
        return Reading({}, error=error)
    if written is None and not metrics:
        return _nothing(attempt, until)
    reported = reports.names_in(written or {})
    wanted = {n: source for n, source in metrics.items() if n not in reported or source.has_steps}
    measured = _measure(attempt, wanted, may_be_cut=False)
    values = {name: value for name, value in measured.values.items() if name not in reported}
    missing = {name: reason for name, reason in measured.missing.items() if name not in reported}
    if set(missing) & set(required) and time.time() < until:
        raise ResultsPendingError(f"The results of {attempt} are not complete yet.", fix="read them again in a moment.")
    for name, reason in missing.items():
        log.warning("Trial %s has no metric %r: %s", attempt.trial_index, name, reason)
    return Reading({**values, **(written or {})}, missing, measured.steps)


def _nothing(attempt: AttemptRecord, until: float) -> Reading:
    message = (
        f"The app succeeded but reported nothing for trial {attempt.trial_index} under {attempt.tracker_base} "
        f"within {RESULT_PATIENCE_SECONDS:g} s of its end."
    )
    fix = "let the app write FsspecResultTracker(tracker_base)[trial_idx] = {metric: value} before it exits."
    if time.time() < until:
        raise ResultsPendingError(message, fix=fix)
    return Reading({}, error=InvalidResultError(message, fix=fix))


def new_steps(
    store: ExperimentStore,
    attempt: AttemptRecord,
    rules: ResultRules,
    read: Reading | None = None,
    *,
    has_ended: bool = False,
) -> list[Observation]:
    """Return the progressive results of an attempt that are not recorded yet: each metric at each step.

    Entries that are not finite numbers are left out.

    :param read: the results of an app that has succeeded, so that steps read together with them are not read again;
        None while the app runs, and when it has ended otherwise.
    :param has_ended: whether the app has ended, so that this is the last call.
    :raises TrackerUnavailableError: they cannot be read just now.
    :raises SchedulerUnavailableError: the output cannot be read just now.
    """
    from airflow_provider_axtx.launcher.tracker import list_steps, read_progress

    if read is not None and read.steps is not None:
        measured = read.steps
    else:
        curves = {n: source for n, source in rules.metrics.items() if source.has_steps}
        measured = _measure(attempt, curves, may_be_cut=read is None).steps
    if not measured and not list_steps(attempt.tracker_base, attempt.trial_index):
        return []
    observed = store.observations(attempt.experiment, attempt.trial_index)
    recorded = {(one.metric, one.step) for one in observed if one.step is not None}
    known = _tracked_steps(recorded, measured, has_ended=has_ended or read is not None)
    found: dict[float, Mapping[str, Any]] = dict(read_progress(attempt.tracker_base, attempt.trial_index, known))
    for step, values in measured.items():
        if new := {name: value for name, value in values.items() if (name, step) not in recorded}:
            found[step] = {**new, **found.get(step, {})}
    return [
        Observation(attempt.trial_index, name, mean, sem, step)
        for step, reported in sorted(found.items())
        for name, (mean, sem) in reports.read(reported, required=()).items()
        if (name, step) not in recorded
    ]


def _tracked_steps(
    recorded: Iterable[tuple[str, float]], measured: Mapping[float, Mapping[str, Any]], *, has_ended: bool
) -> set[float]:
    """Return the steps whose tracker files need not be read again.

    :param recorded: each metric and step that is recorded.
    :param measured: what the experiment's ``metrics`` give.
    """
    at_step: dict[float, set[str]] = {}
    for metric, step in recorded:
        at_step.setdefault(step, set()).add(metric)
    # Another metric than those that are measured has come from the tracker.
    tracked = {step for step, names in at_step.items() if not names <= measured.get(step, {}).keys()}
    # Of the others, the app may have written the file after the step was recorded.
    unsure = sorted(at_step.keys() - tracked)
    again = set(unsure if has_ended else unsure[-MOST_READ_AGAIN:])
    if tracked:
        # The app may report the metrics of its latest step one after the other.
        again.add(max(tracked))
    return at_step.keys() - again


def curve_metrics(store: ExperimentStore, experiment: str) -> dict[str, Any]:
    """Return the recorded sources of an experiment's metrics that may give a curve, as plain JSON."""
    recorded = (store.app(experiment) or {}).get("metrics") or {}
    return {name: recorded[name] for name, source in load_metrics(recorded).items() if source.has_steps}


def curve_source(attempt: AttemptRecord, metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return where the steps of an attempt are read besides its tracker, as plain JSON; None where nothing is.

    It is what ``launcher.metric_reader.count_steps`` takes.

    :param metrics: what ``curve_metrics`` returned.
    """
    if not metrics:
        return None
    return {
        "experiment": attempt.experiment,
        "scheduler": attempt.scheduler,
        "lookup_options": attempt.lookup_options,
        "app_handle": attempt.app_handle,
        "submission_key": attempt.submission_key,
        "metrics": dict(metrics),
    }


def _measure(attempt: AttemptRecord, metrics: Mapping[str, MetricSource], *, may_be_cut: bool) -> Measured:
    if not metrics:
        return Measured()
    # It imports TorchX, which a task that completes a trial otherwise does not need.
    from airflow_provider_axtx.launcher.metric_reader import MeasuredApp, read_metrics

    return read_metrics(MeasuredApp.of(attempt), metrics, may_be_cut=may_be_cut)
