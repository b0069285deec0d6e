"""A small run of the early-stopping benchmark with real processes."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.early_stopping import EARLY_STOPPING, Experiment, Setting


@pytest.mark.filterwarnings("ignore")
def test_stopped_apps_are_gone_and_steps_are_saved(tmp_path: Path) -> None:
    setting = Setting(trials=8, parallelism=3, epochs=12)
    (tmp_path / "full").mkdir()
    (tmp_path / "early").mkdir()
    full = Experiment(tmp_path / "full", 0, None, setting).run()
    early = Experiment(tmp_path / "early", 0, EARLY_STOPPING, setting).run()
    assert (full.steps, full.stopped) == (8 * 12, 0)
    assert early.stopped >= 2
    assert early.steps < full.steps
    assert early.best == full.best
    assert (full.live_apps, early.live_apps) == (0, 0)
    # The spawner is a child of this process and stays for its next submission; the supervisors are not its children.
    spawners = psutil.Process().children()
    left = [p for p in psutil.process_iter(["cmdline"]) if any(str(tmp_path) in a for a in p.info["cmdline"] or ())]
    assert [p for p in left if p not in spawners] == []
