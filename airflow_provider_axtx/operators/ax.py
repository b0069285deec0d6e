"""Operators on the Ax side: create an experiment, generate trials, complete them, get the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException, AirflowSkipException

from airflow_provider_axtx.core.analysis import AnalysisPlan
from airflow_provider_axtx.core.errors import ExperimentPausedError, TrialsPendingError
from airflow_provider_axtx.core.inputs import (
    ComponentRef,
    Templated,
    as_int,
    as_object,
    given_or,
    is_given,
    is_templated,
)
from airflow_provider_axtx.core.ownership import as_dag_ids
from airflow_provider_axtx.core.promotion import refuse_promotion
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.operators._dag_runs import settle_what_ended_dag_runs_left
from airflow_provider_axtx.operators._definition import read_definition
from airflow_provider_axtx.operators._foreign import allowed_component, own_experiment
from airflow_provider_axtx.operators._metrics import generation_timer
from airflow_provider_axtx.operators._steering import reschedule_paused
from airflow_provider_axtx.operators.analyze import AxAnalyzeOperator
from airflow_provider_axtx.operators.attach import AxAttachTrialsOperator
from airflow_provider_axtx.operators.base import (
    BaseAxOperator,
    airflow_errors,
    as_if_exists,
    as_on_change,
    check_experiment_at_parse,
    check_name_at_parse,
    current_identity,
    definition_of,
    uncalled,
)
from airflow_provider_axtx.operators.best import AxBestTrialOperator
from airflow_provider_axtx.operators.body import AxStartTrialOperator
from airflow_provider_axtx.operators.complete import AxCompleteTrialOperator
from airflow_provider_axtx.operators.maintenance import AxCleanupOperator, AxReapOperator
from airflow_provider_axtx.operators.optimize import AxOptimizeOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_axtx.core.records import AttemptRecord
    from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
    from airflow_provider_axtx.lifecycle.generate import Generation
    from airflow_provider_axtx.spec.experiment import ExperimentSpec
    from airflow_provider_axtx.spec.inputs import ExperimentInput

__all__ = [
    "AxAnalyzeOperator",
    "AxAttachTrialsOperator",
    "AxBestTrialOperator",
    "AxCleanupOperator",
    "AxCompleteTrialOperator",
    "AxCreateExperimentOperator",
    "AxGenerateTrialOperator",
    "AxGenerateTrialsOperator",
    "AxOptimizeOperator",
    "AxReapOperator",
    "AxStartTrialOperator",
]


#: Seconds after which a generating task looks again when Ax waits for trials of other tasks.
PENDING_SECONDS = 20.0


class AxCreateExperimentOperator(BaseAxOperator):
    """Puts an experiment into the store.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator

    with DAG("create"):
        AxCreateExperimentOperator(task_id="create", experiment={
            "name": "parabola",
            "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [-10, 10]}],
            "objective": "-loss",
        })
    ```

    :param experiment: an ``ExperimentSpec``, a dict, a JSON string of it (templated), or the path of a YAML or JSON
        file. What is known of it when the DAG is parsed is checked then.
    :param if_exists: ``resume`` goes on with an experiment of the same name; ``fail`` refuses it.
    :param on_change: what happens to an experiment of the same name with another definition: ``refuse`` it, or
        ``update`` it for the trials that follow, as far as Ax can change it (templated).
    :param component: when given, its signature is compared with the experiment's parameters before anything runs.
    :param component_args: the component's constant arguments (templated).
    :param torchx_conn_id: connection whose ``allowed_components`` the component must match.
    :param allowed_components: see ``TorchXSubmitTrialOperator``.
    :param allowed_factories: patterns (``fnmatch``) of what the experiment's ``generation.factory`` may name, for
        example ``["my_pkg.strategies:*"]``; none by default. Not templated: it is code, and only the DAG file may name
        code.
    :param shared_with: patterns (``fnmatch``) of the ids of other DAGs that may resume and read this experiment. It
        belongs to the DAG that creates it; only that DAG's code may share it. Not templated.
    :param ax_conn_id: connection of the experiment store.
    :return: the experiment's name.
    """

    template_fields: Sequence[str] = (
        "experiment",
        "if_exists",
        "on_change",
        "component",
        "component_args",
        "torchx_conn_id",
        "ax_conn_id",
    )
    template_fields_renderers = {"experiment": "json", "component_args": "json"}
    lineage_reads, lineage_writes = False, True

    def __init__(
        self,
        *,
        experiment: ExperimentInput,
        if_exists: str = "resume",
        on_change: str = "refuse",
        component: ComponentRef | None = None,
        component_args: Templated[Mapping[str, Any]] | None = None,
        torchx_conn_id: str = TorchXHook.default_conn_name,
        allowed_factories: Sequence[str] = (),
        allowed_components: Sequence[str] = (),
        shared_with: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.experiment = definition_of(self, experiment)
        self.allowed_factories = tuple(self.of_dag_file("allowed_factories", allowed_factories))
        self.allowed_components = tuple(self.of_dag_file("allowed_components", allowed_components))
        self.shared_with = as_dag_ids("shared_with", self.of_dag_file("shared_with", shared_with))
        self.note_template("component", component)
        self.torchx_conn_id = torchx_conn_id
        self.if_exists = if_exists
        self.on_change = on_change
        self.component = uncalled(component)
        self.component_args = component_args
        check_experiment_at_parse(self.experiment, component, component_args)
        refuse_promotion(self.experiment)
        if not is_templated(if_exists):
            as_if_exists(if_exists)
        if not is_templated(on_change):
            as_on_change(on_change)

    @airflow_errors
    def execute(self, context: Context) -> str:
        """Create the experiment, or find that it is there."""
        from airflow_provider_axtx.lifecycle.generate import create_experiment

        spec = read_definition(self.experiment)
        refuse_promotion(spec)
        if_exists = as_if_exists(self.if_exists)
        if is_given(self.component):
            self._check_component(spec)
        created = create_experiment(
            self.ax_hook.store,
            spec,
            if_exists=if_exists,
            on_change=as_on_change(self.on_change),
            allowed_factories=self.allowed_factories,
            created_by=current_identity(context, self.ax_hook.store, self.torchx_conn_id),
            shared_with=self.shared_with,
        )
        self.note_lineage(spec.name)
        self.log.info("Experiment %r %s.", spec.name, "created" if created else "exists and is resumed")
        return spec.name

    def _check_component(self, spec: ExperimentSpec) -> None:
        from airflow_provider_axtx.launcher.components import load_component

        hook = TorchXHook(self.torchx_conn_id)
        given = allowed_component(self, self.component, self.allowed_components, hook)
        component = load_component(given, hook.settings.allowed_components)
        parameters = {parameter.name: parameter.parameter_type for parameter in spec.parameters}
        component.check(parameters, as_object("component_args", self.component_args))


def _launcher_for(attempt: AttemptRecord) -> TorchXLauncher:
    return TorchXHook(attempt.identity.torchx_conn_id or TorchXHook.default_conn_name).get_launcher_for(attempt)


class _BaseGenerateOperator(BaseAxOperator):
    """Base of the two generating operators.

    :param experiment_name: the experiment (templated).
    :param max_trials: no further trial when the experiment has this many; None is no limit (templated).
    :param analyze: explain the experiment whenever so many further trials have completed; None is never (templated).
    :param allowed_factories: see ``AxCreateExperimentOperator``; what the store holds is checked again.
    :param fixed_parameters: values that some parameters have in these trials, for example ``{"epochs": 100}``; Ax
        chooses the others (templated).
    """

    lineage_writes = True

    def __init__(
        self,
        *,
        experiment_name: Templated[str],
        max_trials: Templated[int] | None = None,
        analyze: Templated[int] | None = None,
        allowed_factories: Sequence[str] = (),
        fixed_parameters: Templated[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_name = experiment_name
        self.max_trials = max_trials
        self.analyze = analyze
        if not is_templated(analyze):
            AnalysisPlan.load(analyze)
        self.fixed_parameters = fixed_parameters
        self.allowed_factories = tuple(self.of_dag_file("allowed_factories", allowed_factories))
        check_name_at_parse("experiment_name", experiment_name)
        if is_given(max_trials) and not is_templated(max_trials):
            as_int("max_trials", max_trials, minimum=1)

    def _generate(self, context: Context, n: int, trials_to_follow: int | None = None) -> Generation:
        """Return trials; while Ax waits for trials of other tasks, Airflow runs this task again later.

        :raises AirflowRescheduleException: when no trial can be proposed before some in flight have ended.
        """
        from airflow_provider_axtx.lifecycle.generate import generate_trials

        store = self.ax_hook.store
        task = current_identity(context, store)
        experiment = own_experiment(self, store, task.dag_id)
        if not store.granted(experiment, task.task_key):
            settle_what_ended_dag_runs_left(store, _launcher_for, experiment, task, context["ti"])
        limit = as_int("max_trials", self.max_trials, minimum=1) if is_given(self.max_trials) else None
        try:
            with generation_timer(self):
                generation = generate_trials(
                    store,
                    experiment,
                    n,
                    task_key=task.task_key,
                    max_trials=limit,
                    trials_to_follow=trials_to_follow,
                    requested_by=task,
                    allowed_factories=self.allowed_factories,
                    fixed_parameters=as_object("fixed_parameters", self.fixed_parameters),
                )
        except ExperimentPausedError as error:
            raise reschedule_paused(self, error) from error
        except TrialsPendingError as error:
            if not store.open_trials(experiment=experiment):
                raise
            self.log.info("%s This task looks again in %s s.", error.message, PENDING_SECONDS)
            raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=PENDING_SECONDS)) from error
        self._explain_if_due(experiment)
        self.note_lineage(experiment, [trial.to_json() for trial in generation.trials])
        for trial in generation.trials:
            self.log.info("Trial %s (%s): %s", trial.trial_index, trial.arm_name, trial.parameters)
        if generation.finished:
            self.log.info("Experiment %r is finished: %s", experiment, generation.finished)
        elif len(generation.trials) < n:
            self.log.warning("Only %s of %s trials: %s", len(generation.trials), n, generation.pending)
        return generation

    def _explain_if_due(self, experiment: str) -> None:
        from airflow_provider_axtx.lifecycle.explain import explain_if_due

        store, plan = self.ax_hook.store, AnalysisPlan.load(self.analyze)
        explain_if_due(store, experiment, plan, store.steering(experiment), allowed_factories=self.allowed_factories)


class AxGenerateTrialsOperator(_BaseGenerateOperator):
    """Generates trials; a retry of the task gets the same ones again.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxGenerateTrialsOperator
    from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator

    with DAG("generate_four"):
        generate = AxGenerateTrialsOperator(task_id="generate", experiment_name="my-experiment", n=4)
        run = TorchXRunTrialOperator.partial(task_id="run", component="utils.booth", complete=True)
        run.expand(trial=generate.output)
    ```

    :param experiment_name: the experiment (templated).
    :param n: number of trials (templated).
    :param max_trials: no further trial when the experiment has this many; None is no limit (templated).
    :param analyze: explain the experiment whenever so many further trials have completed; None is never (templated).
    :param round_number: number of this round in an unrolled loop, from 0.
    :param rounds: how many rounds this DAG run asks for (templated); a round beyond it generates nothing.
    :param allowed_factories: see ``AxCreateExperimentOperator``; what the store holds is checked again.
    :param fixed_parameters: values that some parameters have in these trials, for example ``{"epochs": 100}``; Ax
        chooses the others (templated).
    :param ax_conn_id: connection of the experiment store.
    :return: a list of trials, ready for ``expand(trial=...)``; empty when the experiment is finished.
    """

    template_fields: Sequence[str] = (
        "experiment_name",
        "n",
        "max_trials",
        "analyze",
        "rounds",
        "fixed_parameters",
        "ax_conn_id",
    )
    template_fields_renderers = {"fixed_parameters": "json"}

    def __init__(
        self, *, n: Templated[int] = 1, round_number: int = 0, rounds: Templated[int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.n = n
        self.round_number = round_number
        self.rounds = rounds
        if not is_templated(n):
            as_int("n", given_or(1, n), minimum=1)

    @airflow_errors
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Generate the trials, or return those that this task was granted before."""
        rounds = as_int("rounds", self.rounds, minimum=1) if is_given(self.rounds) else None
        if rounds is not None and self.round_number >= rounds:
            self.log.info("This DAG run asks for %s rounds: no trial in round %s.", rounds, self.round_number)
            return []
        n = as_int("n", given_or(1, self.n), minimum=1)
        to_follow = None if rounds is None else n * (rounds - self.round_number - 1)
        return [trial.to_json() for trial in self._generate(context, n, to_follow).trials]


class AxGenerateTrialOperator(_BaseGenerateOperator):
    """Generates one trial, and skips the rest of its chain when the experiment is finished.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxGenerateTrialOperator
    from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator

    with DAG("generate_one"):
        generate = AxGenerateTrialOperator(task_id="generate", experiment_name="my-experiment", max_trials=20)
        TorchXRunTrialOperator(task_id="run", trial=generate.output, component="utils.booth", complete=True)
    ```

    :param experiment_name: the experiment (templated).
    :param max_trials: no further trial when the experiment has this many; None is no limit (templated).
    :param analyze: explain the experiment whenever so many further trials have completed; None is never (templated).
    :param allowed_factories: see ``AxCreateExperimentOperator``; what the store holds is checked again.
    :param fixed_parameters: values that some parameters have in these trials, for example ``{"epochs": 100}``; Ax
        chooses the others (templated).
    :param ax_conn_id: connection of the experiment store.
    :return: the trial.
    """

    template_fields: Sequence[str] = ("experiment_name", "max_trials", "analyze", "fixed_parameters", "ax_conn_id")
    template_fields_renderers = {"fixed_parameters": "json"}

    @airflow_errors
    def execute(self, context: Context) -> dict[str, Any]:
        """Generate the trial, or return the one that this task was granted before."""
        generation = self._generate(context, 1)
        if not generation.trials:
            raise AirflowSkipException(f"Experiment {self.experiment_name!r} is finished: {generation.finished}")
        return generation.trials[0].to_json()
