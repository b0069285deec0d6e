"""From a component reference to its function and signature."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from torchx.specs import AppDef
from torchx.specs.finder import ComponentNotFoundException, get_component, get_components

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.launcher.allowed_components import check_allowed, check_own, is_file
from airflow_provider_axtx.launcher.shipped import SHIPPED

_HOW = (
    "name a registered component (utils.booth), a file and function (components.py:trainer), an import path and "
    "function (my_pkg.components:trainer), or pass the function itself."
)


def load_function(reference: object, allowed: Sequence[str] | None) -> tuple[str, Callable[..., Any]]:
    """Return the name for messages and the function of a component reference.

    :param reference: as in ``components.load_component``.
    :param allowed: as in ``components.load_component``.
    :raises InvalidInputError: it names no component, or one that is not allowed.
    """
    if callable(reference):
        return _function_name(reference), reference
    if not isinstance(reference, str) or not reference.strip():
        raise InvalidInputError(f"component must be a reference or a function, not {reference!r}.", fix=_HOW)
    place, colon, name = reference.strip().rpartition(":")
    if not colon:
        check_allowed(reference, "registered", [("", name)], allowed)
        function = _registered(name)
    elif not place or not name.isidentifier():
        # Nor a dotted name: a pattern that allows a module must not reach the modules that it imports.
        raise InvalidInputError(f"component {reference!r} does not name a file or module and a function.", fix=_HOW)
    elif is_file(place):
        path = _find_file(reference, place)
        check_allowed(reference, "file", [(os.path.normpath(place), name), (str(path), name)], allowed)
        module = _load_file(reference, path)
        function = _member(reference, module, name)
        check_own(reference, module.__name__, function, allowed)
    else:
        check_allowed(reference, "module", [(place, name)], allowed)
        function = _member(reference, _import(reference, place), name)
        check_own(reference, place, function, allowed)
    _check_returns_app(reference, function)
    return reference, function


def resolved_signature(name: str, function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature with string annotations turned into types.

    One that cannot be resolved (its import stands under ``TYPE_CHECKING``) stays a string, without harm to the others,
    which ``typing.get_type_hints`` on the whole function would lose.

    :param name: the component's name, for the message.
    :raises InvalidInputError: the object has no signature.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Component {name} has no signature to check: {error}.", fix=_HOW) from error
    scope = _scope(function)
    return signature.replace(
        parameters=[p.replace(annotation=_resolve(p.annotation, scope)) for p in signature.parameters.values()],
        return_annotation=_resolve(signature.return_annotation, scope),
    )


def _scope(function: Callable[..., Any]) -> dict[str, Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(inspect.unwrap(function), "__globals__", {})


def _resolve(annotation: Any, scope: dict[str, Any]) -> Any:
    if annotation is inspect.Signature.empty:
        return annotation
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)["it"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return annotation


def _function_name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    module = getattr(function, "__module__", "?")
    return f"{module}:{getattr(function, '__qualname__', type(function).__name__)}"


def _registered(name: str) -> Callable[..., Any]:
    if name in SHIPPED:
        return SHIPPED[name]
    try:
        function: Callable[..., Any] = get_component(name).fn
    except ComponentNotFoundException as error:
        known = sorted({*get_components(), *SHIPPED})
        near = difflib.get_close_matches(name, known, n=3) or known
        raise InvalidInputError(
            f"There is no component {name!r}.", fix=f"one of {', '.join(near)}; or {_HOW}"
        ) from error
    except (Exception, SystemExit) as error:
        raise InvalidInputError(
            f"Component {name!r} cannot be used: {type(error).__name__}: {error}", fix="correct the component."
        ) from error
    return function


def _find_file(reference: str, place: str) -> Path:
    """Return the file's absolute path. Airflow puts the folder of the DAG bundle on ``sys.path``."""
    written = Path(os.path.normpath(place)).expanduser()
    folders = [Path(), *map(Path, sys.path)]
    for candidate in [written] if written.is_absolute() else [folder / written for folder in folders]:
        if candidate.is_file():
            return Path(os.path.abspath(candidate))  # noqa: PTH100 - resolve() would follow links that patterns name
    looked = "" if written.is_absolute() else " in the working directory or the folders of sys.path"
    raise InvalidInputError(f"component {reference!r}: there is no file {place}{looked}.", fix=_HOW)


def _load_file(reference: str, path: Path) -> types.ModuleType:
    status = path.stat()
    try:
        return _executed_file(path, status.st_mtime_ns, status.st_size, status.st_ino)
    except (Exception, SystemExit) as error:
        raise _broken(reference, error) from error


@functools.lru_cache(maxsize=64)
def _executed_file(path: Path, *_version: int) -> types.ModuleType:
    """Return a file as a module of its own, executed once for each version of the file.

    TorchX's own finder runs a file inside *its* module's namespace, where a function called ``validate`` would replace
    the finder's, and its linter fails on ``int | None``.
    """
    name = f"axtx_component_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    # With a loader, since the name of the file need not end in ``.py``.
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    # Dataclasses and pickle look a class's module up by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _import(reference: str, place: str) -> types.ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise InvalidInputError(
                f"component {reference!r}: there is no module {error.name!r} (nor a file of that name).", fix=_HOW
            ) from error
        raise _broken(reference, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(reference, error) from error


def _broken(reference: str, error: BaseException) -> InvalidInputError:
    return InvalidInputError(
        f"component {reference!r} cannot be loaded: {type(error).__name__}: {error}", fix="correct its source code."
    )


def _member(reference: str, module: types.ModuleType, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        what = "has no" if function is None else "has something that is not a function under the name"
        raise InvalidInputError(f"component {reference!r}: {module.__file__} {what} {name}.", fix=_HOW)
    return typing.cast("Callable[..., Any]", function)


def _check_returns_app(reference: str, function: Callable[..., Any]) -> None:
    """Refuse a reference to a function that is not declared as a component, for example ``os:system``."""
    declared = resolved_signature(reference, function).return_annotation
    if declared is AppDef or (isinstance(declared, type) and issubclass(declared, AppDef)):
        return
    if isinstance(declared, str) and declared.strip("'\"").rpartition(".")[2] == "AppDef":
        return
    declares = "nothing" if declared is inspect.Signature.empty else inspect.formatannotation(declared)
    raise InvalidInputError(
        f"component {reference!r} is not declared to return an AppDef; its signature declares {declares}.",
        fix="write `-> AppDef` (torchx.specs.AppDef) in the function's signature.",
    )
