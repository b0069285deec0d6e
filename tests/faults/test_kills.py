"""The most dangerous moments of each victim; ``make faults`` has them all."""

from __future__ import annotations

import random

import pytest

from tests.faults.cases import Case, Templates, points_in_code, run_case, supervisor_cases
from tests.faults.play import Injection
from tests.faults.scenarios import SCENARIOS, SCRIPTS
from tests.faults.shapes import SHAPES

_SCENARIOS = {scenario.name: scenario for scenario in (*SCENARIOS, *SCRIPTS, *SHAPES)}
#: Between an effect and its record, on every path.
DANGEROUS = [
    ("creating worker", "store.after_create_commit"),
    ("generating worker", "generate.after_record"),
    ("optimizing worker", "store.after_start_loop_commit"),
    ("optimizing worker", "loop.after_generate"),
    ("optimizing worker", "torchx.after_submit"),
    ("optimizing worker", "loop.after_observe"),
    ("optimizing worker", "complete.after_record"),
    ("optimizing worker", "store.after_stop_loop_commit"),
    ("optimizing worker, stopped", "loop.after_decide"),
    ("submitting worker", "local.after_commit"),
    ("submitting worker", "torchx.after_submit"),
    ("submitting worker, fake", "torchx.after_submit"),
    ("run worker", "finalize.after_end_attempt"),
    ("run worker, app lost", "store.after_end_attempt_commit"),
    ("run worker, app lost", "store.after_begin_attempt_commit"),
    ("run worker, from the beginning", "submit.after_checkpoint_removed"),
    ("optimizing worker, best checkpoint", "checkpoints.after_removed"),
    ("waiting worker", "finalize.after_end_attempt"),
    ("waiting worker, app lost", "local.before_settle"),
    ("triggerer", "trigger.before_event"),
    ("resuming worker", "finalize.after_end_attempt"),
    ("completing worker", "store.after_complete_commit"),
    ("cancelling: timeout", "cancel.after_request"),
    ("cancelling: clear", "cancel.after_cancel"),
    ("cancelling: clear, fake", "store.after_finish_observed_commit"),
    ("cancelling: on_kill", "local.before_cancel"),
    ("cancelling: triggerer", "torchx.before_cancel"),
    ("reaper", "cancel.after_request"),
    ("reaper, fake", "torchx.after_cancel"),
    ("reap of one of two loops", "cancel.after_request"),
    ("reap of another deployment", "torchx.before_cancel"),
    ("generating for another deployment", "generate.after_record"),
    ("triggerer away over a deadline", "trigger.before_event"),
    ("resuming after a deadline", "finalize.after_end_attempt"),
    ("body: start_0", "body.after_begin"),
    ("body: start_0", "body.after_start"),
    ("body: complete_0", "complete.after_record"),
    ("body: complete_1", "store.after_end_attempt_commit"),
    ("body: cleared", "store.after_begin_attempt_commit"),
    ("body: reap", "store.after_end_attempt_commit"),
    ("script: optimizing worker", "complete.before_record"),
    ("script: submitting worker", "torchx.after_submit"),
    ("script: run worker", "finalize.after_end_attempt"),
    ("script: waiting worker", "store.after_end_attempt_commit"),
    ("script: completing worker", "complete.before_record"),
    ("script: completing worker, no result", "store.after_complete_commit"),
    ("script: cancelling: clear", "cancel.after_cancel"),
    ("script: reaper", "cancel.after_request"),
    ("supervisor", "supervisor.after_release"),
    ("supervisor, trial_retries", "supervisor.after_running"),
]


@pytest.mark.parametrize(("victim", "point"), DANGEROUS)
def test_nothing_is_lost_doubled_or_left(templates: Templates, victim: str, point: str) -> None:
    result = run_case(templates, Case(_SCENARIOS[victim], Injection(point), point))
    assert (result.findings, result.kills) == ([], 1)


def test_a_supervisor_killed_at_random_moments(templates: Templates) -> None:
    results = [run_case(templates, case) for case in supervisor_cases(3, random.Random())]
    assert [result.findings for result in results] == [[]] * 3


def test_the_points_named_here_are_in_the_code() -> None:
    assert {point for _, point in DANGEROUS} <= points_in_code()
