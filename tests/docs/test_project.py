"""The documents and templates at the root of the repository name only what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from matrix import CELLS

from airflow_provider_axtx.launcher.scheduler_registry import Schedulers

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(ROOT.glob("*.md"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def fields(template: str) -> dict[str, Any]:
    content = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{template}.yml").read_text())
    return {field["id"]: field for field in content["body"] if "id" in field}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    files = [target for target in targets if not target.startswith("http")]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_contributing_names_tests_and_targets_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    paths = re.findall(r"\b(?:tests|airflow_provider_axtx|benchmarks)/[\w/.]*\w/?", text)
    targets = set(re.findall(r"`make ([a-z-]+)`", text))
    assert len(paths) > 15
    assert len(targets) > 6
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_the_workflow_calls_targets_that_exist_and_every_cell_of_the_matrix() -> None:
    (workflow,) = WORKFLOWS
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = {target for step in steps for target in re.findall(r"\bmake ([a-z-]+)", step)}
    targets |= set(jobs["one-python"]["strategy"]["matrix"]["target"])
    makefile = (ROOT / "Makefile").read_text()
    assert {"lint", "test", "test-airflow", "matrix", "release-check"} <= targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []
    assert jobs["matrix"]["strategy"]["matrix"]["cell"] == [cell.name for cell in CELLS]


def test_notice_names_each_vendored_file() -> None:
    vendor = ROOT / "airflow_provider_axtx" / "plugin" / "vendor"
    notice = (ROOT / "NOTICE").read_text()
    files = [str(file.relative_to(ROOT)) for file in vendor.iterdir() if file.name != "README.md"]
    assert len(files) > 1
    assert [file for file in files if file not in notice] == []


def test_the_examples_are_on_their_page_and_in_the_readme() -> None:
    page, readme = (ROOT / "docs" / "example_dags.md").read_text(), (ROOT / "README.md").read_text()
    examples = [path for path in (ROOT / "dags").glob("*.py") if path.name != "__init__.py"]
    assert len(examples) > 9
    assert [path.name for path in examples if f'--8<-- "dags/{path.name}"' not in page] == []
    assert [path.name for path in examples if f"`{path.stem}`" not in readme] == []


def test_every_template_is_a_form() -> None:
    assert len(TEMPLATES) > 1
    for template in TEMPLATES:
        if template.stem == "config":
            continue
        content = yaml.safe_load(template.read_text())
        assert {"name", "description", "body"} <= set(content), template.name


def test_a_bug_report_asks_for_versions_and_engines() -> None:
    found = fields("bug_report")
    required = {name for name, field in found.items() if field.get("validations", {}).get("required")}
    assert {"versions", "scheduler", "store", "executor"} <= required
    schedulers = set(found["scheduler"]["attributes"]["options"]) - {"another one"}
    assert schedulers <= set(Schedulers().names())
