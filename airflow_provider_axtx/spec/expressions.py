"""Linear expressions over metrics or parameters, as Ax reads them: ``2*a - b <= 1``, ``acc, -latency``.

Ax parses them with sympy, which takes too long for a DAG file. This parser knows the same language and evaluates
nothing. ``for_ax`` writes an expression so that Ax reads the same names in it.

The name of a metric begins with a letter or ``_``. It may join words by ``.``, ``/``, ``:``, ``|``, ``@``, ``~``,
``-``, spaces and ``(word)``. A minus sign with spaces around it is a subtraction. The name of a parameter is one word.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from airflow_provider_axtx.spec.reserved_names import RESERVED

#: The word by which an outcome constraint refers to the baseline trial: ``qps >= 0.95 * baseline``.
BASELINE = "baseline"
#: Longest name of a metric; the store's columns are as wide.
MAX_METRIC_NAME = 250


def is_metric_name(name: str) -> bool:
    """Return whether a metric that is only recorded may have this name; every database can hold it."""
    return 0 < len(name) <= MAX_METRIC_NAME and name.isprintable() and name == name.strip()


# Ax takes a hyphen for a part of the name when at least two characters precede it: 'val-acc' is one name, 'a-b' is not.
_METRIC = r"~?[^\W\d]\w*(?:[./:|@~]\w+|(?<=[A-Za-z0-9_./:|@~][A-Za-z0-9_])-\w+| +\w+| *\(\w+\))*"
_PARAMETER = r"[^\W\d]\w*"
_TOKEN = (
    r"\s*(?:(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>{name})|(?P<operator>\*\*|//|[<>=!]=|[^\s]))"
)
_METRIC_TOKEN, _PARAMETER_TOKEN = (re.compile(_TOKEN.format(name=name)) for name in (_METRIC, _PARAMETER))
#: How Ax writes what sympy does not allow in a name.
_PLACEHOLDERS = {
    ".": "__dot__",
    "/": "__slash__",
    ":": "__colon__",
    "|": "__pipe__",
    "~": "__tilde__",
    " ": "__space__",
    "-": "__hyphen__",
    "@": "__at__",
    "(": "__lparen__",
    ")": "__rparen__",
}
_NOT_A_NUMBER = ("inf", "infinity", "nan")
_DIRECTION = re.compile(r"(?i)(?P<word>maxi?|mini?|maximi[sz]e|minimi[sz]e)\s*[ :(]\s*(?P<rest>.+?)\)?$")


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


class _Token(NamedTuple):
    kind: str
    text: str


def parse_objective(text: str) -> list[Linear]:
    """Return one linear combination for each objective of ``"a"``, ``"-a"``, ``"2*a + b"`` or ``"a, -b"``.

    :raises ExpressionError: when it is none of these.
    """
    for one in text.split(","):
        if found := _DIRECTION.fullmatch(one.strip()):
            minus = "-" if found["word"].lower().startswith("min") else ""
            goal = "minimized" if minus else "maximized"
            raise ExpressionError(
                "names a direction", f"write '{minus}{found['rest']}' if {found['rest']} is to be {goal}."
            )
    tree, names = _parse(text, _METRIC_TOKEN)
    parts = [_meaning(e, names) for e in (tree.elts if isinstance(tree, ast.Tuple) else [tree])]
    if not parts:
        raise ExpressionError("names no metric", "write the metric to maximize, or '-metric' to minimize it.")
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
    """Return the meaning of one linear expression over parameters, with or without a constant term.

    :raises ExpressionError: when it is not linear.
    """
    tree, names = _parse(text, _PARAMETER_TOKEN)
    return _meaning(tree, names)


def parse_parameter_constraint(text: str) -> Inequality:
    """Return the meaning of a linear constraint on parameters.

    :raises ExpressionError: when it is not one linear inequality with ``<=`` or ``>=``.
    """
    return _inequality(*_parse(text, _PARAMETER_TOKEN), baseline=False)


def parse_outcome_constraint(text: str) -> Inequality:
    """Return the meaning of a linear constraint on metrics, whose bound may be a multiple of ``baseline``.

    :raises ExpressionError: when it is not one linear inequality with ``<=`` or ``>=``.
    """
    return _inequality(*_parse(text, _METRIC_TOKEN), baseline=True)


def metric_name_problem(name: str) -> tuple[str, str] | None:
    """Return why a metric that is optimized or constrained cannot have this name, and the fix; None if it can."""
    try:
        found = parse_objective(name)
    except ExpressionError as error:
        return f"{error.text}, so it cannot be the name of a metric", "rename the metric."
    if len(found) != 1 or found[0].weights != {name: 1.0}:
        return "is an expression, not the name of a metric", "rename the metric."
    return None


def for_ax(text: str, *, parameters: bool = False) -> str:
    """Return an expression in which Ax reads the same names and numbers as this module.

    :param parameters: whether the names are those of parameters.
    :raises ExpressionError: when it cannot be read.
    """
    words = []
    for token in _tokens(text, _PARAMETER_TOKEN if parameters else _METRIC_TOKEN):
        if token.kind == "name":
            words.append("".join(_PLACEHOLDERS.get(character, character) for character in token.text))
        else:
            words.append(token.text.replace("_", ""))
    return " ".join(words)


def _inequality(tree: ast.expr, names: dict[str, str], *, baseline: bool) -> Inequality:
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


def _tokens(text: str, pattern: re.Pattern[str]) -> Iterator[_Token]:
    """Yield the numbers, names and operators of an expression."""
    position, stripped = 0, text.rstrip()
    while position < len(stripped):
        found = pattern.match(stripped, position)
        assert found is not None
        following = stripped[found.end() : found.end() + 2]
        kind, token = str(found.lastgroup), found.group(str(found.lastgroup))
        if kind == "number" and re.match(r"\w|\.", following):
            raise ExpressionError(
                f"has {token}{following[0]}…, where a number runs into a name",
                "write '*' between a number and a name; a name cannot begin with a digit.",
            )
        if kind == "name":
            token = re.sub(r" +", " ", token)
            _check_name(token, following, pattern is _METRIC_TOKEN)
        yield _Token(kind, token)
        position = found.end()


def _check_name(name: str, following: str, is_metric: bool) -> None:
    # 'log(loss)' would be a name to Ax; its writer means a function.
    word = name.partition("(")[0].strip()
    if word in RESERVED or keyword.iskeyword(word):
        raise ExpressionError(
            f"uses the name {word!r}, which Ax's expression language reserves", f"rename it, e.g. {word}_."
        )
    if name.lower() in _NOT_A_NUMBER:
        raise ExpressionError(f"uses {name!r} as a name", "write a finite number, or rename the metric.")
    if any(placeholder in name for placeholder in _PLACEHOLDERS.values()):
        raise ExpressionError(f"uses the name {name!r}, which Ax would change", "rename it without double underscores.")
    if len(name) > MAX_METRIC_NAME:
        raise ExpressionError(f"has a name of more than {MAX_METRIC_NAME} characters", "shorten the name.")
    if is_metric and not name.isidentifier() and not name.isascii():
        raise ExpressionError(
            f"uses the name {name!r}, whose letters Ax reads only in a single word",
            "use the letters a to z, or one word.",
        )
    if is_metric and re.match(r"-[^\W\d]", following):
        raise ExpressionError(
            f"has a hyphen after {name!r} that Ax would read as a minus sign",
            "put spaces around a minus sign; in a name, use '_' instead of the hyphen.",
        )


def _parse(text: str, pattern: re.Pattern[str]) -> tuple[ast.expr, dict[str, str]]:
    """Return the syntax tree of ``text`` with each name replaced by a placeholder, and what they stand for."""
    names: dict[str, str] = {}
    words = [
        names.setdefault(token.text, f"_{len(names)}") if token.kind == "name" else token.text
        for token in _tokens(text, pattern)
    ]
    by_placeholder = {short: name for name, short in names.items()}
    try:
        return ast.parse(" ".join(words), mode="eval").body, by_placeholder
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError(
            "cannot be read", "combine names and numbers with + - * and put a comma between two objectives."
        ) from None


def _meaning(node: ast.expr, names: dict[str, str]) -> Linear:
    try:
        linear = _linear(node, names)
    except RecursionError:
        raise ExpressionError("is nested too deeply", "write it as a plain sum.") from None
    except OverflowError:
        linear = Linear({}, math.inf)
    if not all(math.isfinite(number) for number in (*linear.weights.values(), linear.constant)):
        raise ExpressionError("has a number that is too large", "use numbers below 1e308.")
    return linear


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
        # Not the product with 1 / constant: 5 / 7 * a at 7 would be 5.000000000000001, or below 5.
        divided = {name: weight / right.constant for name, weight in left.weights.items()}
        return Linear(divided, left.constant / right.constant)
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
