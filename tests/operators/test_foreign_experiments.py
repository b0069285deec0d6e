"""An experiment belongs to the DAG that created it: what the tasks of another DAG may do with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.ownership import Ownership
from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.operators.ax import (
    AxAnalyzeOperator,
    AxAttachTrialsOperator,
    AxBestTrialOperator,
    AxCompleteTrialOperator,
    AxCreateExperimentOperator,
    AxGenerateTrialsOperator,
    AxOptimizeOperator,
)
from airflow_provider_axtx.operators.maintenance import AxCleanupOperator
from airflow_provider_axtx.operators.torchx import TorchXSubmitTrialOperator
from airflow_provider_axtx.sensors.torchx import TorchXTrialSensor
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.operators.conftest import BOOTH, Execute

OWNER = TaskIdentity("owner", "run", "create")
#: Part of the stored definition, that no answer to another DAG may tell.
SECRET = "zugunruhe"
DEFINITION: dict[str, Any] = {**BOOTH, "name": "theirs", "description": SECRET, "tracking_metrics": [SECRET]}
OUTCOME = {
    "experiment": "theirs",
    "trial_index": 0,
    "arm_name": "0_0",
    "parameters": {"x1": 1.0, "x2": 2.0},
    "attempt": 1,
    "app_handle": "local_detached://torchx/x",
    "tracker_base": "/nowhere",
    "trial_status": "COMPLETED",
    "app_state": "SUCCEEDED",
    "message": "",
}


@pytest.fixture
def theirs(store: ExperimentStore) -> ExperimentStore:
    """A store with the experiment of the DAG ``owner``, which has one completed trial."""
    store.create("theirs", DEFINITION, created_by=OWNER)
    store.create("own", {**BOOTH, "name": "own"}, created_by=replace(OWNER, dag_id="stranger"))
    proposal = Proposal((ProposedTrial("0_0", {"x1": 1.0, "x2": 2.0}, "Sobol", {}),), {"node": "Sobol", "runs": []})
    store.add_trials("theirs", proposal, task_key=OWNER.task_key, first_slot=0, expected_version=0)
    store.complete("theirs", 0, status="COMPLETED", observations=[Observation(0, "booth_eval", 1.0)])
    return store


def with_template(operator: Any, field: str, value: str) -> Any:
    """Return an operator whose template a form has filled in."""
    setattr(operator, field, value)
    return operator


JOINS: list[tuple[str, Callable[[], Any]]] = [
    ("create, same definition", lambda: AxCreateExperimentOperator(task_id="t", experiment=DEFINITION)),
    ("create, wrong guess", lambda: AxCreateExperimentOperator(task_id="t", experiment={**BOOTH, "name": "theirs"})),
    (
        "create, from a form",
        lambda: with_template(
            AxCreateExperimentOperator(task_id="t", experiment="{{ params.e }}"),
            "experiment",
            {**BOOTH, "name": "theirs", "objective": "acc"},
        ),
    ),
    (
        "create, must be new",
        lambda: AxCreateExperimentOperator(task_id="t", experiment={**BOOTH, "name": "theirs"}, if_exists="fail"),
    ),
    (
        "optimize",
        lambda: AxOptimizeOperator(
            task_id="t", experiment={**BOOTH, "name": "theirs"}, component="utils.booth", max_trials=3, deferrable=False
        ),
    ),
    ("generate", lambda: AxGenerateTrialsOperator(task_id="t", experiment_name="theirs")),
    ("attach", lambda: AxAttachTrialsOperator(task_id="t", experiment_name="theirs", trials=[{"x1": 1, "x2": 1}])),
    ("analyze", lambda: AxAnalyzeOperator(task_id="t", experiment_name="theirs")),
    ("submit", lambda: TorchXSubmitTrialOperator(task_id="t", trial=OUTCOME, component="utils.booth")),
    ("wait", lambda: TorchXTrialSensor(task_id="t", run=OUTCOME, deferrable=False)),
    ("complete", lambda: AxCompleteTrialOperator(task_id="t", run=OUTCOME, results={"booth_eval": 0.0})),
    (
        "best, from a form",
        lambda: with_template(
            AxBestTrialOperator(task_id="t", experiment_name="{{ params.e }}"), "experiment_name", "theirs"
        ),
    ),
    (
        "warm start, from a form",
        lambda: with_template(
            AxAttachTrialsOperator(task_id="t", experiment_name="own", from_experiment="{{ params.e }}"),
            "from_experiment",
            "theirs",
        ),
    ),
]


@pytest.mark.parametrize("make", [one[1] for one in JOINS], ids=[one[0] for one in JOINS])
def test_another_dag_is_refused_and_told_the_name_only(
    theirs: ExperimentStore, execute: Execute, make: Callable[[], Any]
) -> None:
    before = theirs.snapshot("theirs")
    operator = make()
    with pytest.raises(AirflowFailException) as caught:
        # Not rendered again: `with_template` has done so.
        operator.render_template_fields = lambda *_: None
        execute(operator, dag_id="stranger")
    told = str(caught.value)
    assert "The experiment 'theirs' belongs to another DAG" in told
    assert "shared_with=['stranger']" in told
    assert all(hidden not in told for hidden in (SECRET, "booth_eval", "owner", "x1"))
    assert theirs.snapshot("theirs") == before
    assert theirs.loop("theirs", replace(OWNER, dag_id="stranger", task_id="t").task_key) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: AxBestTrialOperator(task_id="t", experiment_name="theirs"),
        lambda: AxAttachTrialsOperator(task_id="t", experiment_name="own", from_experiment="theirs"),
    ],
    ids=["best", "warm start"],
)
def test_a_dag_file_may_read_the_results_of_another_dag(
    theirs: ExperimentStore, execute: Execute, make: Callable[[], Any]
) -> None:
    execute(make(), dag_id="stranger")


@pytest.mark.parametrize("shared_with", [["stranger"], ["str*"], ["x", "*"]])
def test_the_author_of_the_first_dag_shares_it(
    theirs: ExperimentStore, execute: Execute, shared_with: list[str]
) -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=DEFINITION, shared_with=shared_with)
    execute(create, dag_id="owner")
    assert theirs.ownership("theirs") == Ownership("owner", tuple(shared_with))
    for make in (JOINS[0][1], JOINS[5][1], JOINS[11][1]):
        operator = make()
        operator.render_template_fields = lambda *_: None
        execute(operator, dag_id="stranger")
    # The other DAG cannot share it on.
    execute(AxCreateExperimentOperator(task_id="c", experiment=DEFINITION, shared_with=["third"]), dag_id="stranger")
    assert theirs.ownership("theirs") == Ownership("owner", tuple(shared_with))
    # The author takes it back.
    execute(AxCreateExperimentOperator(task_id="create", experiment=DEFINITION), dag_id="owner")
    with pytest.raises(AirflowFailException, match="belongs to another DAG"):
        execute(AxGenerateTrialsOperator(task_id="t", experiment_name="theirs"), dag_id="stranger")


def test_an_experiment_is_shared_from_its_creation(store: ExperimentStore, execute: Execute) -> None:
    create = AxCreateExperimentOperator(task_id="create", experiment=DEFINITION, shared_with=["stranger"])
    execute(create, dag_id="owner")
    assert store.ownership("theirs") == Ownership("owner", ("stranger",))
    execute(AxGenerateTrialsOperator(task_id="t", experiment_name="theirs"), dag_id="stranger")


@pytest.mark.parametrize(
    ("name", "told"), [("theirs", "belongs to another DAG"), ("", "is not given"), (None, "is not given")]
)
def test_a_form_cannot_remove_what_is_not_its_own(
    theirs: ExperimentStore, execute: Execute, name: Any, told: str
) -> None:
    """An empty name would be that of every experiment."""
    operator = AxCleanupOperator(task_id="t", older_than=1e-6, experiment_name="{{ params.e }}")
    operator.experiment_name = name
    operator.render_template_fields = lambda *_: None
    with pytest.raises(AirflowFailException, match=told):
        execute(operator, dag_id="stranger")
    assert [line.name for line in theirs.summaries()] == ["own", "theirs"]


def test_what_belongs_to_no_dag_is_open_to_all(store: ExperimentStore, execute: Execute) -> None:
    """Experiments of a notebook, and of versions that did not record the creator."""
    store.create("notebook", {**BOOTH, "name": "notebook"})
    store.create("outside", {**BOOTH, "name": "outside"}, created_by=TaskIdentity())
    for name in ("notebook", "outside"):
        execute(AxGenerateTrialsOperator(task_id="t", experiment_name=name), dag_id="stranger")
        assert store.ownership(name) == Ownership()


def test_a_user_with_the_database_shares_an_experiment(theirs: ExperimentStore, execute: Execute) -> None:
    """The way out after a DAG was renamed."""
    theirs.share("theirs", ("stranger",))
    execute(AxGenerateTrialsOperator(task_id="t", experiment_name="theirs"), dag_id="stranger")


@pytest.mark.parametrize("given", ["report", [3], [""], 3, None])
def test_whom_to_share_with_is_checked_at_parse(given: Any) -> None:
    for operator in (
        lambda: AxCreateExperimentOperator(task_id="t", experiment=BOOTH, shared_with=given),
        lambda: AxOptimizeOperator(
            task_id="t", experiment=BOOTH, component="utils.booth", max_trials=1, shared_with=given
        ),
    ):
        with pytest.raises(InvalidInputError, match="shared_with must be a list of DAG ids"):
            operator()
