"""A broken block fails its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_axtx.core.errors import InvalidInputError
from tests.docs.blocks import parse

pytestmark = pytest.mark.docs

BROKEN = {
    "code that raises": ("", "python", "1 / 0", ZeroDivisionError),
    "code that does not compile": ("<!-- not run: it has no other reason -->\n", "python", "def", SyntaxError),
    "a DAG that cannot be imported": (
        "",
        'python title="dags/broken.py"',
        "from airflow.sdk import dag\nimport nosuch\n\n@dag\ndef broken(): ...\n\nbroken()",
        AssertionError,
    ),
    "a DAG whose app does not report the objective": (
        "",
        'python title="dags/broken.py"',
        "from airflow.sdk import DAG\nfrom airflow_provider_axtx.operators.ax import AxOptimizeOperator\n\n"
        'X = {"type": "range", "name": "x1", "parameter_type": "float", "bounds": [0, 1]}\n\n'
        'with DAG("broken", schedule=None):\n'
        '    experiment = {"name": "booth", "parameters": [X], "objective": "-booth"}\n'
        '    AxOptimizeOperator(task_id="tune", experiment=experiment, component="utils.booth", max_trials=1)',
        AssertionError,
    ),
    "an unknown field of a connection": ("", "json", '{"scheduler": "slurm", "tracker": "x"}', InvalidInputError),
    "an unknown field of an experiment": ("", "json", '{"objective": "a", "seed": 1}', InvalidInputError),
    "an unknown option": ("", "ini", "[axtx]\ninstall = x", AssertionError),
    "text that is not JSON": ("", "json", "{", ValueError),
    "an unknown language": ("", "bash", "true", AssertionError),
    "a reason that says nothing": ("<!-- not run: no -->\n", "python", "1 / 0", AssertionError),
}


@pytest.mark.parametrize(("before", "info", "code", "error"), BROKEN.values(), ids=BROKEN)
def test_a_broken_block_fails_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, info: str, code: str, error: type[Exception]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{before}```{info}\n{code}\n```\n")
    document = parse(page)
    document.namespace["evaluated"] = 0
    with pytest.raises(error):
        for example in document:
            example.evaluate()
    assert document.namespace["evaluated"] == 0
