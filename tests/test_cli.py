"""``airflow ax``: which store it reads, what it leaves alone, what it prints, which DAG runs it takes for over.

What it does to apps is seen in ``tests/e2e/test_cli.py``.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from airflow.cli import cli_parser
from airflow.cli.cli_config import ActionCommand, CLICommand, GroupCommand
from rich.text import Text

from airflow_provider_axtx.cli import cleanup, get_commands, reap
from airflow_provider_axtx.core.records import Observation, TaskIdentity
from airflow_provider_axtx.lifecycle.generate import create_experiment, generate_trials
from airflow_provider_axtx.spec.experiment import ExperimentSpec
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.fakes.airflow_output import json_printed
from tests.store.material import begin, experiment, proposal

SPEC = {
    "name": "digits",
    "parameters": [{"type": "range", "name": "x", "parameter_type": "float", "bounds": [0.0, 1.0]}],
    "objective": "-loss",
}


def fill(path: Path) -> None:
    """Make a store with an experiment ``digits`` of two completed trials, of which the second is better."""
    store = ExperimentStore(f"sqlite:///{path}")
    create_experiment(store, ExperimentSpec.load(SPEC), if_exists="fail")
    for index, loss in enumerate((0.5, 0.25)):
        generate_trials(store, "digits", 1, task_key=f"dag/run/generate_{index}/-1")
        store.complete("digits", index, status="COMPLETED", observations=[Observation(index, "loss", loss)])
    store.close()


@dataclass
class Home:
    """An AIRFLOW_HOME with a database, and commands in processes of their own."""

    folder: Path

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "AIRFLOW_HOME": str(self.folder), **environ}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    home.run("-m", "airflow", "db", "migrate")
    return home


def test_it_reads_the_store_of_a_connection_in_airflows_database(home: Home, tmp_path: Path) -> None:
    fill(tmp_path / "team.db")
    add = ("connections", "add", "team", "--conn-type", "ax", "--conn-schema", str(tmp_path / "team.db"))
    home.run("-m", "airflow", *add)
    done = home.run("-m", "airflow", "ax", "experiments", "--ax-conn-id", "team", "--output", "json")
    assert [row["experiment"] for row in json_printed(done.stdout)] == ["digits"]
    assert f"Experiment store: sqlite:///{tmp_path / 'team.db'} (connection team)" in done.stderr


def test_without_a_connection_it_makes_no_store_and_warns_where_airflow_runs_on_several_machines(home: Home) -> None:
    done = home.run("-m", "airflow", "ax", "experiments", "-o", "json", AIRFLOW__CORE__EXECUTOR="CeleryExecutor")
    assert json_printed(done.stdout) == []
    assert "the embedded store of this machine: the connection ax_default is not defined" in done.stderr
    assert "There is no experiment store" in done.stderr
    # Airflow 3.2 logs to the standard output.
    assert "may run on several machines" in done.stdout + done.stderr
    assert not (home.folder / "axtx").exists()


def test_without_airflows_tables_it_tells_how_to_make_them(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}
    env["AIRFLOW_HOME"] = str(tmp_path)
    command = [sys.executable, "-m", "airflow", "ax", "experiments"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, cwd=tmp_path, check=False)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "airflow db migrate" in said
    assert "SELECT" not in said


def helps(commands: Iterable[CLICommand]) -> Iterator[str]:
    """Return the help of commands and of their arguments."""
    for command in commands:
        yield command.help or ""
        if isinstance(command, GroupCommand):
            yield from helps(command.subcommands)
        elif isinstance(command, ActionCommand):
            yield from (str(argument.kwargs.get("help", "")) for argument in command.args)


def test_airflow_prints_the_help_as_it_is_written() -> None:
    # With rich, which takes `[axtx]` for a style and leaves it out.
    texts = list(helps(get_commands()))
    assert len(texts) > 100
    assert [Text.from_markup(text).plain for text in texts] == texts


Ax = Callable[..., tuple[str, str]]


@pytest.fixture
def ax(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ax:
    """Run ``airflow ax`` in this process; return stdout and stderr."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")  # which the command sets, and the test has to restore

    def run(*arguments: str) -> tuple[str, str]:
        capsys.readouterr()
        args = cli_parser.get_parser().parse_args(["ax", *arguments])
        args.func(args)
        told = capsys.readouterr()
        return told.out, told.err

    return run


def read(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Make a file the store that the commands read."""
    monkeypatch.setenv("AIRFLOW_CONN_AX_DEFAULT", json.dumps({"conn_type": "ax", "schema": str(path)}))


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fill(tmp_path / "digits.db")
    read(monkeypatch, tmp_path / "digits.db")
    return tmp_path


@pytest.mark.parametrize(
    "command", [("experiments",), ("reap",), ("reap", "--dry-run"), ("cleanup", "--older-than", "90d")]
)
def test_without_a_store_there_is_nothing_to_list_and_none_is_made(
    ax: Ax, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(monkeypatch, tmp_path / "new.db")
    out, err = ax(*command, "--output", "json")
    assert json.loads(out) == []
    assert "There is no experiment store" in err
    assert not (tmp_path / "new.db").exists()


def test_a_store_that_cannot_be_read_is_named(ax: Ax, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "garbage.db").write_bytes(b"no database" * 1000)
    read(monkeypatch, tmp_path / "garbage.db")
    with pytest.raises(SystemExit, match=r"garbage\.db.*Fix:"):
        ax("experiments")


@pytest.mark.usefixtures("digits")
@pytest.mark.parametrize("command", ["trials", "show", "best"])
def test_an_experiment_that_does_not_exist_is_an_error(ax: Ax, command: str) -> None:
    with pytest.raises(SystemExit, match="nothing"):
        ax(command, "nothing")


def test_the_trials_of_an_experiment_are_counted_those_stopped_early_too(
    ax: Ax, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = ("COMPLETED", "EARLY_STOPPED", "FAILED", "ABANDONED")
    store = ExperimentStore(f"sqlite:///{tmp_path / 'counted.db'}")
    experiment(store, 5)
    for index, status in enumerate(ended):
        store.complete("digits", index, status=status)
    store.record_handle(begin(store, "digits", 4), "fake://torchx/a")
    read(monkeypatch, tmp_path / "counted.db")
    [row] = json.loads(ax("experiments", "--output", "json")[0])
    assert {name: int(row[name]) for name in ("trials", "RUNNING", *ended)} == {
        "trials": 5,
        **dict.fromkeys(("RUNNING", *ended), 1),
    }


@pytest.mark.usefixtures("digits")
def test_trials_are_listed_with_their_metrics(ax: Ax) -> None:
    rows = json.loads(ax("trials", "digits", "--output", "json")[0])
    assert [(row["trial"], row["status"], row["metrics"]) for row in rows] == [
        (0, "COMPLETED", {"loss": 0.5}),
        (1, "COMPLETED", {"loss": 0.25}),
    ]
    assert rows[0]["usage"] == {"cpu": 0.0, "gpu": 0.0, "cost": None}


@pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
@pytest.mark.parametrize("line", ["[/usr/bin/train] failed", "[error] rank [0] [b]x :bug:", r"\[red] a\ [/"])
def test_what_an_app_has_printed_is_shown_as_it_is(
    ax: Ax, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, line: str
) -> None:
    store = ExperimentStore(f"sqlite:///{tmp_path / 'odd.db'}")
    experiment(store, 1)
    store.complete("digits", 0, status="FAILED", reason=f"last line: {line}")
    read(monkeypatch, tmp_path / "odd.db")
    shown = ax("trials", "digits", "--output", output)[0]
    whole = {"json": lambda: json.loads(shown)[0]["reason"], "yaml": lambda: yaml.safe_load(shown)[0]["reason"]}
    text = whole[output]() if output in whole else " ".join(shown.split())
    assert f"last line: {line}" in text


def test_an_experiment_is_shown(ax: Ax, digits: Path) -> None:
    out, err = ax("show", "digits", "--output", "json")
    (shown,) = json.loads(out)
    assert (shown["experiment"], shown["trials"], shown["trials_by_status"]) == ("digits", 2, {"COMPLETED": 2})
    assert shown["definition"]["objective"] == "-loss"
    assert shown["saved"]["continuing"] == {"cpu": 0.0, "gpu": 0.0, "cost": None}
    assert dt.datetime.fromisoformat(shown["created_at"]).tzinfo is not None
    assert f"{digits}/digits.db" in err
    table, _ = ax("show", "digits")
    assert "property_name" in table
    assert "trials_by_status" in table


@pytest.mark.usefixtures("digits")
def test_the_best_trial_is_shown_with_numbers(ax: Ax) -> None:
    (best,) = json.loads(ax("best", "digits", "--output", "json")[0])
    assert (best["trial_index"], best["metrics"]["loss"]["mean"]) == (1, 0.25)
    assert isinstance(best["parameters"]["x"], float)
    assert yaml.safe_load(ax("best", "digits", "--output", "yaml")[0]) == [best]


def test_an_experiment_is_exported_for_ax(ax: Ax, digits: Path) -> None:
    from ax.api.client import Client

    _, err = ax("export", "digits", str(digits / "digits.json"))
    assert "digits.json" in err
    client = Client.load_from_json_file(str(digits / "digits.json"))
    assert list(client.summarize()["loss"]) == [0.5, 0.25]
    with pytest.raises(SystemExit, match="cannot be written"):
        ax("export", "digits", str(digits / "nowhere" / "digits.json"))


def test_a_connection_that_is_not_defined_is_an_error(home: Home) -> None:
    arguments = [sys.executable, "-m", "airflow", "ax", "experiments", "--ax-conn-id", "elsewhere"]
    env = {**os.environ, "AIRFLOW_HOME": str(home.folder)}
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "elsewhere" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentStore:
    """A store in which several DAG runs have left an attempt and a trial each; of ``a`` the run ``2`` is active."""
    store = ExperimentStore(f"sqlite:///{tmp_path / 'left.db'}")
    ours, theirs = "our deployment", "their deployment"
    tasks = {
        "a1": TaskIdentity("a", "1", "t", installation=ours),
        "a2": TaskIdentity("a", "2", "t", installation=ours),
        "a3": TaskIdentity("a", "3", "t", installation=ours),
        "b1": TaskIdentity("b", "1", "t", installation=ours),
        "theirs": TaskIdentity("a", "1", "t", installation=theirs),
        "notebook": TaskIdentity(),
    }
    for name, task in tasks.items():
        experiment(store, 0, name)
        for slot in range(2):
            store.add_trials(
                name,
                proposal(1, first=slot),
                task_key=task.task_key,
                first_slot=slot,
                expected_version=store.snapshot(name).version,
                requested_by=task,
            )
        begin(store, name, 0, identity=task)
    read(monkeypatch, tmp_path / "left.db")
    monkeypatch.setattr(reap, "installation_id_in_database", lambda: ours)
    monkeypatch.setattr(reap, "active_dag_runs", lambda task=None: {("a", "2")})
    return store


@pytest.mark.usefixtures("left_behind")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["a1", "a3", "b1"]),
        (("--dag-id", "a"), ["a1", "a3"]),
        (("--dag-id", "a", "--run-id", "3"), ["a3"]),
        (("--dag-id", "a", "--run-id", "2"), []),
        (("--dag-id", "b", "--experiment", "b1"), ["b1"]),
        (("--dag-id", "b", "--experiment", "a1"), []),
    ],
)
def test_reap_takes_what_ended_dag_runs_of_this_deployment_have_left(
    ax: Ax, options: tuple[str, ...], expected: list[str]
) -> None:
    rows = json.loads(ax("reap", "--dry-run", "--output", "json", *options)[0])
    assert [(row["experiment"], row["trial"]) for row in rows] == [(name, n) for name in expected for n in (0, 1)]


@pytest.mark.usefixtures("left_behind")
def test_a_run_id_without_its_dag_is_an_error(ax: Ax) -> None:
    with pytest.raises(SystemExit, match="--dag-id"):
        ax("reap", "--run-id", "1")


def test_a_dag_run_that_became_active_again_keeps_its_trials(
    ax: Ax, left_behind: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reap, "active_dag_runs", lambda task=None: {("b", "1")} if task else set())
    assert json.loads(ax("reap", "--dag-id", "b", "--output", "json")[0]) == []
    assert [trial.status for trial in left_behind.trials("b1")] == ["STAGED", "CANDIDATE"]


@pytest.fixture
def on_a_gone_host(left_behind: ExperimentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentStore:
    """Each of these experiments has one attempt on a host that is not this one, and another trial."""
    active = {("a", "2")}
    monkeypatch.setattr(
        reap, "active_dag_runs", lambda task=None: active & ({(task.dag_id, task.run_id)} if task else active)
    )
    for attempt in left_behind.open_attempts():
        left_behind.finish_attempt(attempt, "FAILED", "replaced")
        place = {"local_root": str(tmp_path / "apps"), "root_id": "theirs", "host": "worker-7", "boot_id": "theirs"}
        begin(left_behind, attempt.experiment, 0, identity=attempt.identity, lookup_options=place, host="worker-7")
    return left_behind


def test_what_is_on_a_host_that_is_gone_is_an_error_that_tells_the_way_out(
    ax: Ax, on_a_gone_host: ExperimentStore
) -> None:
    with pytest.raises(SystemExit, match=r"a1/0: AppElsewhereError.*reap --lost-host worker-7"):
        ax("reap")
    assert on_a_gone_host.trial("a1", 0).status == "STAGED"


def test_a_lost_host_ends_its_attempts_also_those_of_active_dag_runs(ax: Ax, on_a_gone_host: ExperimentStore) -> None:
    would_end = json.loads(ax("reap", "--lost-host", "worker-7", "--dry-run", "--output", "json")[0])
    assert [(row["experiment"], row["trial"]) for row in would_end if row["host"] == "worker-7"] == [
        (name, 0) for name in ("a1", "a2", "a3", "b1")
    ]
    rows = json.loads(ax("reap", "--lost-host", "worker-7", "--output", "json")[0])
    ended = {row["experiment"]: row["trial_status"] for row in rows if row["trial_index"] == 0}
    # The task of the active DAG run still decides whether its trial runs again.
    assert ended == {"a1": "FAILED", "a2": "STAGED", "a3": "FAILED", "b1": "FAILED"}
    assert {attempt.experiment for attempt in on_a_gone_host.open_attempts()} == {"theirs", "notebook"}
    assert "its host worker-7 does not exist any more" in (on_a_gone_host.trial("a1", 0).reason or "")


def test_a_lost_host_without_attempts_is_named(ax: Ax, on_a_gone_host: ExperimentStore) -> None:
    _, told = ax("reap", "--lost-host", "worker-8", "--dry-run", "--output", "json")
    assert "No open attempt belongs to host 'worker-8'. Hosts with open attempts: worker-7." in told


DAG_RUNS = """
import datetime as dt
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType

now = dt.datetime.now(dt.UTC)
with create_session() as session:
    session.add(DagBundleModel(name="bundle"))
    session.flush()
    for dag_id, stale in (("present", False), ("gone", True), ("broken", True)):
        session.add(DagModel(dag_id=dag_id, bundle_name="bundle", relative_fileloc=f"{dag_id}.py", is_stale=stale))
    session.add(ParseImportError(filename="broken.py", bundle_name="bundle", timestamp=now, stacktrace="error"))
    for dag_id in ("present", "gone", "broken", "deleted"):
        for state in ("running", "queued", "success", "failed"):
            run = DagRun(
                dag_id=dag_id, run_id=state, run_type=DagRunType.MANUAL, state=state, run_after=now, logical_date=None,
                triggered_by=DagRunTriggeredByType.CLI,
            )
            session.add(run)
from airflow_provider_axtx.cli.common import active_dag_runs
from airflow_provider_axtx.core.records import TaskIdentity
assert active_dag_runs(TaskIdentity("present", "running")) == {("present", "running")}
assert not active_dag_runs(TaskIdentity("gone", "running"))
print(sorted(active_dag_runs()))
"""


def test_dag_runs_of_dags_that_are_gone_are_over(home: Home) -> None:
    done = home.run("-c", DAG_RUNS)
    active = [(dag_id, state) for dag_id in ("broken", "present") for state in ("queued", "running")]
    assert done.stdout.splitlines()[-1] == str(active)


@pytest.fixture
def ended(digits: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentStore:
    """The store with ``digits``, and an experiment of a DAG run that has left an app behind."""
    store = ExperimentStore(f"sqlite:///{digits / 'digits.db'}")
    experiment(store, 1, "open")
    begin(store, "open", 0)
    monkeypatch.setattr(cleanup, "installation_id_in_database", lambda: "")
    monkeypatch.setattr(cleanup, "active_dag_runs", lambda: set())
    return store


def test_cleanup_removes_what_is_old_and_tells_why_it_left_the_rest(ax: Ax, ended: ExperimentStore) -> None:
    assert json.loads(ax("cleanup", "--older-than", "90d", "--output", "json")[0]) == []
    time.sleep(1.0)  # the shortest age that can be given in whole seconds
    listed = json.loads(ax("cleanup", "--older-than", "0.5", "--dry-run", "--output", "json")[0])
    assert [(row["experiment"], row["result"]) for row in listed] == [("digits", "to be removed"), ("open", "left")]
    assert "trial 0 (STAGED)" in listed[1]["reason"]
    keep_best = ("--keep-best", "--experiment", "digits")
    assert json.loads(ax("cleanup", "--older-than", "0.5", *keep_best, "--output", "json")[0]) == []
    assert len(ended.summaries()) == 2
    removed = yaml.safe_load(ax("cleanup", "--older-than", "0.5", "--output", "yaml")[0])
    assert [(row["experiment"], row["result"]) for row in removed] == [("digits", "removed"), ("open", "left")]
    assert [summary.name for summary in ended.summaries()] == ["open"]


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("age", ["soon", "-1d", "0"])
def test_an_age_that_is_none_is_an_error(ax: Ax, age: str) -> None:
    with pytest.raises(SystemExit, match="--older-than must be a duration"):
        ax("cleanup", f"--older-than={age}")


def test_cleanup_needs_an_age(ax: Ax) -> None:
    with pytest.raises(SystemExit):
        ax("cleanup")


def test_delete_asks_and_is_refused_while_a_trial_is_open(
    ax: Ax, ended: ExperimentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def no_terminal(question: str) -> str:
        asked.append(question)
        raise EOFError

    for answer in (lambda question: "n", no_terminal):
        monkeypatch.setattr("builtins.input", answer)
        with pytest.raises(SystemExit, match="Nothing was removed"):
            ax("delete", "digits")
    assert "'digits' with 2 trials" in asked[0]
    with pytest.raises(SystemExit, match=r"'open' is left: 1 of its trials are open"):
        ax("delete", "open", "--yes")
    with pytest.raises(SystemExit, match="nothing"):
        ax("delete", "nothing", "--yes")
    assert len(ended.summaries()) == 2
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert "Removed digits" in ax("delete", "digits")[1]
    assert [summary.name for summary in ended.summaries()] == ["open"]


def test_convert_writes_a_definition_that_operators_take(
    ax: Ax, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tmp_path / "space.json"
    space.write_text('{"lr": {"type": "float", "low": 1e-5, "high": 0.1, "log": true}}')
    arguments = ("convert", "optuna", str(space), "--objective=-loss")
    spec = ExperimentSpec.load(yaml.safe_load(ax(*arguments)[0]))
    assert (spec.name, spec.objective, spec.parameters[0].name) == ("space", "-loss", "lr")
    assert ax(*arguments, "--file", str(tmp_path / "out.json"), "--output", "json") == ("", "")
    assert ExperimentSpec.load((tmp_path / "out.json").read_text()) == spec
    (tmp_path / "rayspace.py").write_text('space = {"lr": {"loguniform": [1e-5, 0.1]}}')
    monkeypatch.chdir(tmp_path)
    named = ax("convert", "ray", "rayspace:space", "--objective=-loss", "--name", "space")[0]
    assert ExperimentSpec.load(yaml.safe_load(named)) == spec


@pytest.mark.parametrize("place", ["nothing.yaml", "nothing:space"])
def test_convert_names_a_source_that_cannot_be_read(ax: Ax, place: str) -> None:
    with pytest.raises(SystemExit, match=r"nothing.*Fix:"):
        ax("convert", "ray", place)
