"""Linear expressions over metrics or parameters, as Ax reads them: ``2*a - b <= 1``, ``acc, -latency``.

Ax parses them with sympy, which takes too long for a DAG file. This parser knows the same language (a metric name may
join words by ``.``, ``/``, ``:``, ``|``, ``@`` and ``-``; spaces around a minus sign make it a subtraction) and
evaluates nothing. What it lets through is parsed by Ax itself when the experiment is created.
"""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass

#: The word by which an outcome constraint refers to the baseline trial: ``qps >= 0.95 * baseline``.
BASELINE = "baseline"

# Ax takes a hyphen for a part of the name when at least two characters precede it: 'val-acc' is one name, 'a-b' is not.
_NAME = r"[A-Za-z_]\w*(?:[./:|@]\w+|(?<=[\w./:|@]\w)-\w+)*"
_TOKEN = re.compile(rf"(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|(?P<name>{_NAME})", re.ASCII)

#: Names that sympy, which Ax hands the expression to, takes for its own; the ones that people do choose.
_RESERVED = (
    "E I N O Q S beta binomial cancel core degree det diff exp factor false field flatten floor gamma group im invert "
    "latex limit li log logic monic ones pi plot poly prime product python rad re refine root shape sign sin "
    "solve sqrt take tan tensor test trace true trunc use var zeros zeta"
)
RESERVED = frozenset(_RESERVED.split())


class ExpressionError(ValueError):
    """What is wrong with an expression; ``fix`` says what to write instead."""

    def __init__(self, text: str, fix: str) -> None:
        super().__init__(text)
        self.text = text
        self.fix = fix


@dataclass(frozen=True)
class Linear:
    """A linear combination: weight of each name, without zero weights, and the constant term."""

    weights: dict[str, float]
    constant: float = 0.0


@dataclass(frozen=True)
class Inequality:
    """``left <= right`` or ``left >= right`` with all names moved to the left.

    :param weights: weight of each name.
    :param operator: ``<=`` or ``>=``.
    :param bound: the constant on the right.
    :param relative: whether the bound is a multiple of the baseline trial's value.
    """

    weights: dict[str, float]
    operator: str
    bound: float
    relative: bool = False


def parse_objective(text: str) -> list[Linear]:
    """Return one linear combination for each objective of ``"a"``, ``"-a"``, ``"2*a + b"`` or ``"a, -b"``.

    :raises ExpressionError: when it is none of these.
    """
    tree, names = _parse(text)
    parts = [_meaning(e, names) for e in (tree.elts if isinstance(tree, ast.Tuple) else [tree])]
    seen: set[str] = set()
    for part in parts:
        if part.constant:
            raise ExpressionError("has a constant term", "only metrics can be optimized: remove the number.")
        if not part.weights:
            raise ExpressionError("names no metric", "write the metric to maximize, or '-metric' to minimize it.")
        if seen & set(part.weights):
            raise ExpressionError("names a metric more than once", "name each metric once, in one objective.")
        seen.update(part.weights)
    return parts


def parse_linear(text: str) -> Linear:
    """Return the meaning of one linear expression with or without a constant term.

    :raises ExpressionError: when it is not linear.
    """
    tree, names = _parse(text)
    return _meaning(tree, names)


def parse_inequality(text: str, *, baseline: bool = False) -> Inequality:
    """Return the meaning of a linear constraint.

    :param baseline: whether the bound may be a multiple of ``baseline``.
    :raises ExpressionError: when it is not one linear inequality with ``<=`` or ``>=``.
    """
    tree, names = _parse(text)
    if not isinstance(tree, ast.Compare):
        raise ExpressionError("is not an inequality", "write 'left <= right' or 'left >= right'.")
    if len(tree.ops) != 1:
        raise ExpressionError("has more than one comparison", "split it into one constraint for each comparison.")
    if not isinstance(tree.ops[0], (ast.LtE, ast.GtE)):
        raise ExpressionError("compares with something else than <= or >=", "Ax knows <= and >= only.")
    left, right = (_meaning(side, names) for side in (tree.left, tree.comparators[0]))
    weights = _add(left.weights, right.weights, -1.0)
    bound = right.constant - left.constant
    relative = baseline and BASELINE in weights
    if relative:
        if bound:
            raise ExpressionError("mixes a number with the baseline", "write the bound as '<number> * baseline'.")
        bound = -weights.pop(BASELINE)
    if not weights:
        raise ExpressionError("compares only numbers", "name what is constrained.")
    return Inequality(weights, "<=" if isinstance(tree.ops[0], ast.LtE) else ">=", bound, relative)


def _parse(text: str) -> tuple[ast.expr, dict[str, str]]:
    """Return the syntax tree of ``text`` with each name replaced by a placeholder, and what they stand for."""
    names: dict[str, str] = {}

    def placeholder(found: re.Match[str]) -> str:
        if found["name"] is None:
            return found[0]
        if found[0] in RESERVED or keyword.iskeyword(found[0]):
            raise ExpressionError(
                f"uses the name {found[0]!r}, which Ax's expression language reserves", f"rename it, e.g. {found[0]}_."
            )
        return names.setdefault(found[0], f"_{len(names)}")

    replaced = _TOKEN.sub(placeholder, text.strip())
    by_placeholder = {short: name for name, short in names.items()}
    try:
        return ast.parse(replaced, mode="eval").body, by_placeholder
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError(
            "cannot be read", "combine names and numbers with + - * and put a comma between two objectives."
        ) from None


def _meaning(node: ast.expr, names: dict[str, str]) -> Linear:
    try:
        return _linear(node, names)
    except RecursionError:
        raise ExpressionError("is nested too deeply", "write it as a plain sum.") from None


def _linear(node: ast.expr, names: dict[str, str]) -> Linear:
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as value):
            return Linear({}, float(value))
        case ast.Name(id=name) if name in names:
            return Linear({names[name]: 1.0})
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _scaled(_linear(operand, names), -1.0)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _linear(operand, names)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as operator, right=right):
            return _sum(_linear(left, names), _linear(right, names), -1.0 if isinstance(operator, ast.Sub) else 1.0)
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as operator, right=right):
            return _product(_linear(left, names), _linear(right, names), isinstance(operator, ast.Div))
        case _:
            pass
    raise ExpressionError("is not linear", "use plain names, numbers, +, - and multiplication by a number only.")


def _product(left: Linear, right: Linear, divide: bool) -> Linear:
    if divide:
        if right.weights or not right.constant:
            raise ExpressionError("is not linear", "divide by a number other than 0 only.")
        return _scaled(left, 1.0 / right.constant)
    if left.weights and right.weights:
        raise ExpressionError("is not linear", "multiply by a number only, and put spaces around a minus sign.")
    return _scaled(left, right.constant) if left.weights else _scaled(right, left.constant)


def _scaled(value: Linear, factor: float) -> Linear:
    return Linear(_add({}, value.weights, factor), value.constant * factor)


def _sum(left: Linear, right: Linear, sign: float) -> Linear:
    return Linear(_add(left.weights, right.weights, sign), left.constant + sign * right.constant)


def _add(left: dict[str, float], right: dict[str, float], factor: float) -> dict[str, float]:
    names = dict.fromkeys((*left, *right))
    total = {name: left.get(name, 0.0) + factor * right.get(name, 0.0) for name in names}
    return {name: weight for name, weight in total.items() if weight}
