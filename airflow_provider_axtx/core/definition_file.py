"""The definition of an experiment in a YAML or JSON file; its parameters as ``Range`` and ``Choice``, or as a class."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.inputs import is_templated, shorten
from airflow_provider_axtx.core.search_space import Choice, Range, read_class

_ENDINGS = (".yaml", ".yml", ".json")
_MAX_BYTES = 8 * 1024 * 1024


def read_definition(experiment: Any, folders: Iterable[Path] = ()) -> Any:
    """Return a definition as an object where it is the path of a file; its parameters as a list where they are not.

    Everything else is returned as it is.

    :param experiment: what an operator was given.
    :param folders: where a relative path is looked for first; then in the working directory and the folders of
        ``sys.path``, among which Airflow puts the folder of the DAG bundle.
    :raises InvalidInputError: there is no such file, or no object in it; or a parameter is not usable.
    """
    if isinstance(experiment, str) and experiment.strip().endswith(_ENDINGS) and not is_templated(experiment):
        experiment = _read(experiment.strip(), folders)
    given = experiment.get("parameters") if isinstance(experiment, Mapping) else None
    if isinstance(given, Mapping):
        return {**experiment, "parameters": _listed(given)}
    if isinstance(given, type):
        return {**experiment, "parameters": read_class(given)}
    return experiment


def _read(name: str, folders: Iterable[Path]) -> dict[str, Any]:
    return read_object(_found(name, folders))


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a YAML or JSON file.

    :raises InvalidInputError: the file cannot be read, or there is no object in it.
    """
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        # JSON is YAML, too.
        value = yaml.safe_load(content.decode()) if len(content) <= _MAX_BYTES else None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidInputError(
            f"The experiment {path} cannot be read: {error}.", fix="correct the path or the file."
        ) from error
    if not isinstance(value, dict):
        raise InvalidInputError(
            f"The experiment {path} holds {shorten(value)}, not an object.",
            fix="write the fields of the experiment, such as name, parameters and objective.",
        )
    return {str(key): field for key, field in value.items()}


def _found(name: str, folders: Iterable[Path]) -> Path:
    path = Path(name).expanduser()
    places = [path] if path.is_absolute() else [folder / path for folder in (*folders, Path(), *map(Path, sys.path))]
    for place in places:
        if place.is_file():
            return place
    looked = "" if path.is_absolute() else " beside the DAG file, in the working directory or the folders of sys.path"
    raise InvalidInputError(f"experiment={name!r}: there is no such file{looked}.", fix="correct the path.")


def _listed(parameters: Mapping[str, Any]) -> list[Any]:
    """Return the parameters of a mapping from names as a list of objects with names."""
    return [_parameter(str(name), given) for name, given in parameters.items()]


def _parameter(name: str, given: Any) -> Any:
    if isinstance(given, Range):
        is_whole = all(isinstance(bound, int) and not isinstance(bound, bool) for bound in (given.low, given.high))
        return given.to_parameter(name, int if is_whole else float)
    if isinstance(given, Choice):
        return given.to_parameter(name)
    if isinstance(given, Mapping) and given.get("name", name) == name:
        return {"name": name, **given}
    raise InvalidInputError(
        f"parameters[{name!r}] must not be {shorten(given)}.",
        fix='write Range(...), Choice(...), or an object such as {"type": "range", "bounds": [0, 1], ...}.',
    )
