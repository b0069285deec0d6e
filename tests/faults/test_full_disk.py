"""A disk that fills up under the store, and under the apps: clear errors, nothing half-written, and on it goes."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_axtx.core.errors import SchedulerUnavailableError, StoreUnavailableError
from airflow_provider_axtx.core.records import Observation, Proposal, ProposedTrial
from airflow_provider_axtx.launcher.local_detached.scheduler import create_scheduler
from airflow_provider_axtx.store.experiments import ExperimentStore
from tests.faults.world import EXPERIMENT, SPEC, until

_NEW_MOUNT_NAMESPACE = 0x00020000
_SIZE = 1 << 20
_MANY = [Observation(0, f"metric {number:04}", 0.5) for number in range(3000)]


def _private_disk(folder: Path) -> bool:
    """Mount a small disk that only this process sees; return whether that is allowed here."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNT_NAMESPACE) != 0:
        return False
    steps = (["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)])
    return all(subprocess.run(step, capture_output=True).returncode == 0 for step in steps)


def _on_small_disk(folder: Path, work: Callable[[Path], Any]) -> Any:
    """Do ``work`` in a child process with a small disk of its own; return its answer."""
    folder.mkdir()
    answer = folder.with_suffix(".json")
    pid = os.fork()
    if pid == 0:
        try:
            answer.write_text(json.dumps(work(folder) if _private_disk(folder) else None))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert answer.exists() and answer.read_text(), "the child failed; see its traceback above"
    said = json.loads(answer.read_text())
    if said is None:
        pytest.skip("may not mount a disk here; tests/store/test_unavailable.py limits the size of files instead")
    return said


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 512, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def _store_on_a_full_disk(folder: Path) -> dict[str, Any]:
    store = ExperimentStore(f"sqlite:///{folder / 'store.db'}", retry_seconds=1.0)
    store.create(EXPERIMENT, SPEC)
    proposed = (ProposedTrial("0_0", {"x": 0.5}, "Sobol", {"type": "RUN"}),)
    store.add_trials(EXPERIMENT, Proposal(proposed, None), task_key="t", first_slot=0, expected_version=0)
    before = store.snapshot(EXPERIMENT)
    filler = _fill(folder)
    try:
        store.complete(EXPERIMENT, 0, status="COMPLETED", observations=_MANY)
        said = ""
    except StoreUnavailableError as error:
        said = str(error)
    filler.unlink()
    unharmed = store.snapshot(EXPERIMENT) == before
    completed = store.complete(EXPERIMENT, 0, status="COMPLETED", observations=_MANY)
    return {"said": said, "unharmed": unharmed, "then": completed.status}


def test_a_store_on_a_full_disk(tmp_path: Path) -> None:
    answer = _on_small_disk(tmp_path / "disk", _store_on_a_full_disk)
    assert "free space on the database's disk" in answer["said"]
    assert (answer["unharmed"], answer["then"]) == (True, "COMPLETED")


def _apps_on_a_full_disk(folder: Path) -> dict[str, Any]:
    from torchx.specs import AppDef, Role

    scheduler = create_scheduler("torchx", local_root=str(folder / "apps"))
    starts = folder.with_name("starts")
    role = Role(name="app", image="", entrypoint="sh", args=["-c", f"echo started >> {starts}"])
    plan = scheduler.submit_dryrun(AppDef(name="once", roles=[role]), {})
    (folder / "apps").mkdir()
    filler = _fill(folder)
    try:
        scheduler.schedule(plan)
        said = ""
    except SchedulerUnavailableError as error:
        said = str(error)
    nothing = not scheduler.find("once")
    filler.unlink()
    scheduler.schedule(scheduler.submit_dryrun(AppDef(name="once", roles=[role]), {}))
    ended = until(lambda: (seen := scheduler.describe("once")) and seen.state.name == "SUCCEEDED")
    return {"said": said, "nothing": nothing, "ended": ended, "starts": starts.read_text().split()}


def test_apps_on_a_full_disk(tmp_path: Path) -> None:
    answer = _on_small_disk(tmp_path / "disk", _apps_on_a_full_disk)
    assert "free space" in answer["said"]
    assert (answer["nothing"], answer["ended"], answer["starts"]) == (True, True, ["started"])


def _flood_on_a_small_disk(folder: Path) -> dict[str, Any]:
    from torchx.specs import AppDef, Role

    scheduler = create_scheduler("torchx", local_root=str(folder / "apps"))
    done = folder.with_name("done")
    script = f"i=0; while [ $$i -lt 3000 ]; do printf '%01023d\\n' $$i; i=$$((i + 1)); done; touch {done}"
    role = Role(name="app", image="", entrypoint="sh", args=["-c", script], num_replicas=1)
    scheduler.schedule(scheduler.submit_dryrun(AppDef(name="flood", roles=[role]), {}))
    until(done.exists)
    log = scheduler.log_file("flood", "app", 0)
    kept = log.stat().st_size
    log.unlink()  # a user makes room
    ended = until(lambda: (seen := scheduler.describe("flood")) and seen.state.name == "SUCCEEDED")
    return {"kept": kept, "ended": ended, "said": scheduler.describe("flood").msg}


def test_an_app_whose_output_fills_the_disk_goes_on(tmp_path: Path) -> None:
    answer = _on_small_disk(tmp_path / "disk", _flood_on_a_small_disk)
    assert _SIZE // 2 < answer["kept"] <= _SIZE
    assert answer["ended"] is True
    assert "the log is incomplete: [Errno 28] No space left on device" in answer["said"]
