"""``@task.ax_optimize``: functions that are tuned, on real processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.decorators import AxOptimizeFunctionOperator, Choice, Range, Report, tuned
from airflow_provider_axtx.operators.ax import AxCreateExperimentOperator, AxGenerateTrialOperator
from airflow_provider_axtx.operators.torchx import TorchXRunTrialOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import Execute


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
    assert first.experiment["name"] == "{{ dag.dag_id }}-{{ task.task_id }}-{{ run_id }}"
    assert isinstance(first, AxOptimizeFunctionOperator)
    assert (first.task_id, first.component) == ("train", "axtx.function")


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
    assert "tune.round_1.submit" in dag.task_ids
    app = {name: arguments[name] for name in ("component", "component_args")}
    execute(AxCreateExperimentOperator(task_id="create", experiment=arguments["experiment"], **app))
    trial = execute(AxGenerateTrialOperator(task_id="generate", experiment_name="tuned"))
    outcome = execute(TorchXRunTrialOperator(task_id="run", trial=trial, complete=True, poke_interval=0.05, **app))
    assert outcome["metrics"]["loss"]["mean"] == pytest.approx((trial["parameters"]["x"] - 1.0) ** 2)
