"""Slurm, real: what only it does."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from torchx.specs import AppDef, Resource, Role

from airflow_provider_axtx.core.errors import InvalidInputError
from airflow_provider_axtx.core.keys import submission_key
from airflow_provider_axtx.launcher.torchx_launcher import TorchXLauncher
from tests.contracts.rigs import SlurmRig
from tests.lifecycle.components import epochs

pytestmark = pytest.mark.slurm
LIVE = ("PENDING", "RUNNING")


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Count calls of sacct and squeue: a file with a line for each."""
    calls = tmp_path / "calls"
    calls.touch()
    wrappers = tmp_path / "wrappers"
    wrappers.mkdir()
    for command in ("sacct", "squeue"):
        file = wrappers / command
        file.write_text(f'#!/bin/sh\necho {command} >>{calls}\nexec {shutil.which(command)} "$@"\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrappers}{os.pathsep}{os.environ['PATH']}")
    return calls


def node_of(rig: SlurmRig, handle: str) -> str:
    return rig.cluster.ask("squeue", "-h", "-j", rig.launcher.app_id(handle), "-o", "%N")


def test_200_jobs_are_observed_with_one_sacct(slurm_rig: SlurmRig, counted: Path) -> None:
    with slurm_rig.full():
        keys = [submission_key("contract", slurm_rig.key, n, 1) for n in range(200)]
        handles = [slurm_rig.submit(key, mode="now") for key in keys]
        ids = ",".join(map(slurm_rig.launcher.app_id, handles))

        def accounted() -> bool:
            return len(slurm_rig.cluster.ask("sacct", "-X", "-n", "-j", ids, "-o", "JobID").splitlines()) == 200

        slurm_rig.await_true(accounted, "accounting of all jobs")
        counted.write_text("")
        began = time.perf_counter()
        seen = slurm_rig.launcher.observe(handles)
        slurm_rig.note("observe 200", time.perf_counter() - began)
        assert {o.app_state for o in seen.values()} == {"PENDING"}
        assert counted.read_text().split() == ["sacct"]
        slurm_rig.cluster.cancel_all()

    def all_cancelled() -> bool:
        counted.write_text("")
        states = {o.app_state for o in slurm_rig.launcher.observe(handles).values()}
        assert states <= {"PENDING", "CANCELLED"}  # accounting lags
        return states == {"CANCELLED"}

    slurm_rig.await_true(all_cancelled, "end of all jobs")
    assert counted.read_text().split() == ["sacct"]


def test_jobs_live_and_end_while_slurmdbd_is_away(slurm_rig: SlurmRig) -> None:
    before, during = f"{slurm_rig.key}1", f"{slurm_rig.key}2"
    old = slurm_rig.submit(before)
    slurm_rig.await_running(before, old)
    with slurm_rig.cluster.without("slurmdbd"):
        new = slurm_rig.submit(during)
        slurm_rig.await_running(during, new)
        assert slurm_rig.find(during) == new
        assert {o.app_state for o in slurm_rig.launcher.observe([old, new]).values()} == {"RUNNING"}
        slurm_rig.release(before)
        slurm_rig.await_state(old, "SUCCEEDED")
        slurm_rig.release(during, exit_code=4)
        slurm_rig.await_state(new, "FAILED")
    # Accounting catches up from what slurmctld kept for it.
    slurm_rig.await_state(old, "SUCCEEDED")
    seen = slurm_rig.await_state(new, "FAILED")
    assert not seen.is_infrastructure_failure
    assert "exit code 4" in seen.message


def test_jobs_live_while_slurmctld_is_away(slurm_rig: SlurmRig) -> None:
    handle = slurm_rig.submit(slurm_rig.key)
    slurm_rig.await_running(slurm_rig.key, handle)
    slurm_rig.cluster.await_saved(slurm_rig.launcher.app_id(handle))
    slurm_rig.cluster.kill("slurmctld", hard=True)
    try:
        assert slurm_rig.observe(handle).app_state == "RUNNING"
    finally:
        slurm_rig.cluster.start()
    slurm_rig.release(slurm_rig.key)
    slurm_rig.await_state(handle, "SUCCEEDED")


def test_killed_node_is_an_infrastructure_failure(slurm_rig: SlurmRig) -> None:
    handle = slurm_rig.submit(slurm_rig.key)
    slurm_rig.await_running(slurm_rig.key, handle)
    slurm_rig.cluster.kill(f"slurmd-{node_of(slurm_rig, handle)}", hard=True)
    try:
        seen = slurm_rig.await_state(handle, "FAILED", seconds=120)
    finally:
        slurm_rig.cluster.start()
    assert seen.is_infrastructure_failure
    assert "NODE_FAIL" in seen.message
    slurm_rig.await_true(lambda: not slurm_rig.processes(slurm_rig.key), "end of what the node still ran")
    assert slurm_rig.starts(slurm_rig.key) == 1


def test_restartable_app_survives_a_killed_node(slurm_rig: SlurmRig) -> None:
    handle = slurm_rig.submit(slurm_rig.key, retries=1)
    slurm_rig.await_running(slurm_rig.key, handle)
    slurm_rig.cluster.kill(f"slurmd-{node_of(slurm_rig, handle)}", hard=True)
    try:

        def again() -> bool:
            assert slurm_rig.observe(handle).app_state in LIVE
            return slurm_rig.starts(slurm_rig.key) == 2

        slurm_rig.await_true(again, "second start", seconds=180)
    finally:
        slurm_rig.cluster.start()
    slurm_rig.release(slurm_rig.key)
    slurm_rig.await_state(handle, "SUCCEEDED")
    assert slurm_rig.find(slurm_rig.key) == handle


@pytest.mark.parametrize("replicas", [1, 2])
def test_restarted_app_has_not_failed(slurm_rig: SlurmRig, replicas: int) -> None:
    """TorchX's batch script requeues its own job when the app fails and may be restarted."""
    handle = slurm_rig.submit(slurm_rig.key, retries=1, replicas=replicas)
    slurm_rig.await_running(slurm_rig.key, handle, replicas)
    slurm_rig.release(slurm_rig.key, exit_code=3)

    def first_ended() -> bool:
        assert slurm_rig.observe(handle).app_state in LIVE
        return not slurm_rig.processes(slurm_rig.key)

    slurm_rig.await_true(first_ended, "end of the first run")
    (slurm_rig.folder / f"{slurm_rig.key}.release").unlink()

    def again() -> bool:
        assert slurm_rig.observe(handle).app_state in LIVE
        return slurm_rig.starts(slurm_rig.key) == 2

    slurm_rig.await_true(again, "second start", seconds=120)
    slurm_rig.release(slurm_rig.key)
    slurm_rig.await_state(handle, "SUCCEEDED")


def epochs_again(x: float, trial_idx: int, tracker_base: str, checkpoint_dir: str, folder: str) -> AppDef:
    """Run twenty checkpointed epochs, and let Slurm start the app again.

    Args:
        x: the parameter
        trial_idx: index of the trial
        tracker_base: where it reports
        checkpoint_dir: where its checkpoints are
        folder: where it writes which epochs it has begun
    """
    app = epochs(x, trial_idx, tracker_base, checkpoint_dir, folder)
    app.roles[0].max_retries = 1
    return app


def test_a_requeued_job_repeats_the_epoch_in_which_it_was_ended(slurm_rig: SlurmRig) -> None:
    plan = slurm_rig.launcher.plan(
        epochs_again,
        {"x": 0.5},
        {"folder": str(slurm_rig.folder)},
        trial_index=0,
        experiment="contract",
        tracker_base=str(slurm_rig.folder / slurm_rig.key),
        submission_key=slurm_rig.key,
    )
    handle = slurm_rig.launcher.submit(plan)
    log = slurm_rig.folder / "epochs"
    slurm_rig.await_true(lambda: log.exists() and log.read_text().endswith("\n15\n"), "fifteenth epoch")
    (slurm_rig.folder / "gate").touch()
    slurm_rig.cluster.ask("scontrol", "requeue", slurm_rig.launcher.app_id(handle))
    slurm_rig.await_true(lambda: slurm_rig.observe(handle).app_state == "SUCCEEDED", "its end", seconds=180)
    begun = list(map(int, log.read_text().split()))
    assert begun == [*range(1, 16), *range(15, 21)]


def trapping(folder: str) -> AppDef:
    """Write a file on SIGTERM and end.

    Args:
        folder: where
    """
    script = f"trap 'touch {folder}/saved; exit 0' TERM; touch {folder}/waits; sleep 600 & wait"
    resource = Resource(cpu=1, gpu=0, memMB=64)
    return AppDef("app", [Role("app", image="", entrypoint="/bin/sh", args=["-c", script], resource=resource)])


def test_an_app_is_signalled_before_its_time_is_up(slurm_rig: SlurmRig) -> None:
    args = {**slurm_rig.scheduler_args, "time": "3", "signal": "TERM@170"}
    launcher = TorchXLauncher("slurm", scheduler_args=args)
    base = str(slurm_rig.folder / slurm_rig.key)
    plan = launcher.plan(
        trapping,
        {},
        {"folder": str(slurm_rig.folder)},
        trial_index=0,
        experiment="contract",
        tracker_base=base,
        submission_key=slurm_rig.key,
    )
    handle = launcher.submit(plan)
    slurm_rig.await_true((slurm_rig.folder / "waits").exists, "its start")
    slurm_rig.await_true((slurm_rig.folder / "saved").exists, "its checkpoint")
    slurm_rig.await_state(handle, "SUCCEEDED")


def test_one_failed_replica_fails_the_app(slurm_rig: SlurmRig) -> None:
    handle = slurm_rig.submit(slurm_rig.key, replicas=2)
    slurm_rig.await_running(slurm_rig.key, handle, replicas=2)
    slurm_rig.release(slurm_rig.key, exit_code=3)
    seen = slurm_rig.await_state(handle, "FAILED")
    assert not seen.is_infrastructure_failure


def test_trials_run_on_several_nodes(slurm_rig: SlurmRig) -> None:
    """A node has four CPUs, so that five apps of one CPU need a second one."""
    keys = [submission_key("contract", slurm_rig.key, n, 1) for n in range(5)]
    handles = [slurm_rig.submit(key) for key in keys]
    for key, handle in zip(keys, handles, strict=True):
        slurm_rig.await_running(key, handle)
    assert len({node_of(slurm_rig, handle) for handle in handles}) > 1


def test_argument_that_torchx_would_replace_is_refused(slurm_rig: SlurmRig) -> None:
    with pytest.raises(InvalidInputError, match="app_id"):
        slurm_rig.submit(slurm_rig.key, "name ${app_id}")


def test_options_reach_the_job(slurm_rig: SlurmRig) -> None:
    slurm_rig.scheduler_args = {**slurm_rig.scheduler_args, "partition": "main", "time": "7", "comment": "mine"}
    slurm_rig.launcher = slurm_rig.new_launcher()
    with slurm_rig.full():
        handle = slurm_rig.submit(slurm_rig.key)
        job = slurm_rig.launcher.app_id(handle)
        told = slurm_rig.cluster.ask("squeue", "-h", "-j", job, "-o", "%P|%l|%k|%Z|%C|%m|%j")
    assert told == f"main|7:00|mine|{slurm_rig.folder}/jobs/{slurm_rig.key}|1|64M|{slurm_rig.key}"
