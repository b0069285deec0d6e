"""A definition that changes while its experiment runs: by a user, by its DAG, by both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import ExperimentExistsError, InvalidInputError
from airflow_provider_axtx.core.records import TaskIdentity
from airflow_provider_axtx.core.steering import Action
from airflow_provider_axtx.lifecycle.definition import OnChange
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials, start_loop
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from tests.lifecycle.rig import COMPONENT, SPEC, Rig, settled
from tests.lifecycle.test_steering import want, wanted
from tests.store.material import killed_at

#: Imported here, so that a forked process need not import it.
PRELOADED = optimizer
TASK = TaskIdentity("dag", "run", "create", -1, 1, 0)


def bounds(rig: Rig) -> Any:
    return rig.store.spec("loop")["parameters"][0]["bounds"]


def given(**changed: Any) -> ExperimentSpec:
    return ExperimentSpec.load({**SPEC, **changed})


def of(**field: Any) -> dict[str, Any]:
    """Return the definition's parameters with a changed field."""
    return {"parameters": [{**SPEC["parameters"][0], **field}]}


def create(rig: Rig, spec: ExperimentSpec, on_change: OnChange = "update") -> bool:
    return create_experiment(rig.store, spec, if_exists="resume", on_change=on_change, created_by=TASK)


def test_a_user_changes_the_definition_and_the_next_trial_has_it(rig: Rig) -> None:
    loop = rig.loop()
    settled(loop)
    want(rig, Action.CHANGE_DEFINITION, changes={"parameters": {"x": {"bounds": [5.0, 6.0]}}})
    want(rig, Action.CHANGE_DEFINITION, changes={"parameters": {"x": {"bounds": [9.0, 8.0]}}})
    want(rig, Action.QUEUE_TRIAL, parameters={"x": 0.5})
    rig.end(0)
    settled(loop)
    accepted, invalid, outside = wanted(rig)
    assert accepted == "from trial 1 on"
    assert str(invalid).startswith("refused: ") and "the lower bound must be below the upper" in str(invalid)
    assert str(outside).startswith("refused: ") and "is out of bounds" in str(outside)
    assert 5.0 <= rig.store.trial("loop", 1).parameters["x"] <= 6.0
    change = rig.store.changes("loop")[0]
    assert change.shown_arguments["differences"] == ["parameters.x.bounds: stored [0.0, 1.0], given [5.0, 6.0]"]


def test_a_trial_older_than_a_parameter_is_submitted_with_the_value_that_it_had(rig: Rig) -> None:
    component = rig.root / "with_mode.py"
    text = Path(COMPONENT.partition(":")[0]).read_text().replace("app(x: float,", "app(x: float, mode: str,")
    component.write_text(text.replace('    mode = told.read_text() if told.exists() else ""\n', ""))
    loop = rig.loop(component=f"{component}:app")
    generate_trials(rig.store, "loop", 1, task_key=loop.task_key)
    added = {"type": "choice", "values": ["ok"], "parameter_type": "str", "backfill_value": "ok"}
    want(rig, Action.CHANGE_DEFINITION, changes={"parameters": {"mode": added}})
    generate_trials(rig.store, "loop", 1, task_key="dag/other/-1")
    assert [sorted(trial.parameters) for trial in rig.store.trials("loop")] == [["x"], ["mode", "x"]]
    settled(loop)
    assert rig.app_of(0)[1]["roles"][0]["args"][-1] == "ok"


def test_a_space_that_was_exhausted_goes_on_when_it_is_widened(rig: Rig) -> None:
    spec = {**SPEC, "parameters": [{**SPEC["parameters"][0], "step_size": 1.0}]}
    for index in (0, 1):
        settled(rig.loop(spec=spec))
        rig.end(index)
    assert str(settled(rig.loop(spec=spec)).finished).startswith("SearchSpaceExhausted")
    want(rig, Action.CHANGE_DEFINITION, changes={"parameters": {"x": {"bounds": [0.0, 2.0]}}})
    assert [run.trial_index for run in settled(rig.loop(spec=spec)).live] == [2]


def test_a_dag_changes_the_definition_only_if_it_says_so_and_a_users_change_stays(rig: Rig) -> None:
    create(rig, given())
    generate_trials(rig.store, "loop", 1, task_key="task")
    with pytest.raises(ExperimentExistsError, match=r'x\.bounds: stored \[0\.0, 1\.0\](?s:.*)on_change="update"'):
        create(rig, given(**of(bounds=[0, 2])), "refuse")
    with pytest.raises(InvalidInputError, match=r"generation: cannot be changed once there are trials"):
        create(rig, given(generation={}))
    assert create(rig, given(**of(bounds=[0, 2]))) is False
    want(rig, Action.CHANGE_DEFINITION, changes={"objective": "loss"})
    generate_trials(rig.store, "loop", 1, task_key="other")
    # The DAG as before: it goes on with what the user has changed.
    create(rig, given(**of(bounds=[0, 2])), "refuse")
    assert (bounds(rig), rig.store.spec("loop")["objective"]) == ([0.0, 2.0], "loss")
    create(rig, given(**of(bounds=[0, 3])))
    assert (bounds(rig), rig.store.spec("loop")["objective"]) == ([0.0, 3.0], "loss")
    assert [(change.via, change.requested_by) for change in rig.store.changes("loop")] == [
        *(("dag", "DAG dag"), ("cli", "vera"), ("dag", "DAG dag")),
    ]
    assert [one.trials for one in rig.store.snapshot("loop").history] == [1, 1, 2]


@pytest.mark.parametrize(
    "point", ["definition.before_change", "store.after_change_definition_commit", "definition.after_change"]
)
def test_a_killed_start_changes_the_definition_once(rig: Rig, point: str) -> None:
    create(rig, given())
    generate_trials(rig.store, "loop", 1, task_key="task")
    wider = given(**of(bounds=[0, 2]))

    def start(run_id: str = "run", spec: ExperimentSpec = wider) -> None:
        task = replace(TASK, run_id=run_id)
        start_loop(
            rig.store,
            spec,
            if_exists="resume",
            on_change="update",
            task_key=task.task_key,
            max_tries=0,
            created_by=task,
        )

    killed_at(point, start)
    start()
    start()
    assert (bounds(rig), len(rig.store.changes("loop"))) == ([0.0, 2.0], 1)
    # A later DAG run changes it again; the retry of the first one does not change it back.
    start("later", given(**of(bounds=[0, 3])))
    start()
    assert (bounds(rig), len(rig.store.changes("loop"))) == ([0.0, 3.0], 2)


Y: dict[str, Any] = {"type": "range", "name": "y", "parameter_type": "float", "bounds": [0.0, 1.0]}
ADDED: dict[str, Any] = {**Y, "name": "z", "backfill_value": 0.5}


@pytest.mark.parametrize("on_change", ["refuse", "update"])
@pytest.mark.parametrize(
    ("by_users", "by_dag"),
    [
        ({"parameters": {"x": {"bounds": [0, 2]}, "y": {"bounds": [0, 5]}}}, of(bounds=[0, 2])),
        (
            {"outcome_constraints": ["a <= 1", "b <= 2"], "objective": "loss"},
            {"outcome_constraints": ["b <= 2", "a <= 1"]},
        ),
        (
            {"parameters": {"z": ADDED, "x": {"bounds": [0, 2]}}},
            {"parameters": [SPEC["parameters"][0], Y, ADDED]},
        ),
    ],
)
def test_a_dag_that_takes_up_one_of_several_changes_goes_on(
    rig: Rig, on_change: OnChange, by_users: dict[str, Any], by_dag: dict[str, Any]
) -> None:
    def spec_of(**changed: Any) -> ExperimentSpec:
        parameters = changed.pop("parameters", SPEC["parameters"])
        return given(**changed, parameters=parameters if Y in parameters else [*parameters, Y])

    create(rig, spec_of())
    generate_trials(rig.store, "loop", 1, task_key="task")
    want(rig, Action.CHANGE_DEFINITION, changes=by_users)
    generate_trials(rig.store, "loop", 1, task_key="other")
    assert wanted(rig) == ["from trial 1 on"]
    recorded = rig.store.spec("loop")
    create(rig, spec_of(**by_dag), on_change)
    assert rig.store.spec("loop") == recorded


def test_a_dag_that_takes_up_a_change_and_makes_another_one_changes_only_that(rig: Rig) -> None:
    create(rig, given(parameters=[SPEC["parameters"][0], Y]))
    generate_trials(rig.store, "loop", 1, task_key="task")
    want(rig, Action.CHANGE_DEFINITION, changes={"parameters": {"x": {"bounds": [0, 2]}, "y": {"bounds": [0, 5]}}})
    generate_trials(rig.store, "loop", 1, task_key="other")
    both = given(objective="loss", parameters=[of(bounds=[0, 2])["parameters"][0], Y])
    with pytest.raises(ExperimentExistsError) as refused:
        create(rig, both, "refuse")
    assert "objective" in refused.value.message and "bounds" not in refused.value.message
    create(rig, both)
    assert rig.store.spec("loop")["objective"] == "loss"
    assert [one["bounds"] for one in rig.store.spec("loop")["parameters"]] == [[0.0, 2.0], [0.0, 5.0]]
    assert rig.store.changes("loop")[-1].shown_arguments["changes"] == {"objective": "loss"}
    with pytest.raises(InvalidInputError, match="generation: cannot be changed once there are trials"):
        create(rig, both.model_copy(update={"generation": ExperimentSpec.load({**SPEC, "generation": {}}).generation}))


@pytest.mark.parametrize("on_change", ["refuse", "update"])
@pytest.mark.parametrize("y", [[0.0, 1.0], [0.0, 5.0]])
def test_what_users_change_again_after_the_dag_has_taken_it_up_stays(
    rig: Rig, on_change: OnChange, y: list[float]
) -> None:
    def change(**bounds: list[float]) -> None:
        fields = {name: {"bounds": one} for name, one in bounds.items()}
        want(rig, Action.CHANGE_DEFINITION, changes={"parameters": fields})
        generate_trials(rig.store, "loop", 1, task_key=f"of{len(rig.store.changes('loop'))}")

    create(rig, given(parameters=[SPEC["parameters"][0], Y]))
    generate_trials(rig.store, "loop", 1, task_key="task")
    change(x=[0.0, 2.0])
    if y != Y["bounds"]:
        change(y=y)
    taken_up = given(parameters=[of(bounds=[0, 2])["parameters"][0], Y])
    for _ in range(2):
        create(rig, taken_up, on_change)
    assert [one.via for one in rig.store.changes("loop")].count("dag") == 1
    change(x=[0.0, 3.0])
    create(rig, taken_up, on_change)
    assert [one["bounds"] for one in rig.store.spec("loop")["parameters"]] == [[0.0, 3.0], y]
    # Going back to what it was before is a change of the DAG.
    create(rig, given(parameters=[SPEC["parameters"][0], Y]), "update")
    assert bounds(rig) == [0.0, 1.0]


@pytest.mark.parametrize("on_change", ["refuse", "update"])
def test_what_one_dag_has_taken_up_is_no_change_of_another(rig: Rig, on_change: OnChange) -> None:
    one, other = (TaskIdentity(name, "run", "create") for name in ("one", "other"))
    store, before, after = rig.store, given(), given(parameters=of(bounds=[0, 2])["parameters"])
    shared_with = ("one", "other")
    create_experiment(store, before, if_exists="resume", created_by=one, shared_with=shared_with)
    generate_trials(store, "loop", 1, task_key="task")
    want(rig, Action.CHANGE_DEFINITION, changes={"parameters": {"x": {"bounds": [0.0, 2.0]}}})
    generate_trials(store, "loop", 1, task_key="another")
    for spec, identity in ((after, one), (before, other), (after, one)):
        create_experiment(
            store, spec, if_exists="resume", on_change=on_change, created_by=identity, shared_with=shared_with
        )
    assert bounds(rig) == [0.0, 2.0]
