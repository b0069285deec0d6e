"""DAGs with ``render_template_as_native_obj=True``, rendered by Airflow itself: values keep their types."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_axtx.hooks.ax import AxHook
from airflow_provider_axtx.launcher.components import load_component
from airflow_provider_axtx.operators.attach import AxAttachTrialsOperator
from airflow_provider_axtx.operators.ax import (
    AxBestTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.torchx import TorchXReapTrialsOperator, TorchXSubmitTrialOperator
from tests.operators.conftest import FakeTaskInstance

Rendered = Callable[..., Any]

PARAMS: dict[str, Any] = {
    "year": 2026,
    "version": "1.10",
    "text_year": "2026",
    "sixteen": "16",
    "number": 16,
    "low": 1,
    "high": "9",
    "flag": True,
    "nothing": None,
    "empty": "",
    "list": ["a", "16"],
    "bounds": [0, 2.5],
    "experiment": {
        "name": "1.10",
        "parameters": [{"type": "choice", "name": "v", "values": ["16", "1.10"], "parameter_type": "str"}],
        "objective": "acc",
    },
    "quoted": '["16", "1.10"]',
}


@pytest.fixture(params=[True, False], ids=["native", "text"])
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """Return an operator as Airflow renders it in a DAG with and without native objects."""

    def render(operator: type[BaseOperator], **arguments: Any) -> Any:
        with DAG(
            "dag",
            schedule=None,
            start_date=datetime(2026, 1, 1, tzinfo=UTC),
            render_template_as_native_obj=request.param,
        ) as dag:
            task = operator(task_id="task", **arguments)
        instance = RuntimeTaskInstance.model_construct(task=task, task_id="task", dag_id="dag", run_id="run")
        context: Any = {"ti": instance, "params": PARAMS, "run_id": "manual__1.10", "dag": dag, "task": task}
        instance.render_templates(context, dag.get_template_env())
        return instance.task

    return render


def parameter(**changes: Any) -> dict[str, Any]:
    return {"type": "choice", "name": "v", "values": ["16", "1.10"], "parameter_type": "str", **changes}


def definition(**changes: Any) -> dict[str, Any]:
    return {"name": "native", "parameters": [parameter()], "objective": "acc", **changes}


def created(operator: Any) -> dict[str, Any]:
    """Return the definition that the store has after the operator ran."""
    context: Any = {"ti": FakeTaskInstance("task")}
    with set_current_context(context):
        name = operator.execute(context)
    stored = AxHook().store.spec(name)
    assert stored["name"] == name
    return stored


@pytest.mark.parametrize(
    ("given", "name", "values"),
    [
        # Texts of the DAG file.
        (definition(), "native", ["16", "1.10"]),
        (definition(name="2026"), "2026", ["16", "1.10"]),
        (definition(name="1.10"), "1.10", ["16", "1.10"]),
        (definition(name="1_0", parameters=[parameter(values=["0x1", "None"])]), "1_0", ["0x1", "None"]),
        # Templates, read as the declared type.
        (definition(name="{{ params.text_year }}"), "2026", ["16", "1.10"]),
        (definition(name="{{ params.year }}"), "2026", ["16", "1.10"]),
        (definition(name="{{ params.version }}"), "1.10", ["16", "1.10"]),
        (definition(name="e-{{ params.year }}"), "e-2026", ["16", "1.10"]),
        (definition(parameters=[parameter(values=["{{ params.sixteen }}", "{{ params.version }}"])]),
         "native", ["16", "1.10"]),
        (definition(parameters=[parameter(values=["{{ params.number }}", "b"])]), "native", ["16", "b"]),
        (definition(parameters=[parameter(values=["{{ params.number }}", "{{ params.high }}"], parameter_type="int")]),
         "native", [16, 9]),
        ("{{ params.experiment | tojson }}", "1.10", ["16", "1.10"]),
    ],
)  # fmt: skip
def test_a_definition_keeps_its_types(rendered: Rendered, given: Any, name: str, values: list[Any]) -> None:
    stored = created(rendered(AxCreateExperimentOperator, experiment=given))
    assert (stored["name"], stored["parameters"][0]["values"]) == (name, values)


def test_numbers_and_flags_of_a_definition_are_read_from_templates(rendered: Rendered) -> None:
    given = definition(
        parameters=[
            {"type": "range", "name": "x", "parameter_type": "int", "bounds": ["{{ params.low }}", "{{params.high}}"]},
            parameter(is_ordered="{{ params.flag }}"),
        ],
        generation={"random_seed": "{{ params.year }}", "initialization_budget": "{{ params.low + 2 }}"},
        description="{{ params.version }}",
    )  # fmt: skip
    stored = created(rendered(AxCreateExperimentOperator, experiment=given))
    assert stored["parameters"][0]["bounds"] == [1, 9]
    assert stored["parameters"][1]["is_ordered"] is True
    assert (stored["generation"]["random_seed"], stored["generation"]["initialization_budget"]) == (2026, 3)
    assert stored["description"] == "1.10"


def test_a_list_or_an_object_in_a_native_template_is_one() -> None:
    request: Any = type("Request", (), {"param": True})
    render = rendered.__wrapped__(request)  # type: ignore[attr-defined]
    bounds = "{{ params.bounds }}"
    given = definition(parameters=[{"type": "range", "name": "x", "bounds": bounds, "parameter_type": "float"}])
    assert created(render(AxCreateExperimentOperator, experiment=given))["parameters"][0]["bounds"] == [0.0, 2.5]
    # Text that is a list: as Airflow reads it, with the texts in it kept.
    given = definition(name="quoted", parameters=[parameter(values="{{ params.quoted }}")])
    assert created(render(AxCreateExperimentOperator, experiment=given))["parameters"][0]["values"] == ["16", "1.10"]
    given = definition(
        name="written", parameters=[parameter(values="['{{ params.sixteen }}', '{{ params.version }}']")]
    )
    assert created(render(AxCreateExperimentOperator, experiment=given))["parameters"][0]["values"] == ["16", "1.10"]
    assert created(render(AxCreateExperimentOperator, experiment="{{ params.experiment }}"))["name"] == "1.10"


def test_names_schedulers_and_paths_are_text(rendered: Rendered) -> None:
    operator = rendered(
        TorchXSubmitTrialOperator,
        trial={"experiment": "2026", "trial_index": 0, "arm_name": "0_0", "parameters": {"v": "16"}},
        component="{{ params.version }}",
        component_args={"literal": "16", "epochs": "{{ params.number }}", "tag": "{{ params.version }}"},
        tracker_base="/1.10",
    )
    assert operator.trial["experiment"] == "2026"
    assert operator.trial["parameters"] == {"v": "16"}
    assert (operator.component, operator.tracker_base) == ("1.10", "/1.10")
    assert operator.component_args["literal"] == "16"
    assert operator.component_args["tag"] == "1.10"
    assert str(operator.component_args["epochs"]) == "16"
    reap = rendered(TorchXReapTrialsOperator, reason="404")
    assert reap.reason == "404"


def test_constant_arguments_are_read_as_the_component_declares_them(rendered: Rendered, tmp_path: Any) -> None:
    path = tmp_path / "components.py"
    path.write_text(
        "from torchx import specs\n"
        "def app(epochs: int, rate: float, on: bool, tag: str, maybe: int | None = None) -> specs.AppDef:\n"
        "    text = repr((epochs, rate, on, tag, maybe))\n"
        "    role = specs.Role(name='app', image='', entrypoint='true', args=[text])\n"
        "    return specs.AppDef(name='app', roles=[role])\n"
    )
    operator = rendered(
        TorchXSubmitTrialOperator,
        trial={},
        component=f"{path}:app",
        component_args={
            "epochs": "{{ params.sixteen }}",
            "rate": "{{ params.version }}",
            "on": "{{ params.flag }}",
            "tag": "{{ params.version }}",
            "maybe": "{{ params.number }}",
        },
    )
    component = load_component(operator.component)
    component.check({}, operator.component_args)
    app = component.build({}, operator.component_args, trial_index=0, experiment="e", tracker_base="/t")
    assert app.roles[0].args == ["(16, 1.1, True, '1.10', 16)"]


@pytest.mark.parametrize("nothing", ["{{ params.nothing }}", "{{ params.empty }}", "None", "", None])
def test_nothing_means_that_an_argument_is_not_given(rendered: Rendered, nothing: Any) -> None:
    """One rule for every templated argument: the default applies."""
    stored = created(
        rendered(
            AxCreateExperimentOperator,
            experiment=definition(),
            if_exists=nothing,
            component=nothing,
            component_args=nothing,
            torchx_conn_id=nothing,
            ax_conn_id=nothing,
        )
    )
    assert stored["name"] == "native"
    generate = rendered(
        AxGenerateTrialsOperator,
        experiment_name="native",
        n=nothing,
        max_trials=nothing,
        rounds=nothing,
        ax_conn_id=nothing,
    )
    context: Any = {"ti": FakeTaskInstance("generate")}
    assert len(generate.execute(context)) == 1
    attach = rendered(
        AxAttachTrialsOperator,
        experiment_name="native",
        trials=[{"parameters": {"v": "1.10"}, "results": {"acc": "{{ params.version }}"}}],
        table=nothing,
        from_experiment=nothing,
    )
    assert attach.execute({"ti": FakeTaskInstance("attach")}) == []
    best = rendered(AxBestTrialOperator, experiment_name="native", ax_conn_id=nothing)
    assert best.execute({"ti": FakeTaskInstance("best")})["metrics"]["acc"]["mean"] == 1.1


@pytest.mark.parametrize("nothing", ["{{ params.nothing }}", "{{ params.empty }}"])
def test_what_has_no_default_is_missing(rendered: Rendered, nothing: str) -> None:
    for operator, named in (
        (rendered(AxGenerateTrialsOperator, experiment_name=nothing), "experiment_name is not given"),
        (rendered(AxBestTrialOperator, experiment_name=nothing), "experiment_name is not given"),
        (rendered(AxCreateExperimentOperator, experiment=nothing), "parameters"),
        (rendered(AxAttachTrialsOperator, experiment_name="e", trials=nothing, table=nothing), "experiment 'e'"),
    ):
        with pytest.raises(AirflowFailException) as caught:
            operator.execute({"ti": FakeTaskInstance("task")})
        assert named in str(caught.value)


def test_limits_of_an_experiment_are_read_from_templates(rendered: Rendered) -> None:
    operator = rendered(
        AxOptimizeOperator,
        experiment=definition(),
        component="utils.booth",
        max_trials="{{ params.high }}",
        parallelism="{{ params.nothing }}",
        max_seconds="{{ params.number }}",
        max_failure_rate="{{ params.empty }}",
        resource="{{ params.nothing }}",
        on_stop="{{ params.empty }}",
        deadline="{{ params.nothing }}",
    )
    from airflow_provider_axtx.operators.optimize import _LIMITS
    from airflow_provider_axtx.spec.limits import Limits

    limits = Limits.load(**{name: getattr(operator, name) for name in _LIMITS})
    assert (limits.max_trials, limits.parallelism, limits.max_seconds) == (9, 1, 16.0)
    assert (limits.max_failure_rate, limits.resource, limits.on_stop, limits.deadline) == (None, "cpu", "drain", None)
