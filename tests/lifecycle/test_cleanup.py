"""Ended experiments are removed with all that their trials have left, whatever kills the process in between."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_axtx.core.app_observation import AppObservation
from airflow_provider_axtx.core.errors import ExperimentNotFoundError, StoreConflictError, TrialStateError
from airflow_provider_axtx.core.home import axtx_home
from airflow_provider_axtx.core.records import AIRFLOW, AttemptRecord, Observation, TaskIdentity, TrialEnd
from airflow_provider_axtx.core.steering import Action, NewChange
from airflow_provider_axtx.launcher import torchx_launcher
from airflow_provider_axtx.launcher.local_detached import launch
from airflow_provider_axtx.launcher.local_detached.app_dir import STARTED, AppDir, this_host
from airflow_provider_axtx.launcher.local_detached.local_root import place
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.lifecycle.checkpoints import prune_checkpoints
from airflow_provider_axtx.lifecycle.cleanup import CleanedUp, Retention, clean_up
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.lifecycle.rig import SPEC
from tests.store.material import add, begin, experiment, killed_at

#: Imported here, so that the processes that are killed need not import it.
PRELOADED = torchx_launcher
OURS = TaskIdentity("dag", "run", "submit", torchx_conn_id="torchx_default", installation="ours")
EVERYTHING = Retention(idle_since=None, installation="ours")


@dataclass
class Machine:
    """A store, and the apps and trackers of this machine, made without processes."""

    folder: Path
    active: set[str] = field(default_factory=set)
    held: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.apps, self.trackers = self.folder / "apps", self.folder / "trackers"
        self.store = ExperimentStore(f"sqlite:///{self.folder / 'store.db'}")

    def run(self, name: str, index: int, loss: float | None = None, **options: Any) -> AttemptRecord:
        """Let a trial run once; without a loss its app fails."""
        given = {"identity": OURS, "tracker_root": str(self.trackers), "lookup_options": dict(place(self.apps))}
        given["host"] = this_host()["host"]
        attempt = begin(self.store, name, index, **{**given, **options})
        attempt = self.store.record_handle(attempt, f"{attempt.scheduler}://torchx/{attempt.submission_key}")
        self.make_app(attempt.submission_key)
        result = Path(attempt.tracker_base, str(index))
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps({"loss": loss}))
        end = TrialEnd("FAILED", reason="no loss")
        if loss is not None:
            end = TrialEnd("COMPLETED", (Observation(index, "loss", loss),))
        return self.store.end_attempt(attempt, AppObservation("SUCCEEDED" if loss else "FAILED"), end)[0]

    def make_app(self, key: str) -> None:
        app = AppDir(str(self.apps), key)
        role = {"name": "app", "replicas": [{"env": {}, "stdout": f"{app.logs}/app/0/stdout.log"}]}
        launch.commit(app, {"roles": [role], "max_parallel": 1, "term_grace": 1})
        Path(app.logs, "app", "0", "combined.log").write_text("output\n")
        app.write(STARTED, {**this_host(), "pid": 1, "time": time.time()})
        app.write_final("SUCCEEDED", "", False, {})

    def experiment(self, name: str, losses: list[float | None]) -> None:
        self.store.create(name, {**SPEC, "name": name})
        add(self.store, name, len(losses))
        for index, loss in enumerate(losses):
            self.run(name, index, loss)

    def clean(self, retention: Retention = EVERYTHING, *, dry_run: bool = False) -> list[CleanedUp]:
        def launcher_for(attempt: AttemptRecord) -> TorchXLauncher:
            return TorchXLauncher.for_attempt(attempt.scheduler, attempt.lookup_options)

        return clean_up(
            self.store, launcher_for, retention, is_active=lambda task: task.run_id in self.active, dry_run=dry_run
        )

    def files(self) -> list[str]:
        """Return the keys of the attempts that have an app folder or a tracker, and what was left half removed."""
        found = [*self.apps.glob("*-t*-a*"), *self.apps.glob(".old-*"), *self.apps.glob(".new-*")]
        return sorted({path.name for path in [*found, *self.trackers.glob("*")]})

    def keys(self, name: str) -> list[str]:
        return [attempt.submission_key for attempt in self.store.attempts(name)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    with made.held:
        yield made
    made.store.close()


def test_an_ended_experiment_goes_with_rows_apps_logs_and_trackers(machine: Machine) -> None:
    machine.experiment("old", [0.5, None])
    machine.experiment("other", [0.1])
    assert machine.clean(Retention(experiment="old", installation="ours")) == [CleanedUp("old", "removed", 2)]
    assert machine.files() == machine.keys("other")
    with pytest.raises(ExperimentNotFoundError):
        machine.store.summary("old")
    assert [summary.name for summary in machine.store.summaries()] == ["other"]
    assert machine.clean() == [CleanedUp("other", "removed", 1)]
    assert machine.files() == []


def test_what_was_used_lately_stays_and_is_not_listed(machine: Machine) -> None:
    machine.experiment("old", [0.5])
    between = time.time()
    machine.experiment("new", [0.5])
    assert machine.clean(Retention(idle_since=between, installation="ours")) == [CleanedUp("old", "removed", 1)]
    assert machine.files() == machine.keys("new")


def test_what_a_user_has_asked_for_lately_is_activity(machine: Machine) -> None:
    machine.experiment("old", [0.5])
    between = time.time()
    machine.store.steer("old", NewChange(Action.PAUSE, "id", "vera", "cli"))
    assert machine.clean(Retention(idle_since=between, installation="ours")) == []
    assert machine.clean(Retention(idle_since=time.time(), installation="ours")) == [CleanedUp("old", "removed", 1)]


def test_what_a_user_has_asked_to_delete_goes_whole_whatever_its_age(machine: Machine) -> None:
    machine.experiment("unwanted", [0.5, 0.1])
    machine.experiment("kept", [0.5])
    with pytest.raises(TrialStateError, match="1 of its trials are open"):
        add(machine.store, "kept")
        machine.store.steer("kept", NewChange(Action.DELETE, "early", "vera", "page"))
    machine.run("kept", 1, 0.5)
    asked = [machine.store.steer(name, NewChange(Action.DELETE, "id", "vera", "page")) for name in ("unwanted", "kept")]
    machine.store.steer("unwanted", NewChange(Action.NOTE, "note", "vera", "page", arguments={"text": "x"}))
    withdrawn = {"position": asked[1].position}
    machine.store.steer("kept", NewChange(Action.WITHDRAW, "back", "vera", "page", arguments=withdrawn))
    nightly = Retention(idle_since=0.0, keep_best=True, installation="ours")
    assert machine.clean(nightly) == [CleanedUp("unwanted", "removed", 2)]
    assert machine.files() == sorted(machine.keys("kept"))


def test_a_dry_run_tells_and_removes_nothing(machine: Machine) -> None:
    machine.experiment("old", [0.5, None])
    files = machine.files()
    assert machine.clean(dry_run=True) == [CleanedUp("old", "to be removed", 2)]
    keep_best = Retention(keep_best=True, installation="ours")
    assert machine.clean(keep_best, dry_run=True) == [CleanedUp("old", "files to be removed", 1)]
    assert machine.files() == files
    assert all(attempt.has_files for attempt in machine.store.attempts("old"))


def test_with_keep_best_all_rows_and_the_files_of_the_best_stay(machine: Machine) -> None:
    machine.experiment("old", [0.5, 0.1, None, 0.3])
    before = machine.store.snapshot("old")
    keep_best = Retention(keep_best=True, installation="ours")
    assert machine.clean(keep_best) == [CleanedUp("old", "files removed", 3)]
    assert machine.files() == [machine.keys("old")[1]]
    assert machine.store.snapshot("old") == before
    assert machine.clean(keep_best) == []
    # It can go on, and what it does then is removed later.
    add(machine.store, "old")
    machine.run("old", 4, 0.05)
    assert machine.clean(keep_best) == [CleanedUp("old", "files removed", 1)]
    assert machine.files() == [machine.keys("old")[4]]
    assert machine.clean() == [CleanedUp("old", "removed", 1)]
    assert machine.files() == []


# -- what stays --------------------------------------------------------------------------------------------------------


def open_trial(machine: Machine) -> str:
    add(machine.store, "old")
    return "1 of its trials are open, the first is trial 1 (CANDIDATE)"


def open_attempt(machine: Machine) -> str:
    add(machine.store, "old")
    attempt = begin(machine.store, "old", 1, identity=OURS)
    machine.store.record_handle(attempt, "local_detached://torchx/app")
    machine.store.complete("old", 1, status="ABANDONED")
    return "attempt 1 of trial 1 may still run (local_detached://torchx/app)"


def late_submission(machine: Machine) -> str:
    add(machine.store, "old")
    attempt = begin(machine.store, "old", 1, identity=OURS)
    machine.store.end_attempt(attempt, AppObservation("CANCELLED", "no app was found"))
    return f"attempt 1 of trial 1 may still run ({attempt.submission_key})"


def leased(machine: Machine) -> str:
    machine.held.enter_context(machine.store.lease("old", "task", 1000))
    return "a task generates trials for it (task)"


def another_deployment(machine: Machine) -> str:
    add(machine.store, "old")
    machine.run("old", 1, 0.5, identity=TaskIdentity("dag", "run", "t", installation="theirs"))
    return "tasks of another Airflow deployment have worked on it"


def active_dag_run(machine: Machine) -> str:
    machine.active.add("run")
    return "the DAG run 'run' of DAG 'dag', which has worked on it, is active"


@pytest.mark.parametrize("use", [open_trial, open_attempt, late_submission, leased, another_deployment, active_dag_run])
@pytest.mark.parametrize("keep_best", [False, True])
def test_an_experiment_that_is_used_is_left_whole_with_the_reason(
    machine: Machine, use: Callable[[Machine], str], keep_best: bool
) -> None:
    machine.experiment("old", [0.5])
    reason = use(machine)
    files, before = machine.files(), machine.store.snapshot("old")
    retention = Retention(keep_best=keep_best, installation="ours")
    for dry_run in (True, False):
        assert machine.clean(retention, dry_run=dry_run) == [CleanedUp("old", "left", reason=reason)]
    assert machine.files() == files
    assert machine.store.snapshot("old") == before


def test_an_app_that_still_runs_although_its_end_is_recorded_is_left(machine: Machine) -> None:
    machine.experiment("old", [0.5])
    (key,) = machine.keys("old")
    (machine.apps / key / "final.json").unlink()
    (machine.apps / key / "started.json").unlink()  # submitted, and its supervisor has not started yet
    (line,) = machine.clean()
    assert (line.result, line.attempts) == ("left", 0)
    assert f"local_detached://torchx/{key} has not ended" in line.reason
    assert machine.files() == [key]
    assert machine.store.attempts("old")[0].has_files


def test_hosts_take_turns_and_the_last_one_removes_the_rows(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.experiment("old", [0.5])
    there = {**place(tmp_path / "there"), "host": "there", "boot_id": "another kernel"}
    there["local_root"], there["root_id"] = str(machine.apps), "another root"
    add(machine.store, "old")
    machine.run("old", 1, 0.4, lookup_options=there, host="there")
    elsewhere = machine.keys("old")[1]
    machine.experiment("only here", [0.5])

    left, gone = machine.clean()
    assert gone == CleanedUp("only here", "removed", 1)
    assert (left.experiment, left.result, left.attempts) == ("old", "left", 1)
    assert "belongs to host there" in left.reason
    assert machine.files() == [elsewhere]

    monkeypatch.setattr("airflow_provider_axtx.launcher.local_detached.local_root.this_host", lambda: there)
    (machine.apps / ".root-id").write_text("another root")
    assert machine.clean() == [CleanedUp("old", "removed", 1)]
    assert machine.files() == []


def test_what_was_on_a_lost_host_is_gone_with_it(machine: Machine) -> None:
    experiment(machine.store, 1, "old")
    options = {**place(machine.apps), "host": "lost", "boot_id": "x", "root_id": "x"}
    machine.run("old", 0, 0.5, lookup_options=options, host="lost")
    (key,) = machine.keys("old")
    (machine.apps / key).rename(machine.folder / "with the host")
    assert [line.result for line in machine.clean()] == ["left"]
    assert machine.clean(Retention(installation="ours", lost_hosts=["lost"])) == [CleanedUp("old", "removed", 1)]
    assert machine.files() == []  # also the tracker, which this machine reaches


def test_trackers_of_a_cluster_that_are_not_mounted_here_are_not_forgotten(machine: Machine) -> None:
    experiment(machine.store, 3, "old")
    for index in range(3):
        machine.run("old", index, 0.5, scheduler="kubernetes", lookup_options={}, host=None)
    machine.trackers.rename(machine.folder / "unmounted")
    (line,) = machine.clean()
    assert (line.result, line.attempts) == ("left", 0)
    assert line.reason.startswith("3 attempt(s): The folder")
    assert "does not exist on this machine. Fix: mount the shared file system" in line.reason
    (machine.folder / "unmounted").rename(machine.trackers)
    assert machine.clean() == [CleanedUp("old", "removed", 3)]


def test_trials_whose_tasks_returned_their_results_are_removed_where_no_tracker_was_ever_written(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(machine.folder / "airflow"))
    machine.store.create("old", {**SPEC, "name": "old"})
    add(machine.store, "old", 2)
    root = axtx_home() / "tracker"
    for index, end in enumerate([TrialEnd("COMPLETED", (Observation(0, "loss", 0.5),)), TrialEnd("FAILED")]):
        attempt = begin(machine.store, "old", index, identity=OURS, scheduler=AIRFLOW, tracker_root=str(root))
        attempt = machine.store.record_handle(attempt, "airflow://dag/body")
        machine.store.end_attempt(attempt, AppObservation("SUCCEEDED"), end)
    assert prune_checkpoints(machine.store, "old", "none") == [0]
    # An app of a cluster may have written there on a volume that is not mounted here.
    experiment(machine.store, 1, "cluster")
    machine.run("cluster", 0, scheduler="kubernetes", host=None, lookup_options={}, tracker_root=str(root))
    root.rename(machine.folder / "unmounted")
    lines = machine.clean()
    assert [(line.experiment, line.result) for line in lines] == [("cluster", "left"), ("old", "removed")]
    assert not root.exists()


def test_a_tracker_that_several_attempts_share_stays(machine: Machine) -> None:
    experiment(machine.store, 1, "old")
    shared = machine.folder / "shared"
    machine.run("old", 0, 0.5, tracker_base=str(shared))
    assert machine.clean() == [CleanedUp("old", "removed", 1)]
    assert (shared / "0").is_file()


def test_one_tracker_that_cannot_be_removed_keeps_only_its_experiment(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_axtx.launcher import tracker

    machine.experiment("bad", [0.5, 0.4])
    machine.experiment("good", [0.5])
    first = machine.keys("bad")[0]
    remove_in = tracker.remove_in

    def refuse(base: Path, *names: str) -> bool:
        if names == (first,):
            raise PermissionError(13, "Permission denied", first)
        return remove_in(base, *names)

    with monkeypatch.context() as patched:
        patched.setattr(tracker, "remove_in", refuse)
        lines = machine.clean()
    assert [(line.experiment, line.result, line.attempts) for line in lines] == [
        ("bad", "left", 1),
        ("good", "removed", 1),
    ]
    assert "Permission denied" in lines[0].reason
    assert machine.clean() == [CleanedUp("bad", "removed", 1)]
    assert machine.files() == []


def test_a_tracker_that_does_not_answer_is_asked_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_axtx.launcher import tracker

    machine.experiment("a", [0.5] * 3)
    machine.experiment("b", [0.5] * 3)
    machine.experiment("elsewhere", [])
    add(machine.store, "elsewhere", 1)
    machine.run("elsewhere", 0, 0.5, tracker_root=str(machine.folder / "other"))
    answered, asked, remove_in = threading.Event(), [], tracker.remove_in

    def hang(base: Path, *names: str) -> bool:
        if base != machine.trackers:
            return remove_in(base, *names)
        asked.append(names)
        return answered.wait(60)

    with monkeypatch.context() as patched:
        patched.setattr(tracker, "remove_in", hang)
        patched.setattr(tracker, "DEADLINE_SECONDS", 0.2)
        lines = machine.clean()
    answered.set()
    assert [(line.experiment, line.result, line.attempts) for line in lines] == [
        ("a", "left", 0),
        ("b", "left", 0),
        ("elsewhere", "removed", 1),
    ]
    assert lines[1].reason.startswith("3 attempt(s): The tracker at")
    assert len(asked) == 1
    assert [line.result for line in machine.clean()] == ["removed", "removed"]


def test_a_definition_that_cannot_be_read_keeps_only_its_experiment(machine: Machine) -> None:
    machine.experiment("bad", [0.5])
    machine.experiment("good", [0.5, 0.4])
    with sa.create_engine(f"sqlite:///{machine.folder / 'store.db'}").begin() as connection:
        connection.execute(sa.text("UPDATE axtx_experiments SET spec = '{\"version\": 99}' WHERE name = 'bad'"))
    bad, good = machine.clean(Retention(keep_best=True, installation="ours"))
    assert (bad.result, bad.reason != "") == ("left", True)
    assert good == CleanedUp("good", "files removed", 1)


# -- at the same time, and killed --------------------------------------------------------------------------------------


def test_what_another_process_does_meanwhile_is_seen_by_the_last_step(machine: Machine) -> None:
    machine.experiment("old", [0.5])
    use, keys = machine.store.use("old"), machine.keys("old")
    add(machine.store, "old")
    with pytest.raises(TrialStateError, match="trial 1"):
        machine.store.delete("old", use.uid, keys)
    machine.run("old", 1, 0.3)
    with pytest.raises(TrialStateError, match="used again"):
        machine.store.delete("old", use.uid, machine.keys("old"), idle_since=use.last_activity_at)
    with pytest.raises(StoreConflictError, match="other attempts"):
        machine.store.delete("old", use.uid, keys)
    machine.store.delete("old", "the uid of one that was created anew", machine.keys("old"))
    assert len(machine.store.snapshot("old").trials) == 2


POINTS = [
    "cleanup.after_app",
    "cleanup.after_app:2",
    "local.after_trash",
    "cleanup.after_tracker",
    "store.before_note_files_removed_commit",
    "store.after_note_files_removed_commit",
    "cleanup.after_files",
    "store.before_delete_commit",
    "store.after_delete_commit",
]


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_called_again_it_leaves_nothing(machine: Machine, point: str) -> None:
    machine.experiment("old", [0.5, None])
    machine.experiment("used", [0.5])
    add(machine.store, "used")
    killed_at(point, machine.clean)
    assert machine.store.summaries()[-1].name == "used"
    if point != "store.after_delete_commit":  # no folder without a row
        assert set(machine.files()) <= {*machine.keys("old"), *machine.keys("used"), f".old-{machine.keys('old')[0]}"}
    machine.clean()
    assert machine.files() == machine.keys("used")
    assert [summary.name for summary in machine.store.summaries()] == ["used"]


def test_what_a_killed_submitter_was_preparing_goes_too(machine: Machine) -> None:
    machine.experiment("old", [0.5])
    for name, age in ((".new-young", 0), (".new-stale", 7200)):
        (machine.apps / name).mkdir()
        os.utime(machine.apps / name, (time.time() - age,) * 2)
    (machine.apps / ".old-half").mkdir()
    machine.clean()
    assert machine.files() == [".new-young"]


def test_killed_at_random_moments_no_folder_is_ever_without_its_row(machine: Machine) -> None:
    machine.experiment("old", [0.5] * 30)
    machine.experiment("other", [0.5] * 10)
    fork = multiprocessing.get_context("fork")
    kills = 0
    for number in range(200):
        moment = 0.01 * number * random.uniform(0.5, 1.5)
        process = fork.Process(target=machine.clean)
        process.start()
        process.join(moment)
        if process.exitcode == 0:
            break
        process.kill()
        process.join()
        kills += 1
        print("killed after", moment)
        names = [summary.name for summary in machine.store.summaries()]
        rows = {key for name in names for key in machine.keys(name)}
        assert {name.removeprefix(".old-") for name in machine.files()} <= rows
    assert kills > 0
    machine.clean()
    assert (machine.files(), machine.store.summaries()) == ([], [])
