"""The contract of trials: generating by compare-and-swap, completing, exact floats."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import (
    ExperimentNotFoundError,
    InvalidInputError,
    StoreConflictError,
    TrialNotFoundError,
    TrialStateError,
)
from airflow_provider_axtx.core.keys import dag_run_key, task_key
from airflow_provider_axtx.core.records import Observation, OpenTrial, Parameters, Proposal
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.store.material import SPEC, add, begin, experiment, proposal

TASK = "dag/run/generate/-1"
_random = random.Random(7)
FLOATS = [
    3.3e-12,
    0.1 + 0.2,
    1e308,
    5e-324,
    -0.0,
    0.0,
    -1.0,
    1 / 3,
    2.0**53,
    math.pi * 1e-200,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    *(struct.unpack("<d", struct.pack("<Q", _random.getrandbits(62)))[0] for _ in range(40)),
]


def bits(value: float | None) -> bytes:
    assert value is not None
    return struct.pack("<d", value)


def test_added_trials_come_back_as_they_were(store: ExperimentStore) -> None:
    store.create("digits", SPEC)
    parameters: Parameters = {"z": 0.1 + 0.2, "a": "text 'quoted' \x00 ü", "flag": True, "n": 2**60}
    first = replace(proposal().trials[0], parameters=parameters, generation={"key": "BO", "deep": {"x": 1e-300}})
    attached = replace(first, arm_name="custom", generation_node=None, origin="attached")
    state = {"big": "x" * 100_000, "seed": 0.1}
    added = store.add_trials(
        "digits", Proposal((first, attached), state), task_key=TASK, first_slot=0, expected_version=0
    )
    assert store.trials("digits") == added == [store.trial("digits", 0), store.trial("digits", 1)]
    assert (added[0].index, added[0].arm_name, added[0].status) == (0, "0_0", "CANDIDATE")
    assert list(added[0].parameters.items()) == list(parameters.items())
    assert added[0].generation == first.generation
    assert (added[1].generation_node, added[1].origin) == (None, "attached")
    assert store.snapshot("digits").generator_state == state


def test_indexes_go_on_without_gaps(store: ExperimentStore) -> None:
    name = experiment(store, 2)
    add(store, name, 3, task="other")
    assert [trial.index for trial in store.trials(name)] == [0, 1, 2, 3, 4]
    assert store.snapshot(name).version == 2


def test_a_stale_version_is_refused_and_changes_nothing(store: ExperimentStore) -> None:
    name = experiment(store)
    before = store.snapshot(name)
    with pytest.raises(StoreConflictError, match="version 1, expected 0"):
        store.add_trials(name, proposal(first=9), task_key="other", first_slot=0, expected_version=0)
    assert store.snapshot(name) == before


def test_the_same_request_gets_its_own_trials_again(store: ExperimentStore) -> None:
    name = experiment(store)
    add(store, name, 1, task="other")
    again = store.add_trials(name, proposal(1, first=5), task_key=TASK, first_slot=0, expected_version=0)
    assert again == store.granted(name, TASK) == [store.trial(name, 0)]
    assert len(store.trials(name)) == 2


def test_a_request_that_was_granted_in_part_proposes_anew(store: ExperimentStore) -> None:
    name = experiment(store, 1)
    with pytest.raises(StoreConflictError):
        store.add_trials(name, proposal(3), task_key=TASK, first_slot=0, expected_version=0)
    add(store, name, 2)
    assert [trial.index for trial in store.granted(name, TASK)] == [0, 1, 2]


@pytest.mark.parametrize("length", [5, 250])
def test_granted_in_slot_order_beyond_one_look(store: ExperimentStore, length: int) -> None:
    task = task_key(dag_run_key("d" * length, "r" * length), "t" * length, 3)
    store.create("digits", SPEC)
    add(store, "digits", 60, task=task)
    add(store, "digits", 1, task=task + "1")
    add(store, "digits", 5, task=task)
    assert [trial.index for trial in store.granted("digits", task)] == [*range(60), *range(61, 66)]
    assert [trial.index for trial in store.granted("digits", task, first_slot=7)] == [*range(7, 60), *range(61, 66)]
    assert store.granted("digits", "nobody") == []


def test_an_empty_proposal_changes_nothing(store: ExperimentStore) -> None:
    name = experiment(store)
    before = store.snapshot(name)
    assert store.add_trials(name, Proposal((), {"x": 1}), task_key="t", first_slot=0, expected_version=1) == []
    assert store.snapshot(name) == before


def test_adding_to_an_unknown_experiment(store: ExperimentStore) -> None:
    with pytest.raises(ExperimentNotFoundError):
        store.add_trials("nope", proposal(), task_key="t", first_slot=0, expected_version=0)


def test_unknown_trials(store: ExperimentStore) -> None:
    name = experiment(store)
    for call in (
        lambda: store.trial(name, 1),
        lambda: store.observations(name, 1),
        lambda: store.evidence(name, 1),
        lambda: store.complete(name, 1, status="FAILED"),
    ):
        with pytest.raises(TrialNotFoundError, match="no trial 1"):
            call()


def test_floats_are_exact(store: ExperimentStore) -> None:
    name = experiment(store)
    given = [Observation(0, f"m{i:03}", x, abs(x), float(i)) for i, x in enumerate(FLOATS)]
    store.complete(name, 0, status="COMPLETED", observations=given)
    kept = store.observations(name, 0)
    # MariaDB has no negative zero.
    negative_zero = 0.0 if store._db.backend == "mysql" else -0.0
    assert [bits(o.mean) for o in kept] == [bits(negative_zero if str(x) == "-0.0" else x) for x in FLOATS]
    assert [bits(o.sem) for o in kept] == [bits(abs(x)) for x in FLOATS]
    store.complete(name, 0, status="COMPLETED", observations=given)  # the same outcome: a no-op, not an error


def test_whole_numbers_become_floats(store: ExperimentStore) -> None:
    name = experiment(store)
    store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "m", 3, 0, 1)])
    (kept,) = store.observations(name, 0)
    assert [type(value) for value in (kept.mean, kept.sem, kept.step)] == [float, float, float]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1.0", True, 10**400])
@pytest.mark.parametrize("field", ["mean", "sem", "step"])
def test_values_that_are_not_finite_numbers(store: ExperimentStore, field: str, bad: Any) -> None:
    name = experiment(store)
    observation = replace(Observation(0, "loss", 1.0), **{field: bad})
    with pytest.raises(InvalidInputError, match="metric 'loss'"):
        store.complete(name, 0, status="COMPLETED", observations=[observation])
    assert store.trial(name, 0).status == "CANDIDATE"


@pytest.mark.parametrize(
    "given",
    [
        [Observation(1, "m", 1.0)],
        [Observation(0, "", 1.0)],
        [Observation(0, "m" * 251, 1.0)],
        [Observation(0, "m", 1.0), Observation(0, "m", 2.0)],
        [Observation(0, "m", 1.0, step=1), Observation(0, "n", 1.0), Observation(0, "m", 2.0, step=1.0)],
    ],
)
def test_observations_that_cannot_be_kept(store: ExperimentStore, given: list[Observation]) -> None:
    name = experiment(store)
    with pytest.raises(InvalidInputError):
        store.complete(name, 0, status="COMPLETED", observations=given)
    assert store.trial(name, 0).status == "CANDIDATE"


@pytest.mark.parametrize("status", ["RUNNING", "STAGED", "CANDIDATE", "completed", "SUCCEEDED"])
def test_a_status_that_is_not_terminal(store: ExperimentStore, status: str) -> None:
    name = experiment(store)
    with pytest.raises(InvalidInputError, match=status):
        store.complete(name, 0, status=status)


def test_completing_keeps_evidence_and_reason(store: ExperimentStore) -> None:
    name = experiment(store)
    evidence = {"loss": math.inf, "note": "\x00"}
    done = store.complete(name, 0, status="FAILED", reason="loss is inf\x00\ud800", evidence=evidence)
    assert (done.status, done.reason) == ("FAILED", "loss is inf\ufffd?")
    assert store.evidence(name, 0) == evidence
    assert store.complete(name, 0, status="FAILED", reason="other words").reason == done.reason


def test_another_outcome_needs_overwrite(store: ExperimentStore) -> None:
    name = experiment(store)
    store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "m", 1.0)], evidence={"raw": 1})
    for status, given in (("FAILED", [Observation(0, "m", 1.0)]), ("COMPLETED", [Observation(0, "m", 2.0)])):
        with pytest.raises(TrialStateError, match="COMPLETED already"):
            store.complete(name, 0, status=status, observations=given)
    assert store.observations(name, 0) == [Observation(0, "m", 1.0)]
    changed = store.complete(name, 0, status="FAILED", reason="wrong units", overwrite=True)
    assert (changed.status, changed.reason) == ("FAILED", "wrong units")
    assert store.observations(name, 0) == []
    assert store.evidence(name, 0) == {"raw": 1}


def test_open_trials_of_a_dag_run_and_of_an_experiment(store: ExperimentStore) -> None:
    first, second = experiment(store, 1, "a"), experiment(store, 1, "b")
    task = task_key(dag_run_key("dag", "manual__1"), "generate", -1)
    add(store, first, 3, task=task)
    begin(store, first, 1)
    store.complete(first, 2, status="FAILED")
    dag_run = dag_run_key("dag", "manual__1")
    mine = [OpenTrial(first, 1, dag_run), OpenTrial(first, 3, dag_run)]
    assert store.open_trials(dag_run=dag_run) == mine
    assert store.open_trials(experiment=first) == [OpenTrial(first, 0, "dag"), *mine]
    assert store.open_trials(dag_run=dag_run, experiment=second) == []
    assert store.open_trials() == [OpenTrial(first, 0, "dag"), *mine, OpenTrial(second, 0, "dag")]


def test_completing_does_not_move_the_version(store: ExperimentStore) -> None:
    name = experiment(store, 2)
    read = store.snapshot(name)
    store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "m", 1.0)])
    added = store.add_trials(name, proposal(first=2), task_key="t", first_slot=0, expected_version=read.version)
    assert [trial.index for trial in added] == [2]


def test_progress_is_recorded_once_and_stays(store: ExperimentStore) -> None:
    name = experiment(store)
    steps = [Observation(0, metric, 0.1 + 0.2, None, step) for step in (1.0, 10.0, 2.0) for metric in ("b", "B", "a")]
    store.record_progress(name, 0, steps[:4])
    store.record_progress(name, 0, [replace(steps[0], mean=7.0), *steps[2:]])  # what was recorded first stays
    store.record_progress(name, 0, steps)
    assert store.observations(name, 0) == sorted(steps, key=lambda o: (o.metric, o.step))
    final = [Observation(0, "a", 1.0, 0.5), Observation(0, "B", -0.0)]
    for _ in range(2):
        assert store.complete(name, 0, status="COMPLETED", observations=final).status == "COMPLETED"
    store.record_progress(name, 0, [Observation(0, "a", 1.0, None, 99.0)])
    found = store.observations(name, 0)
    assert found == list(store.snapshot(name).observations)
    assert [(o.metric, o.step) for o in found if o.metric != "b"] == [
        *(("B", 1.0), ("B", 2.0), ("B", 10.0), ("B", None)),
        *(("a", 1.0), ("a", 2.0), ("a", 10.0), ("a", None)),
    ]


def test_a_trial_is_stopped_early_with_its_data_kept(store: ExperimentStore) -> None:
    name = experiment(store)
    steps = [Observation(0, "m", 1.0, None, 1.0), Observation(0, "m", 2.0, None, 2.0)]
    store.record_progress(name, 0, steps)
    for _ in range(2):
        store.complete(name, 0, status="EARLY_STOPPED", reason="the worst")
    assert store.observations(name, 0) == steps
    with pytest.raises(TrialStateError):
        store.complete(name, 0, status="EARLY_STOPPED", observations=[Observation(0, "m", 3.0, None, 3.0)])
    store.complete(name, 0, status="COMPLETED", observations=[Observation(0, "m", 9.0)], overwrite=True)
    assert store.observations(name, 0) == [*steps, Observation(0, "m", 9.0)]


def test_progress_that_cannot_be_kept(store: ExperimentStore) -> None:
    name = experiment(store)
    twice = [Observation(0, "m", 1.0, None, 1.0), Observation(0, "m", 2.0, None, 1.0)]
    for given in ([Observation(0, "m", 1.0)], [Observation(0, "m", math.nan, None, 1.0)], twice):
        with pytest.raises(InvalidInputError):
            store.record_progress(name, 0, given)
    assert store.observations(name, 0) == []
