from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from torch.utils.file_baton import FileBaton

from airflow_provider_axtx.optimizer.kernel import STALE_SECONDS, remove_stale_build_lock, without_stale_build_lock


@pytest.mark.parametrize("folder", ["logei_fused_ext", "py311_cpu/logei_fused_ext"])
@pytest.mark.parametrize(("age", "stays"), [(0, True), (STALE_SECONDS - 60, True), (STALE_SECONDS + 60, False)])
def test_only_the_lock_of_a_killed_compilation_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, age: float, stays: bool
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock, other = tmp_path / folder / "lock", tmp_path / "another_ext" / "lock"
    for path in (lock, other):
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    remove_stale_build_lock()
    assert (lock.exists(), other.exists()) == (stays, True)


def test_without_a_build_folder_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "none"))
    remove_stale_build_lock()


def test_who_waits_for_a_lock_that_nobody_holds_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    lock = tmp_path / "logei_fused_ext" / "lock"
    lock.parent.mkdir()
    lock.touch()
    with without_stale_build_lock(look_seconds=0.01):
        os.utime(lock, (time.time() - STALE_SECONDS - 1,) * 2)
        FileBaton(str(lock), wait_seconds=0.01).wait()
    assert not lock.exists()
