"""A scheduler that errs before and after it acts, lags and forgets: no trial fails for it, none runs twice."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.app_observation import LostAppPolicy
from airflow_provider_axtx.core.errors import SchedulerUnavailableError
from airflow_provider_axtx.core.records import AttemptRecord, Proposal, ProposedTrial, TaskIdentity
from airflow_provider_axtx.core.xcom import SubmittedTrial, Trial
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle import attempts
from airflow_provider_axtx.lifecycle.attempts import await_end, cancel_attempt, find_attempt, poll_attempt
from airflow_provider_axtx.lifecycle.complete import complete_trial, finalize
from airflow_provider_axtx.lifecycle.submit import AppRequest, submit_trial
from airflow_provider_axtx.store.experiments import ExperimentStore
from airflow_provider_axtx.triggers.poller import Poller
from tests.fakes.scheduler import FakeCluster
from tests.faults.world import COMPONENT, EXPERIMENT, SPEC, World

#: An app of this age counts as old, or as young.
_OLD, _YOUNG = LostAppPolicy(seconds=0.0, polls=3), LostAppPolicy(seconds=3600.0, polls=3)


class Rig:
    """A store with one trial and a fake scheduler, in this process."""

    def __init__(self, root: Path) -> None:
        self.world = World(root, f"sqlite:///{root / 'store.db'}", "fake")
        self.cluster: FakeCluster = self.world.cluster
        self.store = ExperimentStore(self.world.url)
        self.store.create(EXPERIMENT, SPEC)
        proposed = tuple(ProposedTrial(f"{n}_0", {"x": 0.1 * (n + 1)}, "Sobol", {"type": "RUN"}) for n in range(3))
        self.store.add_trials(EXPERIMENT, Proposal(proposed, None), task_key="t", first_slot=0, expected_version=0)
        self.launcher = TorchXLauncher("fake", scheduler_factories={"fake": self.cluster.factory})
        self.request = AppRequest(COMPONENT, {"folder": str(root)}, tracker_root=str(root / "tracker"))

    def submit(self, index: int = 0) -> SubmittedTrial:
        fact = self.store.trial(EXPERIMENT, index)
        trial = Trial(EXPERIMENT, index, fact.arm_name, fact.parameters)
        return submit_trial(self.store, self.launcher, trial, self.request, TaskIdentity("d", "r", f"submit_{index}"))

    def run(self, index: int = 0) -> AttemptRecord:
        run = self.store.latest_attempt(EXPERIMENT, index)
        assert run is not None
        return run

    def look(self, policy: LostAppPolicy, index: int = 0) -> str:
        return poll_attempt(self.store, self.launcher, self.run(index), policy).app_state

    def complete(self, run: SubmittedTrial) -> str:
        observed = poll_attempt(self.store, self.launcher, find_attempt(self.store, run), _YOUNG)
        assert observed.is_terminal
        done = complete_trial(self.store, finalize(self.store, find_attempt(self.store, run), observed))
        return str(done["trial_status"])


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    # The fake does not lag here, unless a test wants it: nothing to wait for.
    monkeypatch.setattr(attempts, "CLAIM_SECONDS", 0.0)
    return Rig(tmp_path)


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_submission_whose_answer_is_an_error(rig: Rig, after_effect: bool) -> None:
    rig.cluster.fail_next("schedule", after_effect=after_effect)
    with pytest.raises(SchedulerUnavailableError, match="failed to submit"):
        rig.submit()
    rig.cluster.fail_next("list")
    with pytest.raises(SchedulerUnavailableError, match="failed to look for"):
        rig.submit()  # nothing is submitted while nobody can say what is there
    run = rig.submit()
    assert [run.app_handle.rpartition("/")[2]] == list(rig.cluster.apps())
    rig.world.let_finish()
    assert rig.complete(run) == "COMPLETED"


def test_an_app_that_the_list_shows_late_is_adopted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "CLAIM_SECONDS", 30.0)
    rig.cluster.fail_next("schedule", after_effect=True)
    with pytest.raises(SchedulerUnavailableError):
        rig.submit()
    rig.cluster.hide_from_list(2)
    rig.submit()
    assert len(rig.cluster.apps()) == 1
    assert rig.cluster.calls("list") == 3


def test_three_observation_errors_in_a_row_fail_nothing(rig: Rig) -> None:
    run = rig.submit()
    rig.cluster.fail_next("describe", times=3)
    for _ in range(3):
        with pytest.raises(SchedulerUnavailableError):
            rig.look(_OLD)
    assert rig.look(_OLD) == "RUNNING"
    rig.world.let_finish()
    assert rig.complete(run) == "COMPLETED"


async def test_three_observation_errors_in_a_row_fail_nothing_in_the_triggerer(rig: Rig) -> None:
    run = rig.submit()
    rig.world.let_finish()
    rig.cluster.fail_next("describe", times=3)
    poller = Poller("fake", 0.001, rig.launcher.observe)
    observed = await poller.watch(run.app_handle, submitted_at=time.time() - 1000, policy=_OLD)
    assert (observed.app_state, rig.cluster.calls("describe")) == ("SUCCEEDED", 4)


def test_unknown_within_the_grace_fails_nothing(rig: Rig) -> None:
    run = rig.submit()
    rig.cluster.hide_next(10)
    assert [rig.look(_YOUNG) for _ in range(10)] == ["PENDING"] * 10
    assert rig.look(_YOUNG) == "RUNNING"
    # Old, but not unknown for so many looks in a row: seen in between, the count begins anew.
    for _ in range(2):
        rig.cluster.hide_next(2)
        assert [rig.look(_OLD) for _ in range(3)] == ["PENDING", "PENDING", "RUNNING"]
    rig.world.let_finish()
    assert rig.complete(run) == "COMPLETED"


def test_unknown_beyond_the_grace_is_lost(rig: Rig) -> None:
    rig.submit()
    (app_id,) = rig.cluster.apps()
    rig.cluster.forget(app_id)
    assert [rig.look(_OLD) for _ in range(2)] == ["PENDING"] * 2
    observed = poll_attempt(rig.store, rig.launcher, rig.run(), _OLD)
    assert (observed.app_state, observed.is_infrastructure_failure) == ("FAILED", True)
    outcome = finalize(rig.store, rig.run(), observed)
    trial = rig.store.trial(EXPERIMENT, 0)
    assert (outcome.trial_status, trial.status) == ("FAILED", "FAILED")
    assert (trial.reason or "").startswith("lost: the scheduler does not know the app")


async def test_unknown_beyond_the_grace_is_lost_in_the_triggerer(rig: Rig) -> None:
    run = rig.submit()
    (app_id,) = rig.cluster.apps()
    rig.cluster.forget(app_id)
    poller = Poller("fake", 0.001, rig.launcher.observe)
    observed = await poller.watch(run.app_handle, submitted_at=time.time(), policy=_OLD)
    assert (observed.app_state, observed.is_infrastructure_failure) == ("FAILED", True)
    assert observed.message.startswith("lost")
    assert rig.cluster.calls("describe") == 3


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_cancellation_whose_answer_is_an_error(rig: Rig, after_effect: bool) -> None:
    rig.submit()
    rig.cluster.fail_next("cancel", after_effect=after_effect)
    with pytest.raises(SchedulerUnavailableError):
        cancel_attempt(rig.store, rig.launcher, rig.run(), "timeout")
    assert rig.run().cancel_reason == "timeout"  # whoever comes next knows
    _, seen = await_end(rig.store, rig.launcher, cancel_attempt(rig.store, rig.launcher, rig.run(), "another"))
    assert (seen.app_state, seen.message) == ("CANCELLED", "timeout")
    assert [app["state"] for app in rig.cluster.apps().values()] == ["CANCELLED"]


def test_an_app_that_turns_up_after_its_run_was_cancelled_is_ended(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "CLAIM_SECONDS", 30.0)
    rig.cluster.fail_next("schedule", after_effect=True)
    with pytest.raises(SchedulerUnavailableError):
        rig.submit()
    rig.cluster.hide_from_list(3)
    _, seen = await_end(rig.store, rig.launcher, cancel_attempt(rig.store, rig.launcher, rig.run(), "reaped"))
    assert seen.app_state == "CANCELLED"
    assert [app["state"] for app in rig.cluster.apps().values()] == ["CANCELLED"]


def _weather(cluster: FakeCluster, chance: random.Random) -> None:
    for method in ("schedule", "describe", "list", "cancel"):
        cluster.fail_next(method, times=chance.choice((0, 0, 1, 2)), after_effect=chance.random() < 0.5)
    cluster.hide_next(chance.choice((0, 0, 1)))


@pytest.mark.parametrize("seed", range(5))
def test_any_weather(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)

    def insist(step: Any, *given: Any) -> Any:
        for _ in range(50):
            _weather(rig.cluster, chance)
            try:
                answer = step(*given)
            except SchedulerUnavailableError:
                continue
            if answer != "PENDING":
                return answer
        raise AssertionError(f"{step} never came through")

    runs = [insist(rig.submit, index) for index in range(3)]
    assert len(rig.cluster.apps()) == 3
    assert [insist(rig.look, _YOUNG, index) for index in range(3)] == ["RUNNING"] * 3
    rig.world.let_finish()
    assert [insist(rig.look, _YOUNG, index) for index in range(3)] == ["SUCCEEDED"] * 3
    _weather(rig.cluster, random.Random(0))
    rig.cluster.fail_next("describe", times=0)
    rig.cluster.hide_next(0)
    assert [rig.complete(run) for run in runs] == ["COMPLETED"] * 3
    requested = [run.to_json() for run in runs]
    assert rig.world.findings(requested, {}).said() == []
