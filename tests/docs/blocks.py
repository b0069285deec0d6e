"""Runs every fenced code block of one page, in order, in the current folder: ``python -m tests.docs.blocks PAGE``.

The language of a block and the title in its info string decide what happens:

=====================  ===================================================================================
``python``             executed; all blocks of a page share a namespace
``python title=FILE``  written to FILE; a DAG file must load without an error, another module is imported
``sh``                 executed by bash; ``prelude.sh`` replaces some commands by a check
``ini``                options in Airflow's configuration: Airflow or this provider must know them
``json``               a connection's extra, an experiment or a part of one: the package reads it
``yaml``               parsed; Airflow's options and the connections in it are looked up
``nginx``              nothing here; ``tests/browser/test_proxy.py`` runs nginx with it
``text``               output or a diagram; nothing happens
=====================  ===================================================================================

A block after ``<!-- not run: REASON -->`` does not run; Python is still compiled. The line ``--8<-- "FILE"`` stands for
the text of a file of the repository, as on the site.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

PRELUDE = Path(__file__).with_name("prelude.sh")
NOT_RUN = "not run"
ROOT = Path(__file__).parents[2]


def run_python(example: Example, title: str | None) -> None:
    """Execute a block, or write it to its file and load the file."""
    if title is None:
        # Empty lines before the code let a traceback name the line of the page.
        code = compile("\n" * example.line + example.parsed, example.path, "exec", dont_inherit=True)
        exec(code, example.namespace)
        return
    path = Path(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.parsed)
    if re.search(r"@dag\b|\bDAG\(", example.parsed):
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(path.parent)
        assert bag.import_errors == {}, bag.import_errors
        found = [dag for dag in bag.dags.values() if Path(dag.fileloc).name == path.name]
        assert found, f"{title} defines no DAG"
        for dag in found:
            check_metrics(dag.tasks)
    else:
        runpy.run_path(str(path))


def check_metrics(tasks: Iterable[Any]) -> None:
    """Compare the metrics of experiments with the one that TorchX's example app reports."""
    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    for task in tasks:
        if getattr(task, "component", None) == "utils.booth" and isinstance(getattr(task, "experiment", None), dict):
            name = re.sub(r"\{\{.*?\}\}", "run", task.experiment["name"])
            metrics = ExperimentSpec.load({**task.experiment, "name": name}).metric_names
            assert set(metrics) == {"booth_eval"}, f"{task.task_id}: utils.booth does not report {metrics}"


def run_shell(example: Example, title: str | None) -> None:
    """Execute a block. The hooks must be able to read the connections that it defines."""
    before = connections()
    script = PRELUDE.read_text() + example.parsed
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True)
    for conn_id, connection in connections().items():
        if conn_id not in before:
            check_connection(connection)


def connections() -> dict[str, Any]:
    """Return the connections in Airflow's database."""
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = {connection.conn_id: connection for connection in session.scalars(select(Connection))}
        session.expunge_all()
    return found


def check_connection(connection: Any) -> None:
    """Read a connection as its hook does."""
    from airflow_provider_axtx.hooks.ax import connection_url
    from airflow_provider_axtx.hooks.torchx import read_settings

    (read_settings if connection.conn_type == "torchx" else connection_url)(connection)


def check_json(example: Example, title: str | None) -> None:
    """Read a connection's extra (``torchx`` or ``ax``), an experiment, or some fields of one."""
    from airflow.sdk import Connection

    from airflow_provider_axtx.spec.experiment import ExperimentSpec

    value = json.loads(example.parsed)
    if "scheduler" in value or "scheduler_args" in value or "allowed_components" in value:
        check_connection(Connection(conn_id="page", conn_type="torchx", extra=example.parsed))
        return
    if "drivername" in value:
        check_connection(Connection(conn_id="page", conn_type="ax", host="db", schema="axtx", extra=example.parsed))
        return
    x = {"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}
    objective = {} if "objectives" in value else {"objective": "loss"}
    ExperimentSpec.load({"name": "page", "parameters": [x], **objective, **value})


def check_configuration(example: Example, title: str | None) -> None:
    """Look up each option in Airflow's and this provider's descriptions of their options."""
    block = configparser.ConfigParser(interpolation=None)
    block.read_string(example.parsed)
    assert block.sections()
    check_options((section, option) for section in block.sections() for option in block.options(section))


def check_options(options: Iterable[tuple[str, str]]) -> None:
    """Look up pairs of a section and an option."""
    from airflow.configuration import conf

    from airflow_provider_axtx.get_provider_info import get_provider_info

    known = {**conf.configuration_description, **get_provider_info()["config"]}
    for section, option in options:
        assert option in known[section]["options"], f"[{section}] {option}"


def check_yaml(example: Example, title: str | None) -> None:
    """Parse a block; look up Airflow's options and read the connections in it."""
    from airflow.sdk import Connection

    content = yaml.safe_load(example.parsed)
    assert content
    if not isinstance(content, dict):
        return
    check_options((section, option) for section, options in content.get("config", {}).items() for option in options)
    for name, value in variables(content):
        if match := re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", name):
            check_options([(match[1].lower(), match[2].lower())])
        elif name.startswith("AIRFLOW_CONN_"):
            check_connection(Connection.from_json(value, conn_id="page"))


def variables(content: Any) -> Iterator[tuple[str, str]]:
    """Yield the environment variables in the mappings of a block."""
    if isinstance(content, dict):
        yield from ((key, value) for key, value in content.items() if isinstance(value, str))
        content = content.values()
    if not isinstance(content, str | int | None):
        for one in content:
            yield from variables(one)


def nothing_to_run(example: Example, title: str | None) -> None:
    """Do nothing."""


Runner = Callable[[Example, "str | None"], None]
RUNNERS: dict[str, Runner] = {
    "python": run_python,
    "sh": run_shell,
    "ini": check_configuration,
    "json": check_json,
    "yaml": check_yaml,
    "nginx": nothing_to_run,
    "text": nothing_to_run,
}


def evaluate(example: Example) -> None:
    """Process a block according to its language."""
    info = example.region.lexemes["info"].strip()
    language, _, attributes = info.partition(" ")
    title = re.search(r'title="([^"]+)"', attributes)
    reason = example.namespace.pop(NOT_RUN, None)
    print(
        f"--- {Path(example.path).name}:{example.line} {info}" + (f" not run: {reason}" if reason else ""), flush=True
    )
    assert language in RUNNERS, f"{example.path}:{example.line}: a block of language {language!r}"
    if reason is None:
        RUNNERS[language](example, title[1] if title else None)
    elif language == "python":
        compile(example.parsed, example.path, "exec")
    example.namespace["evaluated"] += 1


def note_reason(example: Example) -> None:
    """Remember why the next block does not run."""
    assert len(example.parsed.split()) > 2, f"{example.path}:{example.line}: say why the block is not run"
    example.namespace[NOT_RUN] = example.parsed


def fences(document: Document) -> list[Region]:
    """Return every fenced block of a page."""
    found = list(RawFencedCodeBlockLexer(re.compile(r"(?P<info>[^\n]*)\n"))(document))
    for region in found:
        region.parsed, region.evaluator = with_files(str(region.lexemes["source"])), evaluate
    return found


def with_files(source: str) -> str:
    """Replace each line that names a file by the file's text."""
    return re.sub(r'^--8<-- "(.+)"$', lambda line: (ROOT / line[1]).read_text(), source, flags=re.MULTILINE)


def reasons(document: Document) -> list[Region]:
    """Return every ``not run`` comment of a page."""
    found = list(DirectiveInHTMLCommentLexer(NOT_RUN)(document))
    for region in found:
        region.parsed, region.evaluator = region.lexemes["arguments"].strip(), note_reason
    return found


def parse(page: Path) -> Document:
    """Return a page with its blocks."""
    return Sybil([fences, reasons]).parse(page)


def main(page: str) -> None:
    """Run a page; the last line of the output is the number of its blocks."""
    document = parse(Path(page))
    sys.path.insert(0, str(Path.cwd() / "airflow" / "dags"))
    tracker = Path(os.environ["AIRFLOW_HOME"]) / "axtx" / "tracker" / "page"
    document.namespace.update({"__name__": "page", "evaluated": 0, "trial_idx": 0, "tracker_base": str(tracker)})
    for example in document:
        example.evaluate()
    print(document.namespace["evaluated"])


if __name__ == "__main__":
    main(sys.argv[1])
