"""Task groups that wire the operators into loops."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator, TaskGroup, TriggerRule, XComArg, conf, task_group

from airflow_provider_axtx.core.analysis import AnalysisPlan
from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import (
    DEFAULT_INTERVAL,
    ComponentRef,
    Templated,
    as_int,
    as_interval,
    is_templated,
    shorten,
)
from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.hooks.torchx import TorchXHook
from airflow_provider_axtx.operators._loop import AxCreateLoopExperimentOperator, check_rounds, check_trials_per_round
from airflow_provider_axtx.operators.ax import (
    AxAnalyzeOperator,
    AxCompleteTrialOperator,
    AxGenerateTrialsOperator,
    AxStartTrialOperator,
)
from airflow_provider_axtx.operators.functions import loop_of_function
from airflow_provider_axtx.operators.torchx import (
    TorchXReapTrialsOperator,
    TorchXRunTrialOperator,
    TorchXSubmitTrialOperator,
)
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor

if TYPE_CHECKING:
    from airflow_provider_axtx.lifecycle.complete import Results
    from airflow_provider_axtx.spec.inputs import ExperimentInput

_RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=10)}


def ax_trial_loop(
    group_id: str,
    experiment: ExperimentInput,
    component: ComponentRef | None = None,
    rounds: Templated[int] = 1,
    trials_per_round: Templated[int] = 1,
    component_args: Templated[Mapping[str, Any]] | None = None,
    scheduler: str | None = None,
    scheduler_args: Templated[Mapping[str, Any]] | None = None,
    tracker_base: str | None = None,
    *,
    body: Callable[[XComArg], Any] | None = None,
    max_rounds: int | None = None,
    if_exists: str = "resume",
    on_change: str = "refuse",
    analyze: Templated[int | str] | None = None,
    poke_interval: float | timedelta = DEFAULT_INTERVAL,
    poll_interval: float | timedelta | None = None,
    timeout: float | timedelta = timedelta(days=7),
    deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
    trial_retries: int = 0,
    fused: bool | None = None,
    stream_logs: bool = False,
    results: Results | Templated[Mapping[str, Any]] = None,
    outlets: Sequence[Asset] = (),
    allowed_factories: Sequence[str] = (),
    allowed_components: Sequence[str] = (),
    shared_with: Sequence[str] = (),
    tracker_base_shared: bool = False,
    allow_app_change: bool = False,
    metrics: Mapping[str, Any] | None = None,
    retry_from: str = "checkpoint",
    keep_checkpoints: str = "all",
    default_args: Mapping[str, Any] | None = None,
    ax_conn_id: str = AxHook.default_conn_name,
    torchx_conn_id: str = TorchXHook.default_conn_name,
) -> TaskGroup:
    """Return a task group that tunes: rounds one after the other, the trials of a round in parallel.

    Each round is *generate → run*, where one task for each trial submits its app, waits for its end and completes the
    trial. With ``fused=False`` these are the tasks *submit → wait → complete*, and with ``body`` *start → body →
    complete*. The experiment is created (or resumed) first; a teardown ends whatever the group's tasks leave behind.
    When Ax is finished early, the remaining rounds are skipped. A mapped group cannot hold a loop.

    ```python
    from airflow.sdk import DAG
    from airflow_provider_axtx.operators.ax import AxBestTrialOperator
    from airflow_provider_axtx.task_groups import ax_trial_loop

    X = {"type": "range", "parameter_type": "float", "bounds": [-10, 10]}
    EXPERIMENT = {"name": "booth", "parameters": [{"name": "x1", **X}, {"name": "x2", **X}], "objective": "-booth_eval"}

    with DAG("loop"):
        loop = ax_trial_loop(
            "tune", experiment=EXPERIMENT, component="utils.booth", rounds=5, trials_per_round=4, deferrable=True
        )
        loop >> AxBestTrialOperator(task_id="best", experiment_name=EXPERIMENT["name"])
    ```

    :param group_id: id of the task group.
    :param experiment: the ``ExperimentSpec``, as for ``AxCreateExperimentOperator``.
    :param component: TorchX component, as for ``TorchXSubmitTrialOperator``, or a function with ``@task.ax_trial``,
        whose annotations are the search space of an experiment that names no parameters.
    :param body: in place of a component, a function that wires the tasks that do the work of one trial, for example
        ``lambda trial: BashOperator(task_id="train", bash_command=f"train --lr={trial['lr']}")``. ``trial`` is an
        ``XComArg``: the trial as an object; ``trial["lr"]`` is its parameter ``lr``. What the function returns (an
        operator, its output, or an object of outputs by metric) are the results; without it the tracker counts. The
        function is called once for each round. What concerns an app (``component_args``, ``scheduler``, ``timeout``,
        ``metrics`` ...) does not apply; ``default_args`` does.
    :param rounds: number of rounds; may be a template when ``max_rounds`` is given.
    :param trials_per_round: trials in parallel in each round; may be a template.
    :param component_args: constant arguments of the component.
    :param scheduler: TorchX scheduler; None means the connection's.
    :param scheduler_args: its run options.
    :param tracker_base: see ``TorchXSubmitTrialOperator``.
    :param tracker_base_shared: see ``TorchXSubmitTrialOperator``.
    :param max_rounds: how many rounds are unrolled in the DAG when ``rounds`` is a template. A DAG run that asks for
        more fails before anything is recorded.
    :param if_exists: ``resume`` or ``fail``.
    :param on_change: see ``AxCreateExperimentOperator``.
    :param analyze: when the experiment is explained: ``"end"`` adds a task ``analyze`` behind the last round; with a
        number, or a template that gives one, the generating tasks also do it whenever so many further trials have
        completed. None is never.
    :param poke_interval: seconds between two looks at an app; ``poll_interval`` is the same.
    :param timeout: seconds since its submission after which an app is cancelled.
    :param deferrable: wait in the triggerer.
    :param trial_retries: how often the same parameters are submitted again after an infrastructure failure. When it is
        above 0, one task submits and waits also with ``fused=False``: only it can submit again.
    :param fused: whether one task ``run`` for each trial submits, waits and completes, or three tasks do. A round then
        starts two tasks one after the other instead of four, and is as restartable; its log has a part for each of the
        three steps. None is True, unless ``results`` is a template, which only a task that starts after the end of the
        app can render.
    :param stream_logs: show the apps' output in the log of the tasks that wait for them.
    :param results: see ``AxCompleteTrialOperator``.
    :param outlets: of the completing tasks, see ``AxCompleteTrialOperator``.
    :param allowed_factories: see ``AxCreateExperimentOperator``.
    :param allowed_components: see ``TorchXSubmitTrialOperator``.
    :param shared_with: see ``AxCreateExperimentOperator``.
    :param allow_app_change: see ``TorchXSubmitTrialOperator``.
    :param metrics: where the metrics are read of a program that reports nothing, see ``TorchXSubmitTrialOperator``.
    :param retry_from: see ``TorchXSubmitTrialOperator``.
    :param keep_checkpoints: see ``AxCompleteTrialOperator``.
    :param default_args: of the group's tasks, over those of the groups around it, which win against those of the DAG.
        Without any they have 2 retries after 10 s: each may be repeated at any time, and a worker that dies must not
        end the experiment.
    :raises InvalidInputError: at DAG parse, for what is a literal.
    """
    unrolled = _unrolled(rounds, max_rounds)
    if not is_templated(trials_per_round):
        check_trials_per_round(trials_per_round)
    as_int("trial_retries", trial_retries, minimum=0)
    connections = {"ax_conn_id": ax_conn_id, "torchx_conn_id": torchx_conn_id}
    if getattr(component, "_airflow_is_task_decorator", False):
        of_function = loop_of_function(component, experiment, component_args)
        component, component_args, experiment = (
            of_function[name] for name in ("component", "component_args", "experiment")
        )
    app: dict[str, Any] = {
        "component": component,
        "component_args": component_args,
        "allowed_components": allowed_components,
    }
    submit = {
        **app,
        "scheduler": scheduler,
        "scheduler_args": scheduler_args,
        "tracker_base": tracker_base,
        "tracker_base_shared": tracker_base_shared,
        "allow_app_change": allow_app_change,
        "metrics": metrics,
        "retry_from": retry_from,
    }
    complete = {
        "results": results,
        "outlets": list(outlets),
        "keep_checkpoints": keep_checkpoints,
        "ax_conn_id": ax_conn_id,
    }
    of_apps = {"fused": fused, "trial_retries": trial_retries, "stream_logs": stream_logs, "results": results}
    _check_body(body, {**submit, **of_apps})
    if fused is None:
        fused = not is_templated(results)
    wait = {
        "poke_interval": as_interval("poke_interval", poke_interval, "poll_interval", poll_interval),
        "timeout": timeout,
        "deferrable": deferrable,
        "stream_logs": stream_logs,
        **connections,
    }
    group = TaskGroup(group_id=group_id)
    _check_not_mapped(group)
    # Airflow has given the group those of the groups around it, over which the retries of the loop must not come.
    given = {**(group.dag.default_args if group.dag else {}), **group.default_args, **(default_args or {})}
    group.default_args = {**_RETRIES, **given}
    with group:
        create = AxCreateLoopExperimentOperator(
            task_id="create",
            experiment=experiment,
            rounds=rounds,
            unrolled=unrolled,
            trials_per_round=trials_per_round,
            if_exists=if_exists,
            on_change=on_change,
            allowed_factories=allowed_factories,
            shared_with=shared_with,
            **app,
            **connections,
        )
        reap = TorchXReapTrialsOperator(task_id="reap", fail_with_tasks=True, **connections)
        before: Any = create
        for number in range(unrolled):
            generate = AxGenerateTrialsOperator(
                task_id=f"generate_{number}",
                # Not create.output: it would put every generate directly behind a setup task, where Airflow allows no
                # other trigger rule than ALL_SUCCESS.
                experiment_name=f"{{{{ ti.xcom_pull(task_ids='{create.task_id}') }}}}",
                n=trials_per_round,
                round_number=number,
                rounds=rounds,
                analyze=None if analyze == "end" else analyze,
                allowed_factories=allowed_factories,
                ax_conn_id=ax_conn_id,
                # A round without trials is skipped, and that alone must not skip the rounds after it.
                trigger_rule=TriggerRule.NONE_FAILED if number else TriggerRule.ALL_SUCCESS,
            )
            if body is None:
                trials = _round(number, submit, wait, trial_retries, fused, complete)
            else:
                start = {"tracker_base": tracker_base, "allow_app_change": allow_app_change, **connections}
                trials = _round_of_bodies(number, body, start, complete, given)
            before >> generate
            before = trials.expand(trial=generate.output)
            # Of every round: when one trial of a round fails hard, the others of it are still waited for.
            before >> reap
        if AnalysisPlan.load("end" if is_templated(analyze) else analyze):
            explained = AxAnalyzeOperator(
                task_id="analyze",
                experiment_name=f"{{{{ ti.xcom_pull(task_ids='{create.task_id}') }}}}",
                ax_cards=False,
                allowed_factories=allowed_factories,
                ax_conn_id=ax_conn_id,
                trigger_rule=TriggerRule.NONE_FAILED,
            )
            before >> explained >> reap
        reap.as_teardown(setups=create, on_failure_fail_dagrun=True)
    return group


def _check_not_mapped(group: TaskGroup) -> None:
    """Refuse a loop in a mapped group, whose rounds Airflow would never map: no trial would run.

    :raises InvalidInputError: names both groups.
    """
    for mapped in group.iter_mapped_task_groups():
        raise InvalidInputError(
            f"The loop {group.group_id} is in the mapped group {mapped.group_id}, and Airflow maps no group over the "
            "output of a task in a mapped group.",
            fix="call ax_trial_loop in a Python loop, each time with another group_id, or map AxOptimizeOperator.",
        )


def _unrolled(rounds: Templated[int], max_rounds: int | None) -> int:
    if is_templated(rounds):
        return as_int("max_rounds", max_rounds, minimum=1)
    number = as_int("rounds", rounds, minimum=1)
    if max_rounds is not None:
        check_rounds(number, as_int("max_rounds", max_rounds, minimum=1))
    return number


def _round(
    number: int,
    submit: dict[str, Any],
    wait: dict[str, Any],
    trial_retries: int,
    fused: bool,
    complete: dict[str, Any],
) -> Any:
    @task_group(group_id=f"round_{number}")
    def trial_chain(trial: Any) -> None:
        if fused:
            run_all = {
                **submit,
                **wait,
                "complete": True,
                "results": complete["results"],
                "outlets": complete["outlets"],
                "keep_checkpoints": complete["keep_checkpoints"],
            }
            TorchXRunTrialOperator(task_id="run", trial=trial, trial_retries=trial_retries, **run_all)
            return
        outcome: BaseOperator
        if trial_retries:
            outcome = TorchXRunTrialOperator(task_id="run", trial=trial, trial_retries=trial_retries, **submit, **wait)
        else:
            connections = {name: wait[name] for name in ("ax_conn_id", "torchx_conn_id")}
            run = TorchXSubmitTrialOperator(task_id="submit", trial=trial, **submit, **connections)
            outcome = TorchXTrialSensor(task_id="wait", run=run.output, **wait)
        AxCompleteTrialOperator(task_id="complete", run=outcome.output, **complete)

    return trial_chain


#: What a loop with ``body`` takes besides ``body`` of what concerns a trial.
_OF_BODIES = ("tracker_base", "allow_app_change", "retry_from")


def _check_body(body: object, arguments: Mapping[str, Any]) -> None:
    """Refuse a loop that does not know what its trials do, or knows it twice.

    :param arguments: those that say what an app is and how it runs.
    :raises InvalidInputError: names the arguments.
    """
    if body is None and arguments["component"] is not None:
        return
    given = sorted(name for name, value in arguments.items() if value and name not in _OF_BODIES)
    if body is None or given:
        raise InvalidInputError(
            "ax_trial_loop needs either component or body."
            if body is None
            else f"ax_trial_loop has a body, and {', '.join(given)} only a trial with an app.",
            fix="pass a TorchX component, or body=lambda trial: ..., which wires the tasks of a trial and returns the "
            "output that holds its results.",
        )
    try:
        inspect.signature(body).bind(None)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"body cannot be called with a trial: {error}.", fix="pass a function of one argument."
        ) from error


def _round_of_bodies(
    number: int,
    body: Callable[[XComArg], Any],
    start: dict[str, Any],
    complete: dict[str, Any],
    default_args: Mapping[str, Any],
) -> Any:
    @task_group(group_id=f"round_{number}")
    def trial_chain(trial: Any) -> None:
        started = AxStartTrialOperator(task_id="start", trial=trial, **start)
        tasks = TaskGroup(group_id="body")
        # Not the retries of the loop: whether a task of the body may run twice, only its author knows.
        tasks.default_args = dict(default_args)
        with tasks:
            results = _results_of(_wired(body, started.output), tasks)
        completing = AxCompleteTrialOperator(
            task_id="complete", trial=started.output, **{**complete, "results": results}
        )
        started >> tasks >> completing

    return trial_chain


def _wired(body: Callable[[XComArg], Any], trial: XComArg) -> Any:
    try:
        return body(trial)
    except NotImplementedError as error:
        raise InvalidInputError(
            f"body cannot wire its tasks: {error}.",
            fix="the trials of a round are mapped, and Airflow maps no task within: wire the tasks in a Python loop, "
            "or use AxStartTrialOperator and AxCompleteTrialOperator(trial=...) yourself.",
        ) from error


def _results_of(returned: Any, tasks: TaskGroup) -> Any:
    """Return what a body has returned as the results of its trial: outputs of its own tasks, or None.

    :raises InvalidInputError: it is something else, or the body wires no task.
    """
    ids = {task.task_id for task in tasks.iter_tasks()}
    results = getattr(returned, "output", returned) if not isinstance(returned, TaskGroup) else None
    references = {operator.task_id for operator, _ in XComArg.iter_xcom_references(results)}
    if not ids:
        raise InvalidInputError("body wires no task.", fix="make at least one operator or @task in it.")
    if results is not None and not (references and references <= ids):
        raise InvalidInputError(
            f"body returns {shorten(returned)}, which is not the output of its tasks.",
            fix="return the task that has the results, its output, or an object such as {'loss': train['loss']}.",
        )
    return results
