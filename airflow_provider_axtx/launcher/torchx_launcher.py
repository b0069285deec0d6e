"""Apps on a TorchX scheduler: plan, submit, find, observe, cancel, logs. The only user of TorchX's Runner.

Only clients are kept between calls. Any process on any machine can call each method for an app that another process
submitted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from torchx.specs import AppDef, AppDryRunInfo, make_app_handle, parse_app_handle
from torchx.specs.api import MalformedAppHandleException

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import AxtxError, InvalidInputError
from airflow_provider_axtx.core.failpoints import crash_point
from airflow_provider_axtx.core.keys import checkpoint_dir_for
from airflow_provider_axtx.core.records import ParameterValue
from airflow_provider_axtx.launcher import kubernetes, lookup, slurm
from airflow_provider_axtx.launcher.checkpoints import set_variables
from airflow_provider_axtx.launcher.components import Component, check_component, load_component
from airflow_provider_axtx.launcher.log_sources import LogSource
from airflow_provider_axtx.launcher.logs import LogFollower, last_lines
from airflow_provider_axtx.launcher.lookup import SchedulerFactory
from airflow_provider_axtx.launcher.observers.base import Observer, until_now
from airflow_provider_axtx.launcher.observers.docker import DockerObserver, complete_request
from airflow_provider_axtx.launcher.observers.kubernetes import KubernetesMCADObserver, KubernetesObserver
from airflow_provider_axtx.launcher.observers.local import LocalDetachedObserver
from airflow_provider_axtx.launcher.observers.slurm import SlurmObserver
from airflow_provider_axtx.launcher.plan import SubmissionPlan, add_variables, address_for_app, make_plan
from airflow_provider_axtx.launcher.scheduler_registry import (
    BAD_APP,
    LOCAL_DETACHED,
    Schedulers,
    check_options,
    describe_error,
    missing_package,
    scheduler_errors,
    schedulers_of_process,
)

_OBSERVERS: dict[str, type[Observer]] = {
    LOCAL_DETACHED: LocalDetachedObserver,
    "slurm": SlurmObserver,
    "local_docker": DockerObserver,
    "kubernetes": KubernetesObserver,
    "kubernetes_mcad": KubernetesMCADObserver,
}

#: HTTP statuses with which Kubernetes rejects the content of a job: a retry would be rejected too.
_REFUSED = (400, 422)

#: Schedulers to which several threads may submit: a folder of its own for each app, a command of its own for each job.
_SUBMISSIONS_AT_ONCE = {LOCAL_DETACHED: 16, "slurm": 8}

#: Schedulers without a web page for an app: asking them for one would be a wasted call.
_WITHOUT_PAGES = (LOCAL_DETACHED, "local_docker", "slurm", "kubernetes")


class TorchXLauncher:
    """One TorchX scheduler with its options.

    :param scheduler: ``local_detached`` or the name of a TorchX scheduler.
    :param scheduler_args: its options, as TorchX's ``cfg``. Slurm: ``job_dir`` is the shared folder under which each
        app gets a folder of its own.
    :param allowed_components: patterns that component references must match; None allows all.
    :param allowed_schedulers: names of the schedulers that may be used; None allows all.
    :param session: TorchX session name, part of the app handle.
    :param scheduler_factories: further TorchX schedulers by name, for embedding and tests.
    :param recorded: what ``lookup_options`` returned when apps were submitted. The launcher then reaches those apps and
        needs no option, but cannot submit; see ``for_attempt``.
    :raises InvalidInputError: unknown, refused or not allowed scheduler, a missing package, options that do not fit.
    """

    def __init__(
        self,
        scheduler: str,
        *,
        scheduler_args: Mapping[str, Any] | None = None,
        allowed_components: Sequence[str] | None = None,
        allowed_schedulers: Sequence[str] | None = None,
        session: str = "torchx",
        scheduler_factories: Mapping[str, SchedulerFactory] | None = None,
        recorded: Mapping[str, Any] | None = None,
    ) -> None:
        if not re.fullmatch(r"[\w.-]+", session):
            raise InvalidInputError(f"session {session!r} cannot be part of an app handle.", fix="letters and digits.")
        self._schedulers = (
            Schedulers(session, scheduler_factories)
            if scheduler_factories
            else schedulers_of_process(session, scheduler, recorded)
        )
        allowed = None if allowed_schedulers is None else list(allowed_schedulers)
        self.scheduler = self._schedulers.check_name(scheduler, allowed)
        self.mlflow_tracking_uri: str | None = None  # where each app gets a run
        self._session = session
        self._allowed_components = allowed_components
        client = self._schedulers.get(self.scheduler)
        self._recorded = None if recorded is None else dict(recorded)
        with self._scheduler_errors("list its options"):
            self._options = check_options(self.scheduler, client, scheduler_args) if recorded is None else {}
        reached_by = self._options if self._recorded is None else self._recorded
        self._observer = _OBSERVERS.get(self.scheduler, Observer)(self.scheduler, client, reached_by)

    @classmethod
    def for_attempt(
        cls,
        scheduler: str,
        lookup_options: Mapping[str, Any] | None,
        *,
        session: str = "torchx",
        scheduler_factories: Mapping[str, SchedulerFactory] | None = None,
    ) -> Self:
        """Return a launcher that finds, observes, cancels and reads the apps of a recorded attempt.

        It needs no option that only a submission needs, and cannot submit.

        :param scheduler: the attempt's scheduler.
        :param lookup_options: what ``lookup_options`` returned when it was submitted; None when nothing was recorded.
            Names that this version does not know are ignored.
        :raises InvalidInputError: unknown scheduler, or a missing package.
        """
        return cls(scheduler, session=session, scheduler_factories=scheduler_factories, recorded=lookup_options or {})

    def lookup_options(self) -> dict[str, Any]:
        """Return what another process needs to reach the apps that this launcher submits: a JSON object, no secrets.

        :raises SchedulerUnavailableError: ``local_detached`` cannot write its folder.
        """
        if self._recorded is not None:
            return dict(self._recorded)
        with self._scheduler_errors("locate its apps"):
            return lookup.lookup_options(self.scheduler, self._schedulers.get(self.scheduler), self._options)

    @property
    def host(self) -> str | None:
        """The host whose processes the apps are (``local_detached``, a local Docker engine); None for a cluster."""
        return lookup.host_of(self.lookup_options())

    @property
    def submissions_at_once(self) -> int:
        """How many apps may be submitted at the same time, by threads of one process."""
        return _SUBMISSIONS_AT_ONCE.get(self.scheduler, 1)

    @property
    def refuses_duplicates(self) -> bool:
        """Whether the scheduler itself refuses a second app under the same submission key."""
        return self.scheduler == LOCAL_DETACHED

    def check(
        self,
        component: str | Callable[..., AppDef] | Component,
        parameter_types: Mapping[str, str],
        component_args: Mapping[str, object] | None = None,
    ) -> None:
        """Check that an experiment fits a component, before any trial has values. Builds nothing.

        :param parameter_types: name of each experiment parameter and its type: ``float``, ``int``, ``str``, ``bool``.
        :raises InvalidInputError: no such component, not allowed, or it does not fit.
        """
        check_component(component, parameter_types, component_args, self._allowed_components)

    def plan(
        self,
        component: str | Callable[..., AppDef] | Component,
        parameters: Mapping[str, ParameterValue],
        component_args: Mapping[str, object] | None = None,
        *,
        trial_index: int,
        experiment: str,
        tracker_base: str,
        submission_key: str,
        variables: Mapping[str, str] | None = None,
    ) -> SubmissionPlan:
        """Build one trial's app and dry-run its submission: everything that can fail without a scheduler fails here.

        :param component: a reference or function, see ``components.load_component``.
        :param parameters: the trial's parameterization.
        :param component_args: the constant arguments.
        :param trial_index: index of the trial.
        :param experiment: name of the experiment.
        :param tracker_base: absolute path or URL under which the app reports; each attempt has its own.
        :param submission_key: the unique name under which it is submitted.
        :param variables: environment variables for every role, unless the component sets them itself.
        :return: what ``submit`` takes, once.
        :raises InvalidInputError: component, parameters, options or AppDef cannot be used.
        :raises SchedulerUnavailableError: the scheduler was needed for the dry run and did not answer.
        """
        self._check_may_submit()
        tracker_base = address_for_app(tracker_base)
        loaded = load_component(component, self._allowed_components)
        checkpoint_dir = checkpoint_dir_for(tracker_base, submission_key)
        app = loaded.build(
            parameters,
            component_args,
            trial_index=trial_index,
            experiment=experiment,
            tracker_base=tracker_base,
            checkpoint_dir=checkpoint_dir,
        )
        app.name = submission_key
        set_variables(app, checkpoint_dir, submission_key, only_plain=self.scheduler == "slurm")
        add_variables(app, variables or {})
        return make_plan(
            loaded.name, app, self.scheduler, submission_key, self._dry_run(loaded.name, app, submission_key)
        )

    def submit(self, plan: SubmissionPlan) -> str:
        """Submit a planned app and return its handle. A plan can be submitted once.

        :return: the TorchX app handle, ``scheduler://session/app_id``.
        :raises InvalidInputError: Kubernetes refuses what is in the job; nothing was submitted.
        :raises DuplicateAppError: ``local_detached`` has an app under this key already.
        :raises SchedulerUnavailableError: the scheduler did not answer, or refused. The app may have been submitted all
            the same: ask ``find``.
        """
        self._check_may_submit()
        crash_point("torchx.before_submit")
        with self._scheduler_errors(f"submit {plan.submission_key}"):
            try:
                handle: str = self._schedulers.runner.schedule(plan.dryrun)
            except Exception as error:
                self._observer.withdraw(plan.dryrun.request)
                if getattr(error, "status", None) in _REFUSED:
                    raise InvalidInputError(
                        f"Scheduler {self.scheduler} refuses {plan.submission_key}: {describe_error(error)}",
                        fix="correct the component's AppDef or scheduler_args.",
                    ) from error
                raise
        crash_point("torchx.after_submit")
        return handle

    def find(self, submission_key: str) -> str | None:
        """Return the handle of the app that was submitted under a key, in any state; None if there is none.

        :raises SchedulerUnavailableError: the scheduler did not answer; then nothing is known.
        """
        with self._scheduler_errors(f"look for {submission_key}"):
            app_id = self._observer.find(submission_key)
        return None if app_id is None else str(make_app_handle(self.scheduler, self._session, app_id))

    def observe(self, handles: Sequence[str]) -> dict[str, AppObservation]:
        """Look at many apps at once.

        :param handles: app handles of this scheduler.
        :return: one observation for each handle. ``UNKNOWN`` means that the scheduler does not know the app:
            ``LostAppPolicy`` decides what follows. PENDING with a message may mean that this app could not be polled.
        :raises SchedulerUnavailableError: the scheduler did not answer; look again later.
        """
        app_ids = {handle: self._parse_app_id(handle) for handle in handles}
        known = sorted({app_id for app_id in app_ids.values() if app_id is not None})
        if not known:
            seen = {}
        else:
            with self._scheduler_errors(f"report the state of {len(known)} app(s)"):
                seen = until_now(self._observer.observe(known))
        foreign = AppObservation("UNKNOWN", f"it is not an app handle of scheduler {self.scheduler}")
        return {handle: foreign if app_id is None else seen[app_id] for handle, app_id in app_ids.items()}

    def await_end(self, handles: Sequence[str], seconds: float) -> None:
        """Return when any of the apps may have ended, after ``seconds`` at the latest."""
        known = [app_id for handle in handles if (app_id := self._parse_app_id(handle)) is not None]
        self._observer.await_end(known, seconds)

    def cancel(self, handle: str) -> None:
        """Ask the scheduler to end an app. Returns when it has taken the request, not when the app has ended.

        Nothing happens if the app was cancelled before, has ended, or is unknown.

        :raises SchedulerUnavailableError: the scheduler did not answer; try again.
        :raises InvalidInputError: not an app handle of this scheduler.
        """
        app_id = self.app_id(handle)
        crash_point("torchx.before_cancel")
        with self._scheduler_errors(f"cancel {app_id}"):
            self._observer.cancel(app_id)
        crash_point("torchx.after_cancel")

    def logs(self, handle: str, *, lines: int = 50, deadline_seconds: float = 10.0) -> list[str]:
        """Return the last lines of what each replica wrote.

        :param lines: number of lines for each replica.
        :param deadline_seconds: seconds after which reading ends.
        :return: lines ``role/replica: text``; a line in brackets where there is none, with the reason.
        :raises InvalidInputError: not an app handle of this scheduler.
        """
        app_id = self.app_id(handle)
        return last_lines(
            lambda: self._observer.observe([app_id])[app_id],
            lambda: self._observer.logs(app_id),
            lines=lines,
            deadline_seconds=deadline_seconds,
        )

    def follow(self, handle: str, given: Mapping[str, int] | None = None) -> LogFollower:
        """Return a reader of an app's output that returns new lines at each call, while the app runs.

        :param given: the positions that another follower has reached (its ``given``).
        :raises InvalidInputError: not an app handle of this scheduler.
        """
        app_id = self.app_id(handle)
        return LogFollower(lambda: self._observer.observe([app_id])[app_id], lambda: self._observer.logs(app_id), given)

    def output(self, handle: str) -> list[LogSource]:
        """Return the logs of an app's replicas, to be read from their beginning.

        :raises OutputLostError: the scheduler does not know the app any more, or has no log of it on this machine.
        :raises SchedulerUnavailableError: the scheduler did not answer.
        """
        with self._scheduler_errors(f"read the output of {handle}"):
            return self._observer.output(self.app_id(handle))

    def remove_files(self, submission_key: str) -> bool:
        """Remove the folder, with the logs, of an ended app of ``local_detached``, or of a Slurm job below ``job_dir``.

        Other schedulers leave none on this machine. The end of the app has to be recorded first.

        :param submission_key: the key under which it was submitted.
        :return: whether nothing of it is left; False when it has not ended.
        :raises SchedulerUnavailableError: its files cannot be reached or removed from this machine.
        """
        with self._scheduler_errors(f"remove the files of {submission_key}"):
            return self._observer.remove_files(submission_key)

    def page_url(self, handle: str) -> str | None:
        """Return the address of the scheduler's own page of an app, or None where it has none.

        :raises SchedulerUnavailableError: the scheduler did not answer.
        :raises InvalidInputError: not an app handle of this scheduler.
        """
        if self.scheduler in _WITHOUT_PAGES:
            return None
        app_id = self.app_id(handle)
        with self._scheduler_errors(f"describe {app_id}"):
            answer = self._schedulers.get(self.scheduler).describe(app_id)
        url = answer.ui_url if answer else None
        # Some name a folder of the machine that they run on.
        return url if url and url.startswith(("http://", "https://")) else None

    def app_id(self, handle: str) -> str:
        """Return the scheduler's id of an app.

        :raises InvalidInputError: not an app handle of this scheduler.
        """
        app_id = self._parse_app_id(handle)
        if app_id is None:
            raise InvalidInputError(
                f"{handle!r} is not an app handle of scheduler {self.scheduler}.",
                fix=f"pass a handle {self.scheduler}://{self._session}/APP_ID, as submit returned it.",
            )
        return app_id

    def _parse_app_id(self, handle: str) -> str | None:
        try:
            parsed = parse_app_handle(handle)
        except MalformedAppHandleException:
            return None
        return parsed.app_id if parsed.scheduler_backend == self.scheduler else None

    def _check_may_submit(self) -> None:
        if self._recorded is not None:
            raise InvalidInputError(
                f"This launcher of scheduler {self.scheduler} was made for a recorded attempt and cannot submit.",
                fix="make one with the scheduler's options: TorchXHook.get_launcher().",
            )

    def _scheduler_errors(self, doing: str) -> Any:
        return scheduler_errors(self.scheduler, doing)

    def _dry_run(self, component: str, app: AppDef, key: str) -> AppDryRunInfo[Any]:
        options = self._options
        is_kubernetes = self.scheduler in ("kubernetes", "kubernetes_mcad")
        if is_kubernetes:
            kubernetes.fit_names(app, key)
        is_slurm = self.scheduler == "slurm"
        if is_slurm:
            options = slurm.checked(app, options)
        with self._scheduler_errors(f"dry-run {key}"):
            try:
                dryrun = self._schedulers.runner.dryrun(app, self.scheduler, cfg=options)
            except ImportError as error:
                raise missing_package(self.scheduler, error) from error
            except AxtxError:
                raise
            except BAD_APP as error:
                raise InvalidInputError(
                    f"Scheduler {self.scheduler} cannot run the app of component {component}: "
                    # TorchX ends its messages about options with all options and their values.
                    f"{type(error).__name__}: {str(error).partition('. Given: ')[0]}",
                    fix="correct the component's AppDef or scheduler_args.",
                ) from error
        if is_slurm:
            slurm.complete_request(dryrun.request, key, self._options)
        elif is_kubernetes:
            kubernetes.label_job(dryrun.request, key)
        elif self.scheduler == "local_docker":
            complete_request(dryrun.request)
        return dryrun
