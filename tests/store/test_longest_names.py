"""The longest names that Airflow allows (250 characters for each id), and experiments with the longest of ours."""

from __future__ import annotations

import pytest

from airflow_provider_axtx.core.errors import ExperimentNotFoundError
from airflow_provider_axtx.core.experiment_name import MAX_EXPERIMENT_NAME
from airflow_provider_axtx.core.ownership import Ownership
from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.store.experiments import ExperimentStore

#: Four bytes each in UTF-8: what a database counts as bytes, it counts here.
WIDE = "\U0001d4b3" * MAX_EXPERIMENT_NAME
RUN = f"manual~{'r' * 240}:+1"
TASK = TaskIdentity("d" * 250, RUN, "t" * 250, 12345, 7, 9, "c" * 200, "i" * 200)


@pytest.mark.parametrize("name", ["e" * MAX_EXPERIMENT_NAME, WIDE, f"booth-{RUN[:94]}"], ids=["ascii", "wide", "run"])
def test_an_experiment_of_the_longest_task_is_recorded_whole(store: ExperimentStore, name: str) -> None:
    assert store.dag_run_generation(TASK.installation, TASK.dag_id, RUN, started_at=1.0, clear_number=0) == 0
    store.create(name, {"name": name}, created_by=TASK, shared_with=("o" * 250,))
    assert store.ownership(name) == Ownership("d" * 250, ("o" * 250,))
    store.start_loop(name, TASK.task_key, 3, {"name": name})
    assert store.loop(name, TASK.task_key) is not None
    with store.lease(name, TASK.task_key, 1.0) as lease:
        assert lease.taken
    proposal = Proposal((ProposedTrial("a" * 250, {"x": 1.0}, "n" * 250, {}),), {})
    added = store.add_trials(
        name, proposal, task_key=TASK.task_key, first_slot=0, expected_version=0, requested_by=TASK
    )
    assert store.granted(name, TASK.task_key) == added
    attempt = store.begin_attempt(name, 0, scheduler="s" * 250, identity=TASK, tracker_root="/r")
    assert store.attempt(name, 0, 1).identity == TASK
    assert (len(attempt.submission_key) <= 40, attempt.tracker_base) == (True, f"/r/{attempt.submission_key}")
    store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "m" * 250, 1.0)])
    assert store.summary(name).trial_counts == {"COMPLETED": 1}


def test_sharing_an_experiment_keeps_its_creator(store: ExperimentStore) -> None:
    store.create("e", {"name": "e"}, created_by=TASK)
    for shared_with in (("a", "b*"), (), ("c",)):
        store.share("e", shared_with)
        assert store.ownership("e") == Ownership(TASK.dag_id, shared_with)
    store.create("free", {"name": "free"})
    store.share("free", ())
    assert store.ownership("free") == Ownership()
    with pytest.raises(ExperimentNotFoundError):
        store.ownership("none")
    with pytest.raises(ExperimentNotFoundError):
        store.share("none", ("a",))
