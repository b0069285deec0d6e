"""The shapes without a kill, and workers that are asked to stop: nothing is lost, doubled or left."""

from __future__ import annotations

import random

import pytest

from tests.faults.cases import Case, Templates, profile, run_case, stopping_cases
from tests.faults.play import Injection
from tests.faults.scenarios import Scenario
from tests.faults.shapes import SHAPES


@pytest.mark.parametrize("scenario", SHAPES, ids=lambda scenario: scenario.name)
def test_a_shape_leaves_nothing(templates: Templates, scenario: Scenario) -> None:
    assert run_case(templates, Case(scenario, Injection(), "nothing", must_kill=False)).findings == []


@pytest.mark.thorough
@pytest.mark.parametrize("scenario", SHAPES, ids=lambda scenario: scenario.name)
def test_a_shape_whose_lines_are_counted_leaves_nothing(templates: Templates, scenario: Scenario) -> None:
    _, results = profile(templates, scenario)
    assert [result.findings for result in results] == [[], []]


@pytest.mark.parametrize("case", stopping_cases(1, random.Random()), ids=lambda case: case.scenario.name)
def test_a_worker_that_is_asked_to_stop_leaves_nothing(templates: Templates, case: Case) -> None:
    assert run_case(templates, case).findings == []
