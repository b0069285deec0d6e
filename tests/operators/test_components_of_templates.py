"""A component that a template names is code that a stranger may choose: refused unless a list allows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.operators.ax import (
    AxAttachTrialsOperator,
    AxBestTrialOperator,
    AxCreateExperimentOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.maintenance import AxCleanupOperator
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.task_groups import ax_trial_loop
from tests.operators.conftest import BOOTH, Execute, FakeTaskInstance
from tests.test_bad_input import TRIAL, assert_nothing_submitted, with_booth  # noqa: F401 - a fixture

NAMES = ["create", "submit", "optimize"]


def make(name: str, component: str, allowed: tuple[str, ...] = ()) -> Any:
    """Return an operator whose component a form has filled in."""
    component_of: dict[str, Callable[..., Any]] = {
        "create": lambda **given: AxCreateExperimentOperator(experiment=BOOTH, **given),
        "submit": lambda **given: TorchXSubmitTrialOperator(trial=TRIAL, **given),
        "optimize": lambda **given: AxOptimizeOperator(experiment=BOOTH, max_trials=1, deferrable=False, **given),
    }
    operator = component_of[name](task_id="t", component="{{ params.component }}", allowed_components=allowed)
    operator.component = component
    return operator


@pytest.mark.usefixtures("with_booth")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("allowed", "connection", "told"),
    [
        ((), None, "nothing says which components are allowed"),
        ((), {}, "nothing says which components are allowed"),
        (("utils.booth",), None, "'utils.sh' is not allowed"),
        (("utils.*",), None, "named in full"),
        (("my_pkg.*:*",), None, "'utils.sh' is not allowed"),
        ((), {"allowed_components": ["utils.booth"]}, "'utils.sh' is not allowed"),
        (("utils.sh",), {"allowed_components": ["utils.booth"]}, "'utils.sh' is not allowed"),
    ],
)
def test_it_is_refused(
    name: str, allowed: tuple[str, ...], connection: dict[str, Any] | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection is not None:
        extra = json.dumps({"conn_type": "torchx", "extra": connection})
        monkeypatch.setenv("AIRFLOW_CONN_TORCHX_DEFAULT", extra)
    with pytest.raises(AirflowFailException, match=told):
        make(name, "utils.sh", allowed).execute({"ti": FakeTaskInstance("t")})
    assert_nothing_submitted()


@pytest.mark.parametrize(
    ("allowed", "connection"), [(("utils.booth",), None), ((), {"allowed_components": ["utils.booth"]})]
)
def test_it_is_allowed_by_the_operator_or_the_connection(
    allowed: tuple[str, ...],
    connection: dict[str, Any] | None,
    store: ExperimentStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if connection is not None:
        extra = json.dumps({"conn_type": "torchx", "extra": connection})
        monkeypatch.setenv("AIRFLOW_CONN_TORCHX_DEFAULT", extra)
    make("create", "utils.booth", allowed).execute({"ti": FakeTaskInstance("t")})
    assert [line.name for line in store.summaries()] == ["booth"]


def test_what_the_dag_file_names_is_not_a_template(execute: Execute) -> None:
    operator = AxCreateExperimentOperator(task_id="t", experiment=BOOTH, component="utils.booth")
    assert execute(operator) == "booth"


def test_a_mapped_component_is_judged_by_what_it_is_mapped_over() -> None:
    """A mapped operator is made from values that are known already."""
    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        create = AxCreateExperimentOperator(task_id="create", experiment=BOOTH)
        mapped = AxCreateExperimentOperator.partial(task_id="mapped", experiment=BOOTH)
        mapped.expand(component=create.output)
        literal = AxCreateExperimentOperator.partial(task_id="literal", experiment=BOOTH)
        literal.expand(component=["utils.booth"])
        partial = AxCreateExperimentOperator.partial(task_id="partial", experiment=BOOTH, component="{{ params.c }}")
        partial.expand(component_args=[{}])
        several = AxCreateExperimentOperator.partial(task_id="several")
        several.expand_kwargs(create.output)
    judged = {}
    for name, arguments in {
        "mapped": {"component": "utils.sh"},
        "literal": {"component": "utils.booth"},
        "partial": {"component_args": {}},
        "several": {"component": "utils.sh", "experiment": BOOTH},
    }.items():
        judged[name] = dag.get_task(name).unmap(arguments).came_from_template("component")
    assert judged == {"mapped": True, "literal": False, "partial": True, "several": True}


def expanded(dag: DAG, make: Any, given: Any, resolved: dict[str, Any], *, strict: bool = True, **partial: Any) -> Any:
    """Return the instance of a mapped operator that Airflow makes when the task runs."""
    with dag:
        mapped = make.partial(task_id=f"mapped_{len(dag.tasks)}", **partial).expand_kwargs(given, strict=strict)
    return mapped.unmap(resolved)


@pytest.fixture
def dag() -> DAG:
    return DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def output(dag: DAG) -> Any:
    """The output of a task, over which others are mapped."""
    with dag:
        return AxCreateExperimentOperator(task_id="first", experiment=BOOTH).output


def test_what_the_dag_file_names_beside_a_mapped_xcom_is_not_a_template(
    dag: DAG, output: Any, execute: Execute
) -> None:
    operator = expanded(dag, AxCreateExperimentOperator, output, {"experiment": BOOTH}, component="utils.booth")
    assert execute(operator) == "booth"


@pytest.mark.usefixtures("with_booth")
def test_an_xcom_that_may_replace_what_the_dag_file_names_is_a_template(dag: DAG, output: Any) -> None:
    """Airflow lets a mapped value win with ``strict=False``."""
    made = (dag, AxCreateExperimentOperator, output, {"experiment": BOOTH, "component": "utils.sh"})
    operator = expanded(*made, strict=False, component="utils.booth")
    with pytest.raises(AirflowFailException, match="nothing says which components are allowed"):
        operator.execute({"ti": FakeTaskInstance("t")})
    assert_nothing_submitted()


@pytest.mark.parametrize("field", ["allowed_components", "allowed_factories", "shared_with"])
def test_only_the_dag_file_says_what_others_may_name(dag: DAG, output: Any, field: str) -> None:
    names = ["utils.sh"]
    with pytest.raises(InvalidInputError, match=f"{field} of mapped_1 comes from what the task is mapped over"):
        expanded(dag, AxCreateExperimentOperator, output, {"experiment": BOOTH, field: names})
    with pytest.raises(InvalidInputError, match="mapped_2"):
        other = {"experiment": BOOTH, field: ["utils.booth"]}
        expanded(dag, AxCreateExperimentOperator, output, {"experiment": BOOTH, field: names}, strict=False, **other)


@pytest.mark.parametrize("field", ["allowed_components", "allowed_factories", "shared_with"])
def test_the_dag_file_may_say_it_wherever_it_gives_arguments(dag: DAG, output: Any, field: str) -> None:
    names, made = ["utils.booth"], (dag, AxCreateExperimentOperator)
    found = [
        expanded(*made, output, {"experiment": BOOTH}, **{field: names}),
        expanded(*made, [{field: names, "experiment": output}], {"experiment": BOOTH, field: names}),
        expanded(*made, output, {"experiment": BOOTH}),
    ]
    dag.default_args[field] = ["of_dag"]
    found.append(expanded(*made, output, {"experiment": BOOTH}))
    assert [getattr(one, field) for one in found] == [("utils.booth",), ("utils.booth",), (), ("of_dag",)]


def test_each_argument_of_mapped_objects_is_judged_by_itself(dag: DAG, output: Any) -> None:
    literal: dict[str, Any] = {"component": "utils.booth", "component_args": {"x": output}, "experiment": BOOTH}
    for other, judged in (({"component": "utils.booth"}, False), ({"component": "{{ params.c }}"}, True)):
        operator = expanded(dag, AxCreateExperimentOperator, [literal, {**literal, **other}], literal)
        assert operator.came_from_template("component") is judged
    assert expanded(dag, AxCreateExperimentOperator, [literal, output], literal).came_from_template("component")


@pytest.mark.parametrize(
    ("make", "field", "other"),
    [
        (AxBestTrialOperator, "experiment_name", {"use_model_predictions": False}),
        (AxAttachTrialsOperator, "from_experiment", {"experiment_name": "own"}),
        (AxCleanupOperator, "experiment_name", {"older_than": "1d"}),
    ],
)
def test_the_name_of_an_experiment_beside_a_mapped_xcom_is_not_a_template(
    dag: DAG, output: Any, make: Any, field: str, other: dict[str, Any]
) -> None:
    assert not expanded(dag, make, output, other, **{field: "theirs"}).came_from_template(field)
    assert expanded(dag, make, output, {**other, field: "theirs"}).came_from_template(field)


def test_a_loop_hands_its_list_to_every_task_that_needs_it() -> None:
    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        ax_trial_loop("tune", BOOTH, "{{ params.c }}", 1, allowed_components=["utils.booth"], shared_with=["other"])
    create, run = dag.get_task("tune.create"), dag.get_task("tune.round_0.run")
    assert (create.allowed_components, create.shared_with) == (("utils.booth",), ("other",))
    assert run.allowed_components == ("utils.booth",)
