"""``@task.ax_optimize``: functions that are tuned, on real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.decorators import AxOptimizeFunctionOperator, Choice, Range, Report, tuned
from airflow_provider_axtx.operators.ax import (
    AxCreateExperimentOperator,
    AxGenerateTrialOperator,
    AxGenerateTrialsOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import Execute, FakeTaskInstance


def train(
    x: Annotated[float, Range(-5.0, 5.0)],
    kind: Annotated[str, Choice("$a", "b")],
    report: Report,
    shift: float = 0.0,
) -> dict[str, float]:
    """Return a parabola; "{{ this }}" and $HOME are no templates."""
    import os

    loss = (x - shift) ** 2
    for epoch in range(3):
        report(step=epoch, loss=loss + 3 - epoch)
    print(f"{kind} in process {os.getpid()}: ${{HOME}}")
    return {"loss": loss, "process": os.getpid()}


def with_class(x: Annotated[float, Range(-5.0, 5.0)]) -> float:
    from dataclasses import dataclass

    @dataclass
    class Config:
        x: float

    return Config(x).x ** 2


def with_options(x: Annotated[float, Range(-5.0, 5.0)], **options: float) -> float:
    return x**2 + options["shift"]


def number(x: Annotated[float, Range(-5.0, 5.0)]) -> float:
    return x**2


def reports_only(x: Annotated[float, Range(-5.0, 5.0)], report: Report) -> None:
    report(step=1, loss=2.0 + x)
    report(step=2, loss=1.0 + x)


def text(x: Annotated[float, Range(-5.0, 5.0)]) -> str:
    return f"{x} is good"


def operator(function: Callable[..., Any], *args: Any, **given: Any) -> Any:
    """Return the operator that a call of the decorated function makes in a DAG."""
    call = given.pop("call", {})
    given = {"max_trials": 2, "parallelism": given.get("max_trials", 2), **given}
    with DAG("tuning", schedule=None):
        decorated = task.ax_optimize(**{"objective": "-loss", "name": "tuned", "poll_interval": 0.05, **given})(
            function
        )
        result = decorated(*args, **call)
    return result.operator


def test_a_function_is_tuned_in_processes_of_its_own(execute: Execute, store: ExperimentStore) -> None:
    result = execute(operator(train, call={"shift": 1.5}))
    assert result["trials"] == {"COMPLETED": 2}
    for trial in store.trials("tuned"):
        values = {(o.metric, o.step): o.mean for o in store.observations("tuned", trial.index)}
        loss = (trial.parameters["x"] - 1.5) ** 2
        assert values["loss", None] == pytest.approx(loss)
        assert [values["loss", step] for step in range(3)] == pytest.approx([loss + 3, loss + 2, loss + 1])
    processes = {o.mean for index in (0, 1) for o in store.observations("tuned", index) if o.metric == "process"}
    assert len(processes) == 2


def test_a_function_may_define_a_dataclass(execute: Execute, store: ExperimentStore) -> None:
    assert execute(operator(with_class, max_trials=1))["trials"] == {"COMPLETED": 1}


def test_further_arguments_of_a_call_arrive_by_their_names(execute: Execute, store: ExperimentStore) -> None:
    result = execute(operator(with_options, max_trials=1, call={"shift": 100.0}))
    assert result["best"]["metrics"]["loss"]["mean"] >= 100.0


def by_position(x: Annotated[float, Range(-5.0, 5.0)], /) -> float:
    return x


def without_names(x: Annotated[float, Range(-5.0, 5.0)], *rest: float) -> float:
    return x


@pytest.mark.parametrize(
    ("function", "arguments", "said"),
    [(by_position, (), "can only be passed by position"), (without_names, (1.0, 2.0), "which have no names")],
)
def test_what_an_app_cannot_pass_by_name_is_refused(
    function: Callable[..., Any], arguments: tuple[float, ...], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        operator(function, *arguments)


@pytest.mark.parametrize(("function", "metric"), [(number, 0.0), (reports_only, 1.0)])
def test_a_number_or_the_last_report_is_the_result(
    execute: Execute, store: ExperimentStore, function: Any, metric: float
) -> None:
    assert execute(operator(function, max_trials=1))["trials"] == {"COMPLETED": 1}
    (final,) = [o.mean for o in store.observations("tuned", 0) if o.step is None]
    assert final == pytest.approx(metric)


def test_a_result_that_is_no_number_fails_the_trial(execute: Execute, store: ExperimentStore) -> None:
    with pytest.raises(AirflowFailException, match="No trial of experiment 'tuned' has succeeded"):
        execute(operator(text, max_trials=1))
    assert "is not a finite number" in str(store.trial("tuned", 0).reason)


def test_a_function_is_imported_by_reference(execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_training.py").write_text(
        "from typing import Annotated\n"
        "from airflow_provider_axtx.core.search_space import Range\n"
        "OFFSET = 2.0\n"
        "def train(x: Annotated[float, Range(0.0, 1.0)]) -> float:\n"
        "    return x + OFFSET\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_training  # type: ignore[import-not-found]

    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    found = operator(my_training.train, by_reference=True, max_trials=1, component_args={"env": environment})
    assert execute(found)["best"]["metrics"]["loss"]["mean"] >= 2.0
    with pytest.raises(InvalidInputError, match="it uses OFFSET from outside"):
        operator(my_training.train)


def test_what_the_dag_holds_is_stable_and_no_template() -> None:
    first, second = (operator(train, name=None) for _ in range(2))
    assert first.component_args == second.component_args
    assert isinstance(first, AxOptimizeFunctionOperator)
    assert (first.task_id, first.component) == ("train", "axtx.function")


def run_instance(made: Any, dag: DAG, map_index: int | None) -> Any:
    """Render and execute an operator as one instance of its task in the DAG run ``first``."""
    instance = FakeTaskInstance(made.task_id, dag_id=dag.dag_id, run_id="first", map_index=map_index)
    context: Any = {"ti": instance, "run_id": "first", "dag": dag, "task": made}
    made.render_template_fields(context)
    with set_current_context(context):
        return made.execute(context)


def test_mapped_instances_without_a_name_have_experiments_of_their_own(store: ExperimentStore) -> None:
    """They run with other constants, which the experiment of another instance would refuse."""
    with DAG("tuning", schedule=None) as dag:
        task.ax_optimize(objective="-loss", max_trials=1, poll_interval=0.05)(train).expand(shift=[1.0, 2.0])
    mapped = dag.get_task("train")
    for index, shift in enumerate((1.0, 2.0)):
        result = run_instance(mapped.unmap({"op_kwargs": {"shift": shift}}), dag, index)
        assert (result["experiment"], result["trials"]) == (f"tuning-train-first-{index}", {"COMPLETED": 1})
    assert {line.name for line in store.summaries()} == {"tuning-train-first-0", "tuning-train-first-1"}


@pytest.mark.parametrize("map_index", [-1, None])
def test_a_task_that_is_not_mapped_names_its_experiment_after_the_dag_run(map_index: int | None) -> None:
    found = operator(number, name=None, max_trials=1)
    assert run_instance(found, found.dag, map_index)["experiment"] == "tuning-number-first"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"call": {"nosuch": 1}}, "nosuch"),
        ({"objective": "min:loss"}, "write '-loss'"),
        ({"component_args": {"function": "x"}}, "must not hold function"),
        ({"component_args": {"cpus": 2}}, "did you mean cpu?"),
    ],
)
def test_mistakes_show_when_the_dag_is_parsed(given: dict[str, Any], said: str) -> None:
    with pytest.raises((InvalidInputError, TypeError)) as raised:
        operator(train, **given)
    assert said in str(raised.value)


def test_single_tasks_and_the_loop_take_the_same_function(execute: Execute, store: ExperimentStore) -> None:
    arguments = tuned(train, objective="-loss", name="tuned", constants={"shift": 1.0})
    with DAG("looping", schedule=None) as dag:
        ax_trial_loop("tune", rounds=2, **arguments)
    assert "tune.round_1.run" in dag.task_ids
    app = {name: arguments[name] for name in ("component", "component_args")}
    execute(AxCreateExperimentOperator(task_id="create", experiment=arguments["experiment"], **app))
    trial = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="tuned"))
    outcome = execute(TorchXRunTrialOperator(task_id="run", trial=trial, complete=True, poke_interval=0.05, **app))
    assert outcome["metrics"]["loss"]["mean"] == pytest.approx((trial["parameters"]["x"] - 1.0) ** 2)


def one_trial(function: Callable[..., Any], **given: Any) -> Any:
    return task.ax_trial(**{"poke_interval": 0.05, **given})(function)


@pytest.mark.parametrize(
    ("function", "given", "call", "loss"),
    [
        (train, {}, {"shift": 1.0}, lambda x: (x - 1.0) ** 2),
        (number, {"objective": "-loss"}, {}, lambda x: x**2),
    ],
)
def test_a_call_of_a_function_is_one_trial(
    execute: Execute, store: ExperimentStore, function: Any, given: Any, call: Any, loss: Callable[[float], float]
) -> None:
    definition = tuned(function, objective="-loss", name="tuned")["experiment"]
    execute(AxCreateExperimentOperator(task_id="create", experiment=definition))
    trial = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="tuned"))
    with DAG("single", schedule=None):
        called = one_trial(function, **given)(trial, **call)
    outcome = execute(called.operator)
    assert outcome["metrics"]["loss"]["mean"] == pytest.approx(loss(trial["parameters"]["x"]))
    assert store.trial("tuned", 0).status == "COMPLETED"


def test_a_function_is_mapped_over_trials() -> None:
    with DAG("mapped", schedule=None) as dag:
        generate = AxGenerateTrialsOperator(task_id="generate", experiment_name="tuned", n=2)
        one_trial(train).partial(shift=1.0).expand(trial=generate.output)
    mapped = dag.get_task("train")
    assert mapped.upstream_task_ids == {"generate"}
    trial = {"experiment": "tuned", "trial_index": 1, "arm_name": "1_0", "parameters": {"x": 1.0, "kind": "b"}}
    instance = mapped.unmap({"op_kwargs": {"trial": trial}})
    assert (instance.trial, instance.component_args["constants"], instance.complete) == (trial, {"shift": 1.0}, True)


def test_a_loop_takes_a_function_with_its_search_space_and_objective() -> None:
    function = task.ax_trial(objective="-loss", component_args={"cpu": 2})(train).partial(shift=1.0)
    with DAG("looping", schedule=None) as dag:
        ax_trial_loop("tune", {"name": "tuned"}, function, rounds=1, component_args={"gpu": 1})
    create, run = dag.get_task("tune.create"), dag.get_task("tune.round_0.run")
    assert create.experiment == tuned(train, objective="-loss", name="tuned", constants={"shift": 1.0})["experiment"]
    given = run.component_args
    assert (given["cpu"], given["gpu"], given["constants"]) == (2, 1, {"shift": 1.0})
    assert (run.component, create.component_args) == ("axtx.function", given)


@task.ax_trial(scheduler="slurm")
def elsewhere(x: Annotated[float, Range(0.0, 1.0)]) -> float:
    return x


@task
def ordinary(x: float) -> float:
    return x


def of_a_trial(trial: float) -> float:
    return trial


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        (lambda: ax_trial_loop("tune", {"name": "a"}, elsewhere), "its decorator has scheduler"),
        (lambda: ax_trial_loop("tune", {"name": "a"}, ordinary), "its decorator is not @task.ax_trial"),
        (lambda: one_trial(of_a_trial), "has a parameter named trial"),
        (lambda: one_trial(train)(), "missing a required argument: 'trial'"),
        (lambda: one_trial(train)({}, nosuch=1), "nosuch"),
        (lambda: one_trial(train, component_args={"report": "x"})({}), "must not hold report"),
    ],
)
def test_a_function_that_is_no_trial_shows_when_the_dag_is_parsed(wire: Callable[[], Any], said: str) -> None:
    with DAG("wrong", schedule=None), pytest.raises((InvalidInputError, TypeError)) as raised:
        wire()
    assert said in str(raised.value)
