"""The light parser of ``spec.expressions`` means by an expression what Ax means by it."""

from __future__ import annotations

import builtins
import keyword
import types

import pytest
import sympy
from ax.api.utils.instantiation.from_string import optimization_config_from_string
from ax.core.outcome_constraint import OutcomeConstraint
from ax.core.parameter_constraint import ParameterConstraint

from airflow_provider_axtx.spec.expressions import (
    ExpressionError,
    for_ax,
    metric_name_problem,
    parse_objective,
    parse_outcome_constraint,
    parse_parameter_constraint,
)
from airflow_provider_axtx.spec.reserved_names import RESERVED


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
        "5*a/7",
        "(3*a1 - b1) / 7",
        "0.5 * (a1 - b1)",
        "a - b",
        "val-acc",
        "val-acc - 2*b1",
        "x.a-b",
        "val/acc",
        "train.loss:last|p50 + m@eu",
        "a/2",
        "-5*metric_1 - -3*metric_2",
        "_private + a1",
        "1_000*a1 + 2_0.5*b1",
        "top 1 accuracy - 2*top-5 accuracy",
        "latency(p50), -latency (p99)",
        "~a + b~c",
        "précision",
        "损失 - 2*ε",
    ],
)
def test_objectives(text: str) -> None:
    objective = optimization_config_from_string(for_ax(text)).objective
    ours = parse_objective(text)
    weights = [pair for part in ours for pair in sorted(part.weights.items())]
    assert weights == objective.metric_weights
    assert (len(ours) > 1) == objective.is_multi_objective


@pytest.mark.parametrize(
    "text",
    [
        *("a + b <= 1", "x1 <= x2", "2*x1 - 3 >= x2", "x1 >= 0.5", "0.1 <= x1", "x1 + x1 - 2*x2 <= 4 - x1"),
        *("x1/4 <= 2", "x1-x2 <= 0", "1_000*x1 <= 2_000", "größe <= 3"),
    ],
)
def test_parameter_constraints(text: str) -> None:
    # Without for_ax, x1/4 and x1-x2 are names to Ax, as in "val/acc".
    theirs, ours = ParameterConstraint(inequality=for_ax(text, parameters=True)), parse_parameter_constraint(text)
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
        ("top 1 accuracy >= 0.9 * baseline", True),
        ("val-acc >= 1_000", False),
    ],
)
def test_outcome_constraints(text: str, relative: bool) -> None:
    ours = parse_outcome_constraint(text)
    theirs = OutcomeConstraint(expression=for_ax(text), metric_name_to_signature={name: name for name in ours.weights})
    assert dict(theirs.metric_weights) == ours.weights
    assert (theirs.op.name, theirs.relative) == ({"<=": "LEQ", ">=": "GEQ"}[ours.operator], relative)
    assert theirs.bound == pytest.approx((ours.bound - 1) * 100 if relative else ours.bound)


def test_every_name_that_sympy_takes_for_its_own_is_reserved() -> None:
    functions = {name for name, found in vars(builtins).items() if isinstance(found, types.BuiltinFunctionType)}
    taken = {name for name in {*dir(sympy), *functions, "max", "min"} if name.isidentifier() and name[0] != "_"}
    assert taken - set(keyword.kwlist) <= RESERVED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("()", "names no metric"),
        ("", "cannot be read"),
        ("r-squared", "hyphen after 'r'"),
        ("top k-accuracy", "hyphen after 'top k'"),
        ("2nd_loss", "runs into a name"),
        ("50ms", "runs into a name"),
        ("1.5.2*a", "runs into a name"),
        ("1e400*a", "too large"),
        ("1e300*1e300*a", "too large"),
        *((name, f"uses the name '{name}'") for name in ("max", "abs", "oo", "E", "lambda", "len", "a__dot__b")),
        ("inf", "uses 'inf' as a name"),
        ("NaN*a", "uses 'NaN' as a name"),
        ("a.é", "only in a single word"),
        ("a; b", "cannot be read"),
        ("acc%", "cannot be read"),
        ("x" * 251, "more than 250"),
        ("min:loss", "write '-loss'"),
        ("minimize loss", "write '-loss'"),
        ("max(acc)", "write 'acc'"),
        ("maximize val_acc", "write 'val_acc'"),
    ],
)
def test_what_ax_would_read_otherwise_is_refused(text: str, said: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_objective(text)
    assert said in f"{caught.value.text} {caught.value.fix}"


@pytest.mark.parametrize("name", ["-loss", "l1+l2", "2*a", "a, b", "r-squared", "max", "", " a"])
def test_not_the_name_of_a_metric(name: str) -> None:
    assert metric_name_problem(name) is not None


@pytest.mark.parametrize("name", ["loss", "val-acc", "top 1 accuracy", "latency(p50)", "précision", "x" * 250])
def test_the_name_of_a_metric(name: str) -> None:
    assert metric_name_problem(name) is None
