"""The light parser of ``core.expressions`` means by an expression what Ax means by it."""

from __future__ import annotations

import pytest
import sympy
from ax.api.utils.instantiation.from_string import optimization_config_from_string
from ax.core.outcome_constraint import OutcomeConstraint
from ax.core.parameter_constraint import ParameterConstraint

from airflow_provider_axtx.spec.expressions import RESERVED, parse_inequality, parse_objective


@pytest.mark.parametrize(
    "text",
    [
        "acc",
        "-loss",
        " - loss ",
        "2*a + b",
        "2 * a1 - 0.5*b1 + 1.5e-3 * c1",
        "acc, -latency",
        "acc,-latency, a1 - 2*b1",
        "-(a1 + b1) / 4",
        "0.5 * (a1 - b1)",
        "a-b",
        "val-acc",
        "val-acc - 2*b1",
        "x.a-b",
        "val/acc",
        "train.loss:last|p50 + m@eu",
        "a/2",
        "-5*metric_1 - -3*metric_2",
        "_private + a1",
    ],
)
def test_objectives(text: str) -> None:
    objective = optimization_config_from_string(text).objective
    ours = parse_objective(text)
    weights = [pair for part in ours for pair in sorted(part.weights.items())]
    assert weights == objective.metric_weights
    assert (len(ours) > 1) == objective.is_multi_objective


@pytest.mark.parametrize(
    "text",
    ["a + b <= 1", "x1 <= x2", "2*x1 - 3 >= x2", "x1 >= 0.5", "0.1 <= x1", "x1 + x1 - 2*x2 <= 4 - x1", "x1/4 <= 2"],
)
def test_parameter_constraints(text: str) -> None:
    # x1/4 is a name to Ax, as in "val/acc".
    theirs, ours = ParameterConstraint(inequality=text), parse_inequality(text)
    sign = 1.0 if ours.operator == "<=" else -1.0
    assert {name: sign * weight for name, weight in ours.weights.items()} == theirs.constraint_dict
    assert sign * ours.bound == theirs.bound


@pytest.mark.parametrize(
    ("text", "relative"),
    [
        ("qps >= 700", False),
        ("loss <= 0.5", False),
        ("0.5*ne1 + 0.5*ne2 >= 0.95", False),
        ("val/loss <= 1e-3", False),
        ("latency <= 0.95 * baseline", True),
        ("qps >= baseline", True),
    ],
)
def test_outcome_constraints(text: str, relative: bool) -> None:
    ours = parse_inequality(text, baseline=True)
    theirs = OutcomeConstraint(expression=text, metric_name_to_signature={name: name for name in ours.weights})
    assert dict(theirs.metric_weights) == ours.weights
    assert (theirs.op.name, theirs.relative) == ({"<=": "LEQ", ">=": "GEQ"}[ours.operator], relative)
    assert theirs.bound == pytest.approx((ours.bound - 1) * 100 if relative else ours.bound)


def test_reserved_names_are_those_of_sympy() -> None:
    assert set(dir(sympy)) >= RESERVED
