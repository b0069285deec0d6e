"""A call of the store changes, and returns, what belongs to the experiment and the trial that it names, and no more.

Three experiments live the same life in one store. A condition that is missing from a statement, or compares the wrong
way, changes a row of another experiment or trial, or finds one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.analysis import EXPLANATION, AnalysisCard
from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.keys import loop_key
from airflow_provider_axtx.core.records import AttemptRecord, FirstAttempt, Observation, TaskIdentity, TrialEnd
from airflow_provider_axtx.core.steering import Action, Change, NewChange
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.store.tables import analyses, dag_runs, metadata, runs
from airflow_provider_axtx.store.views import ExperimentViews
from tests.store.material import SPEC, proposal

# In the order of their names: a comparison that is wrong in either direction finds a neighbour.
LEFT, NAME, RIGHT = "left", "middle", "right"
TASK, OTHER_TASK = "dag/run/optimize/-1", "dag/run/another/-1"
FIRST_TRY = TaskIdentity("dag", "run", "optimize", -1, 1, 3, "torchx_default")
SECOND_TRY = TaskIdentity("dag", "run", "optimize", -1, 2, 3, "torchx_default")
#: Trials on both sides of trial 1.
ORDER = (0, 2, 1)

Row = tuple[Any, ...]


class Content:
    """All rows of a store, each under a label: the experiment, and which row of it."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    def rows(self) -> dict[tuple[str, str], Row]:
        with self.engine.connect() as connection:
            return {
                _label(table, row): tuple(row)
                for table in metadata.sorted_tables
                for row in connection.execute(sa.select(table))
            }

    def remove(self, where: Callable[[sa.Table], sa.ColumnElement[bool] | None]) -> None:
        """Remove the rows that meet the condition of their table."""
        with self.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                if (condition := where(table)) is not None:
                    connection.execute(sa.delete(table).where(condition))


def _label(table: sa.Table, row: sa.Row[Any]) -> tuple[str, str]:
    kind = table.name.removeprefix("axtx_")
    if kind == "experiments":
        return row.name, "experiment"
    if table is dag_runs:
        return "", row.dag_run
    owner = row.experiment
    if table is runs:
        return owner, f"attempt {row.trial_index}.{row.attempt}"
    if kind == "loops":
        return owner, "loop" if row.loop_key == loop_key(TASK) else "other loop"
    if table is analyses:
        return owner, "explanation" if row.kind == EXPLANATION else "analysis"
    if kind == "changes":
        return owner, f"change {row.position}"
    return owner, f"{kind.removesuffix('s')} {row.trial_index}" + (
        f" {row.metric} {row.step}" if kind == "observations" else ""
    )


class Life:
    """Calls methods of the store for one experiment, and compares which rows each call has changed."""

    def __init__(self, store: ExperimentStore, content: Content, name: str, called: set[str]) -> None:
        self.store, self.content, self.name, self.called = store, content, name, called

    def call(self, method: str, changed: Iterable[str], *arguments: Any, **options: Any) -> Any:
        """Call a method of the store, which must change these rows of the experiment and no others."""
        before = self.content.rows()
        answer = getattr(self.store, method)(*arguments, **options)
        after = self.content.rows()
        differing = {label for label in before.keys() | after.keys() if before.get(label) != after.get(label)}
        assert differing == {(self.name, label) for label in changed}, method
        self.called.add(method)
        return answer

    def ask(self, action: Action, request_id: str, *also: str, **given: Any) -> Change:
        position = len(self.store.changes(self.name))
        new = NewChange(action, request_id, "vera", "cli", **given)
        asked: Change = self.call("steer", {f"change {position}", *also}, self.name, new)
        return asked

    def version(self) -> int:
        return self.store.snapshot(self.name).version

    def begin(self) -> None:
        """Create the experiment with trials 0 to 2, all submitted, with progressive results and open changes."""
        name = self.name
        self.call("create", {"experiment"}, name, SPEC, created_by=FIRST_TRY)
        self.call("share", {"experiment"}, name, (f"dag_{name}_*",))
        self.call("record_app", {"experiment"}, name, {"component": f"{name}.py:app"})
        self.call("plan", {"experiment"}, name, 3)
        self.call("plan", {"experiment"}, name, 2)  # fewer than before
        for task, loop in ((TASK, "loop"), (OTHER_TASK, "other loop")):
            self.call("start_loop", {loop}, name, task, 3, {"name": name})
        lease_of_task = self.store.lease(name, TASK, 60.0)
        self.call("add_trials", {f"trial {index}" for index in range(3)} | {"experiment"}, name, proposal(3),
                  task_key=TASK, first_slot=0, expected_version=0)  # fmt: skip
        before = self.content.rows()
        with lease_of_task:
            held = self.content.rows()
            assert {label for label in held if held[label] != before[label]} == {(name, "experiment")}
        assert self.content.rows() == before
        self.called.add("lease")
        asked = [FirstAttempt(index, f"/results/{index}") for index in (0, 2)]
        labels = {"attempt 0.1", "attempt 2.1", "trial 0", "trial 2"}
        first = {"scheduler": "local_detached", "identity": FIRST_TRY}
        begun = self.call("begin_first_attempts", labels, name, asked, **first)
        self.call("record_handles", labels, [(one, f"local://s/{name}-{one.trial_index}") for one in begun])
        one = self.call("begin_attempt", {"attempt 1.1", "trial 1"}, name, 1, tracker_root="/results", **first)
        one = self.call("record_handle", {"attempt 1.1", "trial 1"}, one, f"local://s/{name}-1")
        for index in ORDER:
            seen = [Observation(index, "loss", 1.0 + index, step=step) for step in (1.0, 2.0)]
            labels = {f"observation {index} loss {step}" for step in (1.0, 2.0)}
            self.call("record_progress", labels, name, index, seen)
        for index in ORDER:
            self.poll(self.store.attempt(name, index, 1))
        card = AnalysisCard("Summary", "Summary", "", (), "table", "", {})
        self.call("record_analyses", {"analysis"}, name, [card])
        analyze = self.ask(Action.ANALYZE, "analyze")
        charts = [AnalysisCard("Model", "Model", "", (), EXPLANATION, "", {"completed": 3})]
        self.call("record_explanation", {"explanation", "change 0"}, name, charts, [analyze], "explained")
        for index in ORDER:
            self.ask(Action.STOP_TRIAL, f"stop-{index}", trial_index=index)

    def poll(self, attempt: AttemptRecord) -> None:
        """Record what polls have seen of an app."""
        label = {f"attempt {attempt.trial_index}.1"}
        self.call("note_started", label, [(attempt, 5.0)])
        assert self.call("note_unseen", label, attempt, False) == 1
        assert self.call("note_poll_failure", label, attempt) == 1
        self.call("clear_poll_failures", label, attempt)
        self.call("pass_to_try", label, attempt, SECOND_TRY)

    def end(self) -> None:
        """End every trial in another way, run one of them again, queue one, and change the definition."""
        name, attempts = self.name, [self.store.attempt(self.name, index, 1) for index in range(3)]
        self.call("settle_change", {"change 3"}, self.store.changes(name)[3], "stopped")
        self.call("request_cancel", {"attempt 1.1"}, attempts[1], "enough")
        self.call("finish_attempt", {"attempt 2.1"}, attempts[2], "SUCCEEDED", "")
        values = {"observations": (Observation(2, "loss", 0.5),), "evidence": {"loss": "0.5"}}
        self.call("complete", {"trial 2", "observation 2 loss None"}, name, 2, status="COMPLETED", **values)
        succeeded = AppObservation("SUCCEEDED", started_at=5.0, ended_at=6.0)
        end = TrialEnd("COMPLETED", (Observation(0, "loss", 0.25),))
        self.call("end_attempt", {"attempt 0.1", "trial 0", "observation 0 loss None"}, attempts[0], succeeded, end)
        failed = AppObservation("FAILED", "exit code 1")
        self.call("finish_observed", {"attempt 1.1"}, attempts[1], failed)
        self.call("complete", {"trial 1"}, name, 1, status="FAILED", reason="exit code 1")
        again = self.ask(Action.RETRY_TRIAL, "again", trial_index=1)
        self.call("reopen_trial", {"trial 1", "change 4", "observation 1 loss 1.0", "observation 1 loss 2.0"}, again)
        queued = self.ask(Action.QUEUE_TRIAL, "queued", arguments={"parameters": {"x": 0.5}})
        row = {"task_key": OTHER_TASK, "slot": 0, "expected_version": self.version()}
        self.call("add_queued_trial", {"trial 3", "change 5", "experiment"}, queued, proposal(1, first=3), **row)
        for index in (1, 3):
            self.call("complete", {f"trial {index}"}, name, index, status="ABANDONED", reason="enough")
        self.call("stop_loop", {"loop", "experiment"}, name, TASK, "stop: enough")
        self.ask(Action.RUN, "run", "loop", "experiment")
        self.call("stop_loop", {"other loop", "experiment"}, name, OTHER_TASK, "max_trials: 3")
        self.ask(Action.LIMITS, "limits", "other loop", "experiment", arguments={"limits": {"max_trials": 4}})
        self.call("finish", {"experiment"}, name, "stop: enough")
        definition = {**SPEC, "parameters": [{"name": "x", "bounds": [0.0, 2.0]}]}
        asked = self.ask(Action.CHANGE_DEFINITION, "wider", arguments={"changes": {}})
        self.ask(Action.NOTE, "note", arguments={"text": "the bound was too low"})
        given = {"differences": ["x is wider"], "expected_version": self.version()}
        self.call("change_definition", {"experiment", "change 8"}, name, asked, definition, **given)
        keys = [one.submission_key for one in self.store.attempts(name)]
        self.call("note_files_removed", {"attempt 1.1"}, name, [keys[1]])
        self.call("note_checkpoints_removed", {"attempt 1.1"}, name, [keys[1]])

    def delete(self) -> None:
        """Delete the experiment."""
        keys = [one.submission_key for one in self.store.attempts(self.name)]
        rows = {label for owner, label in self.content.rows() if owner == self.name}
        self.call("delete", rows, self.name, self.store.uid(self.name), keys)


#: What is read of the experiment ``NAME``, by method.
READS: dict[str, Callable[[ExperimentStore], Any]] = {
    "snapshot": lambda store: store.snapshot(NAME),
    "facts_for_proposal": lambda store: store.facts_for_proposal(NAME, TASK, 1),
    "uid": lambda store: store.uid(NAME),
    "spec": lambda store: store.spec(NAME),
    "ownership": lambda store: store.ownership(NAME),
    "app": lambda store: store.app(NAME),
    "summaries": lambda store: [one for one in store.summaries() if one.name == NAME],
    "summary": lambda store: store.summary(NAME),
    "trials": lambda store: store.trials(NAME),
    "granted": lambda store: [store.granted(NAME, TASK, first_slot=slot) for slot in range(4)],
    "open_trials": lambda store: store.open_trials(experiment=NAME),
    "analyses": lambda store: store.analyses(NAME),
    "loop": lambda store: [store.loop(NAME, task) for task in (TASK, OTHER_TASK)],
    "loop_facts": lambda store: [
        store.loop_facts(NAME, task, known_slots=slots, asked=(2,)) for task in (TASK, OTHER_TASK) for slots in (0, 2)
    ],
    "open_attempts": lambda store: store.open_attempts(experiment=NAME),
    "use": lambda store: store.use(NAME),
    "to_be_deleted": lambda store: NAME in store.to_be_deleted(),
    "changes": lambda store: store.changes(NAME),
    "steering": lambda store: store.steering(NAME),
    "last_asked": lambda store: sorted(store.last_asked([NAME]), key=str),
    "backfill_values": lambda store: store.backfill_values(NAME),
    "explanation": lambda store: store.explanation(NAME),
    "explained": lambda store: store.explained(NAME),
}
#: What is read of trial 1 of it.
READS_OF_A_TRIAL: dict[str, Callable[[ExperimentStore], Any]] = {
    "trial": lambda store: store.trial(NAME, 1),
    "observations": lambda store: store.observations(NAME, 1),
    "evidence": lambda store: store.evidence(NAME, 1),
    "attempts": lambda store: store.attempts(NAME, 1),
    "attempt": lambda store: store.attempt(NAME, 1, 1),
    "latest_attempt": lambda store: store.latest_attempt(NAME, 1),
    "requested_by": lambda store: store.requested_by(NAME, 1),
    "attempt_by_key": lambda store: store.attempt_by_key(store.attempt(NAME, 1, 1).submission_key),
}
#: What is displayed of the experiment.
VIEWS: dict[str, Callable[[ExperimentViews], Any]] = {
    "owners": lambda views: views.owners(NAME),
    "page": lambda views: [line for line in views.page()[0] if line.summary.name == NAME],
    "line": lambda views: views.line(NAME),
    "completed": lambda views: [views.completed(NAME, since) for since in (None, 0.0)],
    "experiment": lambda views: [views.experiment(NAME, since, 2) for since in (None, 0.0)],
    "trials": lambda views: views.trials(NAME, 2, 2),
    "metric_curves": lambda views: views.metric_curves(NAME, "loss", most=10),
    "stepped_metrics": lambda views: views.stepped_metrics(NAME, [0, 1, 2]),
    "curves": lambda views: views.curves(NAME),
    "course": lambda views: views.course(NAME),
    "analyses": lambda views: views.analyses(NAME),
    "explanation": lambda views: views.explanation(NAME),
}
VIEWS_OF_A_TRIAL: dict[str, Callable[[ExperimentViews], Any]] = {
    "parameters": lambda views: views.parameters(NAME, 1),
    "trials": lambda views: views.trials(NAME, 2, 1),
    "metric_curves": lambda views: views.metric_curves(NAME, "loss", indexes=[1], most=10),
    "stepped_metrics": lambda views: views.stepped_metrics(NAME, [1]),
}
#: These are about the whole store. Tests of their own show what they return.
OF_THE_STORE = {"close", "dag_run_generation", "dag_ids", "experiments_of", "loop_of_task"}


@pytest.fixture
def content(store_url: str) -> Content:
    return Content(store_url)


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_a_call_changes_no_row_of_another_experiment_or_trial(store: ExperimentStore, content: Content) -> None:
    called: set[str] = set()
    lives = [Life(store, content, name, called) for name in (LEFT, RIGHT, NAME)]
    for life in lives:
        life.begin()
    for life in lives:
        life.end()
    lives[-1].delete()
    # A new method of the store needs a line here.
    assert called | READS.keys() | READS_OF_A_TRIAL.keys() | OF_THE_STORE >= public(ExperimentStore)
    assert VIEWS.keys() | VIEWS_OF_A_TRIAL.keys() | OF_THE_STORE >= public(ExperimentViews)


# A newest time is found among the wrong rows only when those of the others are newer.
@pytest.mark.parametrize("order", [(LEFT, RIGHT, NAME), (NAME, LEFT, RIGHT)])
@pytest.mark.parametrize("ended", [False, True])
def test_an_experiment_reads_the_same_without_the_others(
    store: ExperimentStore, content: Content, store_url: str, ended: bool, order: tuple[str, ...]
) -> None:
    for name in order:
        life = Life(store, content, name, set())
        life.begin()
        if ended:
            life.end()
    views = ExperimentViews(store_url)

    def read() -> dict[str, Any]:
        return {key: ask(store) for key, ask in READS.items()} | {
            f"view {key}": ask(views) for key, ask in VIEWS.items()
        }

    with_others = read()

    def of_others(table: sa.Table) -> sa.ColumnElement[bool] | None:
        column = table.c.get("experiment", table.c.get("name"))
        return None if column is None else column != NAME

    content.remove(of_others)
    assert {owner for owner, _ in content.rows()} == {NAME}
    assert with_others == read()
    assert with_others["trials"] and with_others["explained"] == 3


def test_a_trial_reads_the_same_without_the_others(store: ExperimentStore, content: Content, store_url: str) -> None:
    for name in (LEFT, NAME, RIGHT):
        Life(store, content, name, set()).begin()
    views = ExperimentViews(store_url)

    def read() -> dict[str, Any]:
        found = {key: ask(store) for key, ask in READS_OF_A_TRIAL.items()}
        return found | {f"view {key}": ask(views) for key, ask in VIEWS_OF_A_TRIAL.items()}

    with_others = read()

    def of_others(table: sa.Table) -> sa.ColumnElement[bool] | None:
        if table.name == "axtx_changes":
            return table.c.trial_index.is_not(None)
        if "trial_index" not in table.c:
            return None
        return sa.or_(table.c.experiment != NAME, table.c.trial_index != 1)

    content.remove(of_others)
    assert with_others == read()
    assert with_others["observations"] and with_others["attempts"]


def test_a_process_of_an_earlier_dag_run_of_the_id_counts_nothing(store: ExperimentStore) -> None:
    def generation(started_at: float, clear_number: int = 0) -> int:
        return store.dag_run_generation("site", "dag", "run", started_at=started_at, clear_number=clear_number)

    assert [generation(10.0), generation(20.0)] == [0, 1]
    assert [generation(10.0), generation(20.0)] == [0, 1]  # the first is of a run that was deleted meanwhile
    assert [generation(30.0, 1), generation(20.0, 0), generation(30.0, 1)] == [1, 1, 1]  # before and after a Clear


def test_a_dag_run_is_the_next_of_its_id_each_time_it_is_made_again(store: ExperimentStore, content: Content) -> None:
    def generation(run_id: str, started_at: float, clear_number: int = 0) -> int:
        return store.dag_run_generation("site", "dag", run_id, started_at=started_at, clear_number=clear_number)

    assert [generation(run_id, 10.0) for run_id in ("a", "b", "c")] == [0, 0, 0]
    before = content.rows()
    assert [generation("b", at) for at in (20.0, 20.0, 30.0, 40.0)] == [1, 1, 2, 3]
    # Airflow sets the start of a run that had ended anew when a user clears it, and counts the Clear.
    assert generation("b", 50.0, 2) == 3
    assert generation("b", 50.0, 3) == 3
    # The count of Clears begins again with another run.
    assert generation("b", 60.0, 1) == 4
    after = content.rows()
    assert len([label for label in before if before[label] != after[label]]) == 1
    assert [generation(run_id, 10.0) for run_id in ("a", "c")] == [0, 0]
