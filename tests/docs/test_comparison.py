"""The numbers of ``docs/comparison.md`` are counted, its files describe one task, and its column Optuna is killed."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_axtx.spec.convert import convert
from airflow_provider_axtx.spec.experiment import ExperimentSpec

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "comparison.md").read_text()
FOLDER = ROOT / "docs" / "examples" / "comparison"
PROGRAM = "train.py"
COLUMNS = ("optuna", "ray", "katib", "wandb", "here")


def row(title: str) -> list[int]:
    (cells,) = re.findall(rf"^\| {title} \|(.*)\|$", PAGE, re.M)
    return [int(cell) for cell in cells.split("|")]


def written(path: Path) -> list[str]:
    """Return the lines of a file that a user writes; of a changed program those that differ."""
    lines = path.read_text().splitlines()
    if path.name == PROGRAM:
        original = (FOLDER / PROGRAM).read_text().splitlines()
        lines = [line[2:] for line in difflib.ndiff(original, lines) if line.startswith("+ ")]
    return [line for line in lines if line.strip()]


def test_files_and_lines_are_counted() -> None:
    files = [sorted(path for path in (FOLDER / column).iterdir() if path.is_file()) for column in COLUMNS]
    assert row("files") == [len(paths) for paths in files]
    assert row("lines") == [sum(len(written(path)) for path in paths) for paths in files]
    changed = [sum(len(written(path)) for path in paths if path.name == PROGRAM) for paths in files]
    assert row("of these in the program") == changed
    linked = set(re.findall(r"examples/comparison/(\S+?)\)", PAGE))
    assert linked == {PROGRAM, *(f"{path.parent.name}/{path.name}" for paths in files for path in paths)}


def test_the_files_describe_one_task() -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(FOLDER / "here")
    assert bag.import_errors == {}
    task: Any = bag.dags["tune_script"].get_task("optimize")
    ours = ExperimentSpec.load({**task.experiment, "name": "wine"})
    for kind, name in (("katib", "experiment.yaml"), ("wandb", "sweep.yaml")):
        found = convert(kind, yaml.safe_load((FOLDER / kind / name).read_text()), name="wine")
        assert ExperimentSpec.load(found.definition) == ours
        assert found.arguments["max_trials"] == task.max_trials
    for kind, call in (
        ("optuna", r'suggest_float\("{}", (\S+), (\S+), log=True'),
        ("ray", r'"{}": tune.loguniform\((\S+), (\S+?)\)'),
    ):
        text = (FOLDER / kind / "tune.py").read_text()
        for parameter in ours.parameters:
            ((low, high),) = re.findall(call.format(parameter.name), text)
            assert (float(low), float(high)) == parameter.bounds  # type: ignore[union-attr]
        assert str(task.max_trials) in text and str(task.parallelism) in text


def test_a_killed_optuna_leaves_its_trials_running_and_begins_anew(tmp_path: Path) -> None:
    import optuna

    shutil.copy(FOLDER / "optuna" / "tune.py", tmp_path)
    (tmp_path / PROGRAM).write_text("import os, time\nopen(f'at-{os.getpid()}', 'w')\ntime.sleep(600)\n")
    command = [sys.executable, "tune.py"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("at-*"))) < 4 and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()
        process.wait()
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its programs, which outlive it
    (tmp_path / PROGRAM).write_text("print('accuracy=0.5')")
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    study = optuna.load_study(study_name="wine", storage=f"sqlite:///{tmp_path}/wine.db")
    assert Counter(trial.state.name for trial in study.trials) == {"RUNNING": 4, "COMPLETE": 12}
