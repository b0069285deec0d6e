"""A trial's checkpoints outlive its attempts; they go when they are asked to, and take nothing else with them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_axtx.core.app_observation import STOPPED_EARLY, AppObservation
from airflow_provider_axtx.core.checkpoints import Keep, RetryFrom
from airflow_provider_axtx.core.errors import TrackerUnavailableError
from airflow_provider_axtx.core.keys import checkpoint_dir_for, submission_key
from airflow_provider_axtx.core.records import AttemptRecord, Observation, TrialEnd
from airflow_provider_axtx.launcher.local_detached.app_dir import STARTED, AppDir
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from airflow_provider_axtx.launcher.tracker import remove_checkpoint
from airflow_provider_axtx.lifecycle.checkpoints import prune_checkpoints, with_checkpoints
from airflow_provider_axtx.lifecycle.cleanup import CleanedUp, Retention, clean_up
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.lifecycle.rig import SPEC, Rig, settled
from tests.store.material import add, begin, killed_at

COMPONENTS = Path(__file__).with_name("components.py")
_DEADLINE = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.02)  # another process has no event to offer


@pytest.mark.parametrize(
    ("root", "shared"), [("/data/t", False), ("s3://bucket/t/", False), ("/data/t", True), ("/", False)]
)
def test_all_attempts_of_a_trial_have_one_checkpoint_folder_beside_their_trackers(root: str, shared: bool) -> None:
    # A name so long that the slug of the tenth attempt's key is shorter.
    keys = [submission_key("x" * 60, "uid", 3, attempt) for attempt in (1, 10)]
    found = {checkpoint_dir_for(root if shared else f"{root.rstrip('/')}/{key}", key) for key in keys}
    other = submission_key("x" * 60, "uid", 4, 1)
    assert len(found) == 1
    (folder,) = found
    assert folder.rpartition("/")[0] == root.rstrip("/")
    assert folder != checkpoint_dir_for(root if shared else f"{root.rstrip('/')}/{other}", other)


@pytest.mark.parametrize(("retry_from", "repeated"), [("checkpoint", 1), ("beginning", 15)])
def test_a_trial_whose_supervisor_was_killed_repeats_at_most_one_epoch(
    rig: Rig, retry_from: RetryFrom, repeated: int
) -> None:
    launcher = TorchXLauncher("local_detached")
    component = f"{COMPONENTS}:epochs"
    loop = rig.loop(launcher=launcher, component=component, trial_retries=1, retry_from=retry_from, max_trials=1)
    attempt = settled(loop).live[0]
    epochs = rig.root / "epochs"
    until(lambda: epochs.exists() and epochs.read_text().endswith("\n15\n"), "fifteenth epoch")
    (rig.root / "gate").touch()
    place = AppDir(str((attempt.lookup_options or {})["local_root"]), attempt.submission_key)
    os.kill((place.read(STARTED) or {})["pid"], signal.SIGKILL)
    until(lambda: loop.step().finished is not None, "end of the loop")
    assert rig.statuses() == {0: "COMPLETED"}
    begun = list(map(int, epochs.read_text().split()))
    assert (len(begun) - 20, sorted(set(begun))) == (repeated, list(range(1, 21)))
    folder = checkpoint_dir_for(attempt.tracker_base, attempt.submission_key)
    assert (rig.root / "told").read_text() == f"2 {folder}\n"
    assert with_checkpoints(rig.store, "loop", [{"trial_index": 0}]) == [{"trial_index": 0, "checkpoint_dir": folder}]


class Ended:
    """Trials that have ended, each with a checkpoint in which there is a link to a folder outside."""

    def __init__(self, root: Path) -> None:
        self.store, self.root = ExperimentStore(f"sqlite:///{root / 'store.db'}"), root
        self.outside = root / "outside"
        self.outside.mkdir()
        (self.outside / "precious").touch()
        self.store.create("ended", {**SPEC, "name": "ended"})
        add(self.store, "ended", 5)
        self._end(0, AppObservation("SUCCEEDED"), TrialEnd("COMPLETED", (Observation(0, "loss", 2.0),)))
        self._end(1, AppObservation("SUCCEEDED"), TrialEnd("COMPLETED", (Observation(1, "loss", 1.0),)))
        self._end(2, AppObservation("CANCELLED"), None, cancelled=f"{STOPPED_EARLY}: too slow")
        self._end(3, AppObservation("FAILED", "exit code 1"), None)

    def _end(self, index: int, seen: AppObservation, end: TrialEnd | None, cancelled: str = "") -> None:
        attempt = begin(self.store, "ended", index, tracker_root=str(self.root / "t"), lookup_options={})
        attempt = self.store.record_handle(attempt, f"local_detached://torchx/{attempt.submission_key}")
        if cancelled:
            attempt = self.store.request_cancel(attempt, cancelled)
        folder = Path(checkpoint_dir_for(attempt.tracker_base, attempt.submission_key), "deep")
        folder.mkdir(parents=True)
        (folder / "weights").write_text("weights")
        (folder / "link").symlink_to(self.outside, target_is_directory=True)
        self.store.end_attempt(attempt, seen, end)

    def attempts(self) -> list[AttemptRecord]:
        return self.store.attempts("ended")

    def left(self) -> list[int]:
        return [
            one.trial_index
            for one in self.attempts()
            if Path(checkpoint_dir_for(one.tracker_base, one.submission_key)).exists()
        ]


@pytest.fixture
def ended(tmp_path: Path) -> Ended:
    return Ended(tmp_path)


@pytest.mark.parametrize(("keep", "left"), [("all", [0, 1, 2, 3]), ("best", [1, 3]), ("none", [3])])
def test_only_trials_that_never_run_again_lose_their_checkpoints(ended: Ended, keep: Keep, left: list[int]) -> None:
    removed = prune_checkpoints(ended.store, "ended", keep)
    assert sorted(removed + left) == [0, 1, 2, 3]
    assert ended.left() == left
    assert prune_checkpoints(ended.store, "ended", keep) == []
    assert (ended.outside / "precious").exists()
    told = with_checkpoints(ended.store, "ended", [{"trial_index": index} for index in range(5)])
    assert [one["trial_index"] for one in told if one["checkpoint_dir"]] == left


def test_a_checkpoint_folder_that_is_a_link_is_removed_as_a_link(ended: Ended) -> None:
    first = ended.attempts()[0]
    folder = Path(checkpoint_dir_for(first.tracker_base, first.submission_key))
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(ended.outside, target_is_directory=True)
    assert prune_checkpoints(ended.store, "ended", "none") == [0, 1, 2]
    assert not folder.is_symlink()
    assert (ended.outside / "precious").exists()


def test_a_folder_that_cannot_be_read_now_keeps_its_checkpoints(ended: Ended) -> None:
    folder = ended.root / "t"
    away = folder.rename(ended.root / "away")
    folder.symlink_to(folder)
    assert prune_checkpoints(ended.store, "ended", "best") == []
    told = with_checkpoints(ended.store, "ended", [{"trial_index": index} for index in range(5)])
    assert [one["trial_index"] for one in told if one["checkpoint_dir"]] == [0, 1, 2, 3]
    folder.unlink()
    away.rename(folder)
    assert ended.left() == [0, 1, 2, 3]
    assert prune_checkpoints(ended.store, "ended", "best") == [0, 2]


def test_what_a_killed_process_has_removed_without_recording_it_is_recorded_by_the_next(ended: Ended) -> None:
    killed_at("checkpoints.after_removed", lambda: prune_checkpoints(ended.store, "ended", "best"))
    assert ended.left() == [1, 3]
    assert prune_checkpoints(ended.store, "ended", "best") == [0, 2]
    assert [one.may_have_checkpoint for one in ended.attempts()] == [False, True, False, True]


def test_retention_keeps_the_best_checkpoint_and_removal_takes_all(ended: Ended) -> None:
    ended.store.complete("ended", 4, status="ABANDONED", reason="not run")

    def clean(*, keep_best: bool) -> list[CleanedUp]:
        retention = Retention(experiment="ended", keep_best=keep_best)
        launcher = TorchXLauncher("local_detached")
        return clean_up(ended.store, lambda attempt: launcher, retention, is_active=lambda task: False)

    assert clean(keep_best=True) == [CleanedUp("ended", "files removed", 3)]
    assert ended.left() == [1]
    assert clean(keep_best=False) == [CleanedUp("ended", "removed", 1)]
    assert list((ended.root / "t").iterdir()) == []
    assert (ended.outside / "precious").exists()


def test_a_shared_folder_that_its_owner_has_removed_keeps_nothing_from_being_removed(tmp_path: Path) -> None:
    key, gone = submission_key("e", "uid", 0, 1), tmp_path / "gone"
    assert not remove_checkpoint(str(gone), key, root_must_exist=True)
    with pytest.raises(TrackerUnavailableError, match="does not exist on this machine"):
        remove_checkpoint(str(gone / key), key, root_must_exist=True)
