"""The source of a function, so that another process can run it without this DAG file."""

from __future__ import annotations
import __future__

import ast
import base64
import builtins
import dis
import inspect
import json
import textwrap
import types
import zlib
from collections.abc import Callable
from typing import Any

from airflow_provider_axtx.core.errors import InvalidInputError


def packed(value: Any) -> str:
    """Return a JSON value as one word of letters: no template, shell or scheduler changes it."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(value).encode(), 9)).decode()


def unpacked(word: str) -> Any:
    """Return the JSON value that ``packed`` was given."""
    return json.loads(zlib.decompress(base64.urlsafe_b64decode(word)))


def reference_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return how a process imports a function: ``{"module": ..., "name": ...}``.

    :raises InvalidInputError: it is not a function of a module.
    """
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not name.isidentifier() or module in ("", "__main__") or module.startswith("unusual_prefix_"):
        raise InvalidInputError(
            f"The function {name or function!r} cannot be imported by another process.",
            fix="leave by_reference out, or put the function at the top level of a module that the app can import.",
        )
    return {"module": module, "name": name}


def source_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the source of a function without its decorators: ``{"source": ..., "name": ...}``.

    :raises InvalidInputError: the source cannot stand alone: it uses names of its module or of an enclosing function.
    """
    name = getattr(function, "__name__", "")
    try:
        text = textwrap.dedent(inspect.getsource(function))
        (node,) = ast.parse(text).body
    except (OSError, TypeError, SyntaxError, ValueError) as error:
        raise _unusable(name, f"its source is not known: {error}") from error
    if not isinstance(node, ast.FunctionDef):
        raise _unusable(name, "it is not an ordinary function (def)")
    outside = sorted({*function.__code__.co_freevars, *_globals_of(function.__code__)})
    if outside:
        raise _unusable(name, f"it uses {', '.join(outside)} from outside")
    source = "\n".join(text.splitlines()[node.lineno - 1 :]) + "\n"
    try:
        exec(compile_function(source, name), {})
    except Exception as error:
        raise _unusable(name, f"its definition does not stand alone: {type(error).__name__}: {error}") from error
    return {"source": source, "name": name}


def _globals_of(code: types.CodeType) -> set[str]:
    """Return the names that a function, or one inside it, takes from its module."""
    inner = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    used = {one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    used -= {name for name in used if hasattr(builtins, name) or name.startswith("__")}
    return used.union(*map(_globals_of, inner))


def compile_function(source: str, name: str) -> Any:
    """Return the code of a definition whose annotations are not evaluated: their names need not exist."""
    flag = __future__.annotations.compiler_flag
    return compile(source, f"<{name}>", "exec", flags=flag, dont_inherit=True)


def _unusable(name: str, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"The function {name} cannot run in another process: {why}.",
        fix="import and define inside the function what it needs, pass it as an argument, or move the function to a "
        "module that the app can import and set by_reference=True.",
    )
