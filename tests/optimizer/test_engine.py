from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ax.api.client import Client
from ax.core.trial_status import TrialStatus
from ax.runners.torchx import APP_STATE_TO_TRIAL_STATUS as AX_TABLE
from torchx.specs import AppState

from airflow_provider_axtx.core.errors import InvalidInputError, TrialNotFoundError
from airflow_provider_axtx.core.records import ExperimentSnapshot, Observation, Proposal, TrialRecord
from airflow_provider_axtx.core.status import (
    APP_STATE_TO_TRIAL_STATUS,
    TERMINAL_TRIAL_STATUSES,
    TRIAL_STATUSES,
)
from airflow_provider_axtx.optimizer import engine as optimizer
from airflow_provider_axtx.spec.experiment import ExperimentSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # Ax and BoTorch warn of every numerical retry

X = {"type": "range", "name": "x", "bounds": [0, 1], "parameter_type": "float"}
Y = {"type": "range", "name": "y", "bounds": [0, 1], "parameter_type": "float"}
COIN = {"type": "choice", "name": "coin", "values": ["heads", "tails"], "parameter_type": "str"}
SEEDS = {"random_seed": 1, "initialization_random_seed": 1}


def facts_of(**changes: Any) -> ExperimentSnapshot:
    given = {"name": "e", "parameters": [X, Y], "objective": "-loss", "generation": SEEDS} | changes
    spec = ExperimentSpec.load(given)
    return ExperimentSnapshot(spec.name, "uid", spec.to_json(), None, 0)


def with_trial(
    facts: ExperimentSnapshot,
    parameters: Mapping[str, Any],
    status: str = "COMPLETED",
    metrics: Mapping[str, float | tuple[float, float]] | None = None,
    **changes: Any,
) -> ExperimentSnapshot:
    index = len(facts.trials)
    fact = replace(TrialRecord(index, f"{index}_0", dict(parameters), status, origin="attached"), **changes)
    pairs = {m: v if isinstance(v, tuple) else (v, None) for m, v in (metrics or {}).items()}
    new = tuple(Observation(index, m, mean, sem) for m, (mean, sem) in pairs.items())
    return replace(facts, trials=(*facts.trials, fact), observations=(*facts.observations, *new))


def with_proposal(facts: ExperimentSnapshot, proposal: Proposal, status: str = "RUNNING") -> ExperimentSnapshot:
    for new in proposal.trials:
        facts = with_trial(
            facts,
            new.parameters,
            status,
            arm_name=new.arm_name,
            generation_node=new.generation_node,
            generation=new.generation,
            origin="generated",
        )
    return replace(facts, generator_state=proposal.generator_state)


def observed(*points: tuple[float, float, float], **changes: Any) -> ExperimentSnapshot:
    """An experiment with completed attached trials ``(x, y, loss)``."""
    facts = facts_of(**changes)
    for x, y, loss in points:
        facts = with_trial(facts, {"x": x, "y": y}, metrics={"loss": loss})
    return facts


# ---- what Ax and this package have to agree on


def test_app_state_table_is_that_of_ax() -> None:
    theirs = {state.name: status.name for state, status in AX_TABLE.items()}
    assert theirs == APP_STATE_TO_TRIAL_STATUS
    assert set(APP_STATE_TO_TRIAL_STATUS) == {state.name for state in AppState}


def test_terminal_statuses_are_those_of_ax() -> None:
    # STALE is a candidate that was never run; nothing in this package makes one. DISPATCHED is deprecated.
    known = {status for status in TrialStatus if status.name not in ("STALE", "DISPATCHED")}
    assert {status.name for status in known} == TRIAL_STATUSES
    assert {status.name for status in known if status.is_terminal} == TERMINAL_TRIAL_STATUSES


# ---- propose


def test_the_first_trials_and_their_generation_facts() -> None:
    facts = facts_of()
    proposal = optimizer.propose(facts, 3)
    assert proposal.trials[0].parameters == {"x": 0.5, "y": 0.5}
    assert [t.arm_name for t in proposal.trials] == ["0_0", "1_0", "2_0"]
    assert [t.generation_node for t in proposal.trials] == ["CenterOfSearchSpace", "Sobol", "Sobol"]
    assert proposal.trials[1].generation == {"generator_key": "Sobol"}
    assert proposal.finished is None
    assert proposal.pending is None
    assert json.loads(json.dumps(proposal.generator_state)) == proposal.generator_state
    assert facts.generator_state is None


def test_the_state_stays_small() -> None:
    facts = facts_of(generation=SEEDS | {"method": "random_search"})
    for _ in range(12):
        facts = with_proposal(facts, optimizer.propose(facts, 1), "COMPLETED")
    assert len(json.dumps(facts.generator_state)) < 400
    assert len({tuple(t.parameters.values()) for t in facts.trials}) == 12


def test_parameters_have_their_own_python_types() -> None:
    parameters = [
        X,
        {"type": "range", "name": "i", "bounds": [1, 9], "parameter_type": "int"},
        {"type": "range", "name": "step", "bounds": [0, 1], "parameter_type": "float", "step_size": 0.25},
        {"type": "choice", "name": "b", "values": [True, False], "parameter_type": "bool"},
        {"type": "choice", "name": "c", "values": [4], "parameter_type": "int"},
        {"type": "derived", "name": "d", "expression_str": "2 * x + 1", "parameter_type": "float"},
    ]
    for trial in optimizer.propose(facts_of(parameters=parameters), 3).trials:
        kinds = {name: type(value) for name, value in trial.parameters.items()}
        assert kinds == {"x": float, "i": int, "step": float, "b": bool, "c": int, "d": float}
        assert trial.parameters["d"] == pytest.approx(2 * float(trial.parameters["x"]) + 1)


def test_dependent_parameters_exist_only_with_their_value() -> None:
    parameters = [
        {"type": "choice", "name": "kind", "values": ["a", "b"], "parameter_type": "str",
         "dependent_parameters": {"a": ["x"], "b": ["y"]}}, X, Y,
    ]  # fmt: skip
    trials = optimizer.propose(facts_of(parameters=parameters), 4).trials
    assert {tuple(sorted(t.parameters)) for t in trials} == {("kind", "x"), ("kind", "y")}
    assert all(("x" in t.parameters) == (t.parameters["kind"] == "a") for t in trials)


def test_trials_in_flight_count_whatever_the_store_calls_them() -> None:
    base = with_proposal(facts_of(), optimizer.propose(facts_of(), 3))
    answers = []
    for status in ("CANDIDATE", "STAGED", "RUNNING"):
        trials = tuple(replace(t, status=status) for t in base.trials)
        answers.append(optimizer.propose(replace(base, trials=trials), 1))
    assert answers[0] == answers[1] == answers[2]


def test_initialization_full_means_wait() -> None:
    facts = facts_of(generation=SEEDS | {"initialization_budget": 3})
    proposal = optimizer.propose(facts, 5)
    assert len(proposal.trials) == 3
    assert proposal.pending is not None
    assert "DataRequiredError" in proposal.pending
    assert proposal.finished is None
    again = optimizer.propose(with_proposal(facts, proposal), 1)
    assert again.trials == ()
    assert again.pending
    assert again.generator_state == proposal.generator_state


def test_failed_and_abandoned_trials_do_not_use_up_the_initialization() -> None:
    facts = facts_of(generation=SEEDS | {"initialization_budget": 3})
    facts = with_proposal(facts, optimizer.propose(facts, 3))
    trials = (replace(facts.trials[0], status="FAILED"), replace(facts.trials[1], status="ABANDONED"), facts.trials[2])
    assert len(optimizer.propose(replace(facts, trials=trials), 5).trials) == 2


def test_max_parallelism_means_wait() -> None:
    facts = facts_of(generation=SEEDS | {"max_parallelism": 2})
    proposal = optimizer.propose(facts, 4)
    assert len(proposal.trials) == 2
    assert proposal.pending == "2 trials are in flight and max_parallelism is 2"
    facts = with_proposal(facts, proposal)
    ended = replace(facts, trials=(replace(facts.trials[0], status="FAILED"), facts.trials[1]))
    assert len(optimizer.propose(ended, 4).trials) == 1


@pytest.mark.parametrize("method", ["random_search", "fast"])
def test_an_exhausted_space_means_finished(method: str) -> None:
    facts = facts_of(parameters=[COIN], generation=SEEDS | {"method": method})
    proposal = optimizer.propose(facts, 5)
    assert sorted(str(t.parameters["coin"]) for t in proposal.trials) == ["heads", "tails"]
    assert proposal.finished is not None
    assert "SearchSpaceExhausted" in proposal.finished
    assert proposal.pending is None


def test_the_point_of_a_failed_trial_is_free_again() -> None:
    facts = facts_of(parameters=[COIN], generation=SEEDS | {"method": "random_search"})
    facts = with_proposal(facts, optimizer.propose(facts, 2))
    failed = replace(facts, trials=(replace(facts.trials[0], status="FAILED"), facts.trials[1]))
    again = optimizer.propose(failed, 2)
    assert [t.parameters for t in again.trials] == [facts.trials[0].parameters]
    assert [t.arm_name for t in again.trials] == [facts.trials[0].arm_name]
    assert again.finished


@pytest.mark.parametrize("n", [0, -1, True, 1.0, "2"])
def test_a_wrong_number_of_trials_is_refused(n: Any) -> None:
    with pytest.raises(InvalidInputError, match="n must be"):
        optimizer.propose(facts_of(), n)


def test_a_constraint_relative_to_the_baseline_needs_one() -> None:
    facts = facts_of(outcome_constraints=["qps >= 0.9 * baseline"])
    with pytest.raises(InvalidInputError, match="no baseline trial"):
        optimizer.propose(facts, 1)
    facts = with_trial(
        facts, {"x": 0.1, "y": 0.1}, origin="baseline", arm_name="baseline", metrics={"loss": 1, "qps": 5}
    )
    assert len(optimizer.propose(facts, 1).trials) == 1


@pytest.mark.parametrize("status", ["FAILED", "ABANDONED", "EARLY_STOPPED"])
def test_no_trial_is_proposed_that_would_be_compared_with_a_baseline_without_a_value(status: str) -> None:
    facts = facts_of(outcome_constraints=["qps >= 0.9 * baseline"])
    facts = with_trial(facts, {"x": 0.1, "y": 0.1}, status, origin="baseline", arm_name="baseline")
    with pytest.raises(InvalidInputError, match=f"the baseline trial 0 is {status}"):
        optimizer.propose(facts, 1)


def test_an_early_stopped_trial_without_data_and_a_trial_of_two_names_are_rebuilt() -> None:
    facts = with_trial(facts_of(), {"x": 0.1, "y": 0.2}, "EARLY_STOPPED")
    # A failed trial's parameters may be proposed again: another trial, the same arm.
    facts = with_trial(facts, {"x": 0.3, "y": 0.2}, "FAILED")
    facts = with_trial(facts, {"x": 0.3, "y": 0.2}, "COMPLETED", {"loss": 1.0}, arm_name="1_0")
    assert optimizer.propose(facts, 1).trials[0].arm_name == "3_0"


def test_whole_numbers_of_a_float_parameter_make_the_same_arm() -> None:
    """JSON databases turn 1.0 into 1, and Ax would take the two for different points."""
    space = [{"type": "choice", "name": "c", "values": [1.0, 2.0], "parameter_type": "float", "is_ordered": True}]
    facts = facts_of(parameters=space, generation=SEEDS | {"method": "random_search"})
    facts = with_trial(facts, {"c": 1}, metrics={"loss": 1.0})
    proposal = optimizer.propose(facts, 2)
    assert [t.parameters for t in proposal.trials] == [{"c": 2.0}]
    assert proposal.finished


@pytest.mark.parametrize(
    "broken",
    [
        with_trial(facts_of(), {"x": 0.1, "z": 0.2}),
        with_trial(facts_of(), {"x": 0.1, "y": 0.2}, index=4),
    ],
)
def test_facts_that_do_not_fit_are_refused(broken: ExperimentSnapshot) -> None:
    with pytest.raises(InvalidInputError, match="does not fit"):
        optimizer.propose(broken, 1)


def test_a_state_of_another_ax_version_starts_from_the_trials(caplog: pytest.LogCaptureFixture) -> None:
    facts = observed(*[(i / 7, i / 9, float(i)) for i in range(6)])
    proposal = optimizer.propose(replace(facts, generator_state={"node": "Gone", "runs": []}), 2)
    assert [t.generation_node for t in proposal.trials] == [
        t.generation_node for t in optimizer.propose(facts, 2).trials
    ]
    assert "Gone" in caplog.text


# ---- validate


def test_validate_accepts_a_good_definition() -> None:
    optimizer.validate(ExperimentSpec.load(facts_of(outcome_constraints=["a.b/c-d <= 3"]).spec))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        # Names that only sympy's full list knows.
        ({"objective": "airyai"}, "airyai"),
        ({"outcome_constraints": ["m >= 3", "m <= 2"]}, "m"),
    ],
)
def test_validate_says_what_ax_refuses(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named) as caught:
        optimizer.validate(ExperimentSpec.load(facts_of(**changes).spec))
    assert "Ax" in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("objective", ["train:loss - cost", "top 1 accuracy - val-acc", "x.a-b, -précision"])
def test_ax_reads_the_names_of_metrics_as_we_do(objective: str) -> None:
    optimizer.validate(ExperimentSpec.load(facts_of(objective=objective).spec))


# ---- best


def test_the_best_observed_trial_is_that_of_ax() -> None:
    facts = observed((0.1, 0.1, 3.0), (0.2, 0.2, 0.1 + 0.2), (0.3, 0.3, 5.0))
    facts = with_trial(facts, {"x": 0.4, "y": 0.4}, "FAILED", {"loss": -9.0})
    facts = with_trial(facts, {"x": 0.5, "y": 0.4}, "RUNNING")
    assert optimizer.best(facts) == [
        {
            "trial_index": 1,
            "arm_name": "1_0",
            "parameters": {"x": 0.2, "y": 0.2},
            "metrics": {"loss": {"mean": 0.1 + 0.2, "sem": None}},
        }
    ]
    assert optimizer.client(facts).get_best_parameterization(use_model_predictions=False)[2] == 1


def test_the_best_trial_satisfies_the_outcome_constraints() -> None:
    facts = facts_of(outcome_constraints=["latency <= 10"], tracking_metrics=["note"])
    facts = with_trial(facts, {"x": 0.1, "y": 0.1}, metrics={"loss": 1.0, "latency": 99.0})
    with pytest.raises(TrialNotFoundError, match="outcome constraints"):
        optimizer.best(facts)
    facts = with_trial(facts, {"x": 0.2, "y": 0.1}, metrics={"loss": (2.0, 0.5), "latency": 9.0, "note": 7.0})
    (found,) = optimizer.best(facts)
    assert found["trial_index"] == 1
    assert found["metrics"]["loss"] == {"mean": 2.0, "sem": 0.5}
    assert found["metrics"]["note"] == {"mean": 7.0, "sem": None}


def test_no_best_trial_before_one_is_completed() -> None:
    for facts in (facts_of(), with_trial(facts_of(), {"x": 0.1, "y": 0.1}, "FAILED", {"loss": 1.0})):
        with pytest.raises(TrialNotFoundError, match="no completed trial"):
            optimizer.best(facts)


def test_a_nan_in_the_store_does_not_hide_the_best() -> None:
    facts = observed((0.1, 0.1, math.nan), (0.2, 0.2, 1.0))
    assert [found["trial_index"] for found in optimizer.best(facts)] == [1]


FRONTIER = [(0.9, 5.0), (0.8, 1.0), (0.7, 2.0), (0.95, 9.0), (0.1, 0.5)]


def frontier_facts(**changes: Any) -> ExperimentSnapshot:
    facts = facts_of(objective="acc, -cost", **changes)
    for i, (acc, cost) in enumerate(FRONTIER):
        facts = with_trial(facts, {"x": i / 5, "y": 0.5}, metrics={"acc": acc, "cost": cost})
    return with_trial(facts, {"x": 0.99, "y": 0.9}, "FAILED", {"acc": 2.0, "cost": -1.0})


def test_the_observed_pareto_frontier_is_all_of_it() -> None:
    found = optimizer.best(frontier_facts())
    assert [entry["trial_index"] for entry in found] == [0, 1, 3, 4]
    assert found[0]["metrics"] == {"acc": {"mean": 0.9, "sem": None}, "cost": {"mean": 5.0, "sem": None}}


def test_the_frontier_within_thresholds_is_that_of_ax() -> None:
    facts = frontier_facts(outcome_constraints=["acc >= 0.5", "cost <= 6"])
    theirs = optimizer.client(facts).get_pareto_frontier(use_model_predictions=False)
    assert [e["trial_index"] for e in optimizer.best(facts)] == sorted(index for _, _, index, _ in theirs) == [0, 1]


def test_best_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [(i / 7, (i * 3 % 7) / 7) for i in range(8)]
    facts = observed(*[(x, y, (x - 0.4) ** 2 + y) for x, y in points])
    (found,) = optimizer.best(facts, use_model_predictions=True)
    assert found["trial_index"] == optimizer.best(facts)[0]["trial_index"]
    assert found["metrics"]["loss"]["sem"] >= 0
    assert optimizer.best(facts, use_model_predictions=True) == [found]


def test_best_by_the_model_falls_back_on_observations_while_there_is_no_model() -> None:
    facts = observed((0.1, 0.1, 3.0), (0.2, 0.2, 1.0))
    (found,) = optimizer.best(facts, use_model_predictions=True)
    assert found["trial_index"] == 1
    assert found["metrics"]["loss"] == {"mean": 1.0, "sem": None}


# ---- client, export, logging


def test_the_client_holds_all_facts() -> None:
    facts = with_proposal(observed((0.1, 0.2, 3.0)), optimizer.propose(observed((0.1, 0.2, 3.0)), 1))
    facts = with_trial(facts, {"x": 0.4, "y": 0.4}, "ABANDONED", {"loss": 1e-300, "seconds": (2.0, 0.1)}, reason="late")
    table = optimizer.client(facts).summarize()
    assert list(table["trial_status"]) == ["COMPLETED", "RUNNING", "ABANDONED"]
    assert list(table["loss"])[2] == 1e-300
    assert list(table["seconds"])[2] == 2.0


def test_progressive_results_are_kept_by_step() -> None:
    facts = facts_of()
    facts = with_trial(facts, {"x": 0.4, "y": 0.4})
    facts = with_trial(facts, {"x": 0.5, "y": 0.4}, metrics={"loss": 1.7})
    steps = (Observation(0, "loss", 1.0, step=1), Observation(0, "loss", 2.0, step=2))
    (found,) = optimizer.best(replace(facts, observations=(*steps, *facts.observations)))
    assert (found["trial_index"], found["metrics"]["loss"]["mean"]) == (1, 1.7)
    (found,) = optimizer.best(replace(facts, observations=(*steps, *facts.observations, Observation(0, "loss", 1.5))))
    assert (found["trial_index"], found["metrics"]["loss"]["mean"]) == (0, 1.5)


def test_the_export_is_read_by_ax(tmp_path: Path) -> None:
    facts = observed((0.1, 0.2, 3.0), (0.3, 0.4, 1.0))
    facts = with_proposal(facts, optimizer.propose(facts, 1))
    target = tmp_path / "experiment.json"
    target.write_text("old")
    optimizer.export_json(facts, target)
    loaded = Client.load_from_json_file(str(target))
    assert loaded.get_best_parameterization(use_model_predictions=False)[2] == 1
    assert len(loaded.summarize()) == 3
    assert {path.name for path in tmp_path.iterdir()} - {"airflow"} == {"experiment.json"}


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    with pytest.raises(OSError, match="there"):
        optimizer.export_json(observed((0.1, 0.2, 3.0)), target)
    assert [p.name for p in tmp_path.iterdir() if p.name != "airflow"] == ["there"]


def test_ax_logs_through_standard_logging_only() -> None:
    """In a fresh interpreter: nothing on stderr at import, and later lines reach the root logger's handlers."""
    code = """
import logging, sys
import airflow_provider_axtx.optimizer.engine
assert logging.root.manager.disable == 0
assert logging.getLogger("ax").handlers == []
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(message)s")
logging.getLogger("ax.api.client").info("hello")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout == "ax.api.client hello\n"


def test_importing_the_engine_leaves_torch_threads_alone() -> None:
    code = """
import torch
torch.set_num_threads(1)
import airflow_provider_axtx.optimizer.engine
assert torch.get_num_threads() == 1
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_logger_of_ax_propagates_here_too() -> None:
    assert logging.getLogger("ax").propagate
