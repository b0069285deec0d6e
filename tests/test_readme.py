"""The code in the README runs."""

from __future__ import annotations

import re
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_dags_in_the_readme_are_dags(tmp_path: Path) -> None:
    code = [block for block in re.findall(r"```python[^\n]*\n(.*?)```", README, re.S) if "@dag" in block]
    for number, block in enumerate(code):
        (tmp_path / f"readme_{number}.py").write_text(block)
    bag = DagBag(tmp_path)
    assert bag.import_errors == {}
    assert {name: len(dag.tasks) for name, dag in bag.dags.items()} == {
        "booth": 13,
        "tune_function": 1,
        "tune_script": 1,
        "tune_task": 14,
    }


def titled(title: str) -> str:
    (code,) = re.findall(rf'```python title="{title}"\n(.*?)```', README, re.S)
    return str(code)


def test_a_script_a_function_and_a_task_are_tuned_in_fifteen_lines_each() -> None:
    for title in ("dags/tune_script.py", "dags/tune_function.py", "dags/tune_task.py"):
        assert len([line for line in titled(title).splitlines() if line.strip()]) <= 15
    script = titled("dags/train.py")
    assert not re.search(r"airflow|torchx|\bax\b|axtx", script)


def test_the_make_targets_in_the_readme_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    targets = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
