"""When an experiment may be removed: its last activity, and what still holds it."""

from __future__ import annotations

import time

import pytest

from airflow_provider_axtx.core.errors import ExperimentNotFoundError, TrialStateError
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import SPEC, add

NAME, TASK = "digits", "dag/run/optimize/-1"


def test_the_last_activity_is_the_newest_of_creation_trials_and_requests(store: ExperimentStore) -> None:
    def active_since(before: float) -> bool:
        return before <= store.use(NAME).last_activity_at <= time.time()

    moments = [time.time()]
    store.create(NAME, SPEC)
    assert active_since(moments[-1])
    for what in (
        lambda: add(store, NAME),
        lambda: store.complete(NAME, 0, status="FAILED", reason="exit code 1"),
        lambda: store.steer(NAME, NewChange(Action.NOTE, "id", "vera", "cli", arguments={"text": "too low"})),
    ):
        moments.append(time.time())
        what()
        assert active_since(moments[-1])


def test_an_experiment_that_is_used_again_stays(store: ExperimentStore) -> None:
    store.create(NAME, SPEC)
    uid, chosen_at = store.uid(NAME), time.time()
    store.steer(NAME, NewChange(Action.PAUSE, "id", "vera", "cli"))
    with pytest.raises(TrialStateError, match="it has been used again meanwhile"):
        store.delete(NAME, uid, [], idle_since=chosen_at)
    store.delete(NAME, uid, [], idle_since=store.use(NAME).last_activity_at)
    with pytest.raises(ExperimentNotFoundError):
        store.use(NAME)


@pytest.mark.parametrize(("seconds", "open_because"), [(60.0, f"a task generates trials for it ({TASK})"), (0.0, None)])
def test_a_lease_holds_an_experiment_until_it_expires(
    store: ExperimentStore, seconds: float, open_because: str | None
) -> None:
    store.create(NAME, SPEC)
    with store.lease(NAME, TASK, seconds) as lease:
        assert lease.taken
        assert store.use(NAME).open_because == open_because
    assert store.use(NAME).open_because is None
