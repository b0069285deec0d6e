"""The public API as text, one line for each name and parameter; ``python scripts/release/api.py`` records it.

Public are the names on ``docs/stability.md``, the fields of the connections, the options, the task decorators and the
commands with their options. The recorded text is that of the last release. Each line that has changed since must be
named in the newest section of ``CHANGELOG.md``.
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import griffe
from airflow.cli.cli_config import ActionCommand, GroupCommand

from airflow_provider_axtx import __version__
from airflow_provider_axtx.cli import get_commands
from airflow_provider_axtx.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("public_api.txt")
PACKAGE = "airflow_provider_axtx"


def public_names() -> list[tuple[str, str]]:
    """Return module and name of each import in the first block of code of ``docs/stability.md``."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "stability.md").read_text(), re.DOTALL)
    assert block is not None
    imports = [node for node in ast.parse(block[1]).body if isinstance(node, ast.ImportFrom)]
    return [(str(node.module), name.name) for node in imports for name in node.names]


@functools.cache
def describe() -> list[str]:
    """Return the public API as sorted lines."""
    return sorted({*_python(), *_metadata(), *_commands()})


def _python() -> Iterator[str]:
    package = griffe.load(PACKAGE, search_paths=[ROOT], resolve_aliases=True)
    for module, name in public_names():
        found = package[f"{module.removeprefix(f'{PACKAGE}.')}.{name}"]
        target = found.final_target if isinstance(found, griffe.Alias) else found
        yield f"{module}.{name}"
        if isinstance(target, griffe.Class):
            yield from _of_class(f"{module}.{name}", target)
        elif isinstance(target, griffe.Function):
            yield from _parameters(f"{module}.{name}", target)


def _of_class(path: str, found: griffe.Class) -> Iterator[str]:
    """Yield what a caller may use: parameters, and apart from operators and sensors methods and fields."""
    family = [found, *(base for base in found.mro() if isinstance(base, griffe.Class))]
    for each in family:
        if isinstance(constructor := each.members.get("__init__"), griffe.Function):
            yield from _parameters(path, constructor)
    if ".operators." in path or ".sensors." in path:
        return
    for member in (member for each in family for member in each.members.values() if not member.name.startswith("_")):
        if isinstance(member, griffe.Attribute):
            yield f"{path}.{member.name}{_of_type(member.annotation)}"
        elif isinstance(member, griffe.Function):
            yield f"{path}.{member.name}"
            yield from _parameters(f"{path}.{member.name}", member)


def _parameters(path: str, function: griffe.Function) -> Iterator[str]:
    for parameter in function.parameters:
        if parameter.name not in ("self", "cls") and not parameter.name.startswith("_"):
            kind = "*" if parameter.kind is griffe.ParameterKind.keyword_only else ""
            default = "" if parameter.default is None else f" = {parameter.default}"
            yield f"{path}({kind}{parameter.name}{_of_type(parameter.annotation)}{default})"


def _of_type(annotation: object) -> str:
    return "" if annotation is None else f": {annotation}"


def _metadata() -> Iterator[str]:
    info = get_provider_info()
    for connection in info["connection-types"]:
        for field, described in connection["conn-fields"].items():
            yield f"connection {connection['connection-type']}: {field}: {described['schema']}"
    for section, described in info["config"].items():
        for option, value in described["options"].items():
            yield f"[{section}] {option}: {value['type']} = {value['default']!r}"
    yield from (f"@task.{decorator['name']}" for decorator in info["task-decorators"])
    yield from (f"asset {scheme}://" for uris in info["asset-uris"] for scheme in uris["schemes"])


def _commands() -> Iterator[str]:
    for group in get_commands():
        assert isinstance(group, GroupCommand)
        for command in group.subcommands:
            assert isinstance(command, ActionCommand)
            yield f"airflow {group.name} {command.name}"
            for argument in command.args:
                yield f"airflow {group.name} {command.name} {argument.flags[-1]}"


def subject(line: str) -> str:
    """Return the word that a reader looks for in the changelog: the last name of the line's path or parameter."""
    if inside := re.search(r"\(\*?(\w+)", line):
        return inside[1]
    if named := re.match(r"(?:connection \w+: |\[\w+\] |@task\.|asset )(\w+)", line):
        return named[1]
    path = line.partition(": ")[0]
    return re.split(r"[ .]", path)[-1]


def differences(recorded: list[str], current: list[str]) -> list[tuple[str, str]]:
    """Return what was removed and what was added, each with its line."""
    removed, added = set(recorded) - set(current), set(current) - set(recorded)
    return [*(("removed", line) for line in sorted(removed)), *(("added", line) for line in sorted(added))]


def newest_section(changelog: str) -> tuple[str, str]:
    """Return heading and text of the newest section of a changelog."""
    found = re.search(r"^## (.+?)\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit("CHANGELOG.md has no section.")
    return found[1], found[2]


def unnamed(recorded: list[str], current: list[str], section: str) -> list[str]:
    """Return the differences that a section of the changelog does not name."""
    return [
        f"{how} since the last release and not named in CHANGELOG.md ({subject(line)}): {line}"
        for how, line in differences(recorded, current)
        if not re.search(rf"(?<![\w-]){re.escape(subject(line))}(?!\w)", section)
    ]


def check(recorded: list[str], changelog: str, *, release: bool) -> list[str]:
    """Return what must be changed before the API in the working copy can be released.

    :param recorded: the lines of the last release.
    :param changelog: the text of ``CHANGELOG.md``.
    :param release: whether the newest section must have a date.
    """
    heading, section = newest_section(changelog)
    problems = unnamed(recorded, describe(), section)
    state = r"\d{4}-\d{2}-\d{2}" if release else r"\d{4}-\d{2}-\d{2}|unreleased"
    if not re.fullmatch(rf"{re.escape(__version__)} \(({state})\)", heading):
        when = "the date of the release" if release else "(unreleased) or a date"
        problems.append(f"the newest section of CHANGELOG.md is {heading!r}, not {__version__} with {when}")
    return problems


def main() -> None:
    """Record the API, or with ``--check`` compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the recorded API and CHANGELOG.md")
    parser.add_argument("--release", action="store_true", help="the changelog must have the release's date")
    options = parser.parse_args()
    if not options.check:
        RECORD.write_text("\n".join(describe()) + "\n")
        return
    problems = check(RECORD.read_text().splitlines(), (ROOT / "CHANGELOG.md").read_text(), release=options.release)
    if problems:
        raise SystemExit("\n".join(problems))
    print(f"{len(describe())} lines of public API; CHANGELOG.md names what has changed")


if __name__ == "__main__":
    main()
